"""A model folder that cannot be served is refused before loading, and the file is named."""

import os
import shutil
from pathlib import Path

import pytest

from specialists.base_model import BaseModelError, import_base, resolve_base


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", None, "config.json is missing"),
        ("config.json", b"{", "config.json is not valid JSON"),
        ("config.json", b"[]", "config.json is not a JSON object"),
        ("config.json", b'{"model_type": "llama"}', "model_type is 'llama', expected qwen2 or qwen3"),
        ("config.json", b'{"model_type": "qwen2", "quantization_config": {}}', "quantized checkpoints"),
        ("tokenizer.json", None, "tokenizer.json is missing"),
        ("model.safetensors", None, "model.safetensors is missing"),
        ("model.safetensors", b"x", "model.safetensors is damaged"),
        ("model.safetensors", b"\xff" * 16, "model.safetensors is damaged"),
        ("model.safetensors.index.json", b"{}", "has no weight_map"),
        (
            "model.safetensors.index.json",
            b'{"weight_map": {"a": "b.safetensors"}}',
            "b.safetensors is missing",
        ),
    ],
)
def test_unusable_folder_names_the_file(
    tiny_qwen2: Path, tmp_path: Path, file: str, content: bytes | None, message: str
):
    folder = Path(shutil.copytree(tiny_qwen2, tmp_path / "model"))
    (folder / file).unlink(missing_ok=True)
    if content is not None:
        (folder / file).write_bytes(content)
    with pytest.raises(BaseModelError) as raised:
        resolve_base(str(folder), tmp_path)
    assert str(folder) in str(raised.value)
    assert message in str(raised.value)


def test_truncated_weights_in_a_folder(tiny_qwen2: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_qwen2, tmp_path / "model"))
    os.truncate(folder / "model.safetensors", (folder / "model.safetensors").stat().st_size - 1)
    with pytest.raises(BaseModelError, match=r"model\.safetensors is damaged: \d+ bytes, expected \d+"):
        import_base(str(folder), tmp_path)
