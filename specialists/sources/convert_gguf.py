"""A program of its own: GGUF file in, folder with bf16 safetensors, tokenizer and chat template out.

It runs in another process (started by `conversion.py`) so that torch's memory is given back, the bars and
warnings of transformers reach nobody's terminal, and a death for lack of memory fails the import only:
    python -P convert_gguf.py <file.gguf> <empty folder>
On failure the last line on stderr is the reason. Imports nothing of Polymath: `-P` leaves its path alone.
"""

import functools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf

ARCHITECTURES = ("qwen2", "qwen3")
_FILLER = re.compile(r"\[PAD\d+\]")
_QWEN_END_TOKENS = ("<|im_end|>", "<|endoftext|>")


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    # Reading the fields takes 10 s, mostly the vocabulary, and transformers reads them three times over.
    gguf.GGUFReader = functools.cache(gguf.GGUFReader)
    try:
        fields = read_fields(source)
    except Exception as error:  # the reader raises whatever it stumbles over
        sys.exit(f"it cannot be read as GGUF ({error})")
    architecture = fields["general.architecture"]
    if architecture not in ARCHITECTURES:
        sys.exit(f"its architecture is {architecture!r}, expected {' or '.join(ARCHITECTURES)}")
    convert_model(source, target)
    convert_tokenizer(source, target, fields)


def read_fields(source: Path) -> dict[str, Any]:
    """The few metadata fields that decide here."""
    reader = gguf.GGUFReader(str(source))
    names = ("general.architecture", "tokenizer.ggml.pre")
    return {name: field.contents() if (field := reader.get_field(name)) else None for name in names}


def convert_model(source: Path, target: Path) -> None:
    """Dequantize to bf16, which is what the engine computes in, and save as one file."""
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
        local_files_only=True,
    )
    model.save_pretrained(target, max_shard_size="1TB")
    # The name is whatever the GGUF's maker typed ("... AWQ" in the default base), not where it comes from.
    edit_json(target / "config.json", lambda config: config.pop("_model_name_or_path", None))


def convert_tokenizer(source: Path, target: Path, fields: dict[str, Any]) -> None:
    """Save the tokenizer as the original checkpoint has it, which GGUF does not quite carry."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name, local_files_only=True)
    tokenizer.save_pretrained(target)
    edit_json(target / "tokenizer.json", lambda content: mend_tokenizer(content, fields))
    vocab = tokenizer.get_vocab()
    # GGUF names a single end token; a chat model may also end with the other one.
    ends = [vocab[token] for token in _QWEN_END_TOKENS if token in vocab]
    edit_json(
        target / "generation_config.json",
        lambda config: config.update(eos_token_id=list(dict.fromkeys([config["eos_token_id"], *ends]))),
    )


def mend_tokenizer(content: dict[str, Any], fields: dict[str, Any]) -> None:
    if fields["tokenizer.ggml.pre"] == "qwen2":
        # GGUF has no field for the normalizer. Without it, decomposed accents (as macOS writes them) would
        # become tokens that the model was never trained on.
        content["normalizer"] = {"type": "NFC"}
    # GGUF fills the vocabulary up to the embedding's rows; the original has no tokens there.
    vocab = content["model"]["vocab"]
    content["model"]["vocab"] = {token: i for token, i in vocab.items() if not _FILLER.fullmatch(token)}


def edit_json(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
