"""What every test may use: tiny random models to run hermetically, and the real weights of the cache.

The tiny models are saved as a Hub download would be (safetensors, tokenizer.json, chat template), so that
the same loading code serves them. Seeds are fixed; the initial weights are large enough for greedy text to
vary. torch and transformers are imported where a fixture needs them, so that bookkeeping tests start at once.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

# A busy machine must not fail a test: hypothesis may take its time.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_TEMPLATE = """\
{%- if messages[0]['role'] != 'system' %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
QWEN_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TINY_VOCAB_SIZE = 400  # larger than the tokenizer, as in the real Qwens: some ids have no token
TINY_CONTEXT = 512
CORPUS = [
    "system user assistant You are a helpful assistant.",
    "What is the sum of twelve and thirty? The answer is 42.",
    "def add(a, b):\n    return a + b\n\nprint(add(1, 2))\n",
    "¿Cuál es la capital de España? La capital es Madrid.",
    "The price of the stock rose by 3% and the bond fell.",
    "If it rains, people open an umbrella because they want to stay dry.",
]


@pytest.fixture(scope="session")
def polymath_home() -> Path:
    """The cache with the real weights: POLYMATH_HOME, else the user's cache directory."""
    user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("POLYMATH_HOME") or user_cache / "polymath")


@pytest.fixture(scope="session")
def base_folder(polymath_home: Path) -> Path:
    """The real default base, imported. Its absence is a failure: a skipped test would look green."""
    from specialists.base_model import BaseModelError, resolve_base

    try:
        return resolve_base("default", polymath_home)
    except BaseModelError as error:
        pytest.fail(f"this test needs the real base model; run `polymath pull` first ({error})")


@pytest.fixture(scope="session")
def encoder_folder(polymath_home: Path) -> Path:
    """The real encoder of the delegator, imported."""
    from specialists.base_model import BaseModelError, resolve_encoder

    try:
        return resolve_encoder("default", polymath_home)
    except BaseModelError as error:
        pytest.fail(f"this test needs the real encoder; run `polymath pull` first ({error})")


@pytest.fixture(scope="session")
def tiny_qwen2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 with untied embeddings, as the default base has them. Float32."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(**_qwen_sizes(), tie_word_embeddings=False)
    return _save_qwen(Qwen2ForCausalLM, config, tmp_path_factory.mktemp("tiny") / "qwen2")


@pytest.fixture(scope="session")
def tiny_qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen3 with tied embeddings, q/k norms, head_dim 32 (not hidden / heads). Float32."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(**_qwen_sizes(), head_dim=32, tie_word_embeddings=True)
    return _save_qwen(Qwen3ForCausalLM, config, tmp_path_factory.mktemp("tiny") / "qwen3")


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT with a WordPiece tokenizer, in the files of all-MiniLM-L6-v2. Float32."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny") / "encoder"
    folder.mkdir()
    tokenizer = _wordpiece_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    vocab = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocab), encoding="utf-8")
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": 128},
    )
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=128,
        pad_token_id=0,
    )
    _save_random(BertModel, config, folder)
    return folder


def _qwen_sizes() -> dict[str, object]:
    return {
        "vocab_size": TINY_VOCAB_SIZE,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": TINY_CONTEXT,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    }


def _save_qwen(model_class: type["PreTrainedModel"], config: "PretrainedConfig", folder: Path) -> Path:
    folder.mkdir()
    tokenizer = _byte_bpe_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    end, turn_end = tokenizer.token_to_id("<|endoftext|>"), tokenizer.token_to_id("<|im_end|>")
    config.bos_token_id, config.eos_token_id, config.pad_token_id = end, turn_end, end
    _save_random(model_class, config, folder)
    _write_json(folder / "generation_config.json", {"eos_token_id": [turn_end, end], "pad_token_id": end})
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": TINY_CONTEXT,
        },
    )
    (folder / "chat_template.jinja").write_text(QWEN_TEMPLATE, encoding="utf-8")
    return folder


def _save_random(model_class: type["PreTrainedModel"], config: "PretrainedConfig", folder: Path) -> None:
    import torch

    model = model_class(config)
    generator = torch.Generator().manual_seed(20)
    for name, parameter in model.named_parameters():
        # Biases and norms are random too: at their usual 0 and 1 a mistake with them would not show.
        center, spread = (1.0, 0.1) if "norm" in name.lower() and name.endswith("weight") else (0.0, 0.15)
        parameter.data.normal_(center, spread, generator=generator)
    model.save_pretrained(folder)


def _byte_bpe_tokenizer() -> Tokenizer:
    """A tokenizer of Qwen's kind (byte-level, NFC, the same split), trained on a few lines."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=380, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens(QWEN_SPECIALS)
    return tokenizer


def _wordpiece_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    return tokenizer


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
