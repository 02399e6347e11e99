"""Importing and finding models: a GGUF file made from the tiny Qwen2, folders, damage, two at once."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from specialists import base_model
from specialists.base_model import (
    BaseModelError,
    SourceError,
    import_base,
    import_encoder,
    resolve_base,
    resolve_encoder,
)
from specialists.sources import artifacts, importing
from specialists.sources.artifacts import Artifact
from specialists.sources.cache import check_folder, read_record
from specialists.sources.files import PinnedFile
from specialists.tokenizer import ChatTokenizer

from .sources.conftest import RecordedProgress, pinned
from .sources.tiny_gguf import write_gguf

pytestmark = pytest.mark.slow

IMPORT_PROGRAM = """
import sys
from pathlib import Path
from specialists.base_model import import_base

class Notices:
    def start(self, task, total): print(task)
    def move_to(self, task, completed): pass
    def finish(self, task): pass
    def notice(self, text): print(text)

print(import_base(sys.argv[1], Path(sys.argv[2]), Notices()))
assert not {"torch", "transformers"} & set(sys.modules)
"""


@pytest.fixture
def progress() -> RecordedProgress:
    return RecordedProgress()


@pytest.fixture(scope="module")
def gguf_file(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(tiny_qwen2, path)
    return path


@pytest.fixture(scope="module")
def imported(gguf_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """The home, the imported folder, and what two processes said that imported it at the same time."""
    home = tmp_path_factory.mktemp("home")
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-W", "error", "-c", IMPORT_PROGRAM, str(gguf_file), str(home)]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = []
    for process in processes:
        output, complaint = process.communicate(timeout=120)
        assert (process.returncode, complaint) == (0, "")
        said.append(output)
    return home, Path(said[0].splitlines()[-1]), said


@pytest.fixture
def copied_home(imported: tuple[Path, Path, list[str]], tmp_path: Path) -> Path:
    return Path(shutil.copytree(imported[0], tmp_path / "home"))


def test_two_imports_at_once_do_the_work_once(imported: tuple[Path, Path, list[str]]):
    home, folder, said = imported
    assert [text.splitlines()[-1] for text in said] == [str(folder)] * 2
    assert sum("importing tiny.gguf" in text for text in said) == 1
    assert sum("another process is importing" in text for text in said) <= 1
    assert sorted(path.name for path in (home / "base").iterdir()) == [folder.name]


def test_second_import_only_looks(
    imported: tuple[Path, Path, list[str]], gguf_file: Path, progress: RecordedProgress
):
    home, folder, _ = imported
    assert import_base(str(gguf_file), home, progress) == folder
    assert resolve_base(str(gguf_file), home) == folder
    assert not progress.started
    copy = gguf_file.with_name("copy.gguf")
    shutil.copy(gguf_file, copy)
    assert import_base(str(copy), home, progress) == folder  # known by its hash
    assert not progress.started


def test_imported_model_gives_the_logits_of_the_original(
    imported: tuple[Path, Path, list[str]], tiny_qwen2: Path
):
    import torch
    from transformers import AutoModelForCausalLM

    ids = torch.arange(1, 380).reshape(1, -1)
    with torch.inference_mode():
        # The import rounds to bf16; so does loading the original as bf16. From there on all is the same.
        expected = AutoModelForCausalLM.from_pretrained(tiny_qwen2, dtype=torch.bfloat16).float()(ids).logits
        actual = AutoModelForCausalLM.from_pretrained(imported[1], dtype=torch.bfloat16).float()(ids).logits
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_imported_tokenizer_is_the_original(imported: tuple[Path, Path, list[str]], tiny_qwen2: Path):
    original, copy = ChatTokenizer.from_folder(tiny_qwen2), ChatTokenizer.from_folder(imported[1])
    chat = [{"role": "user", "content": "¿Cuál es la suma de 1 + 2? 😀 a\u0301<|im_end|>"}]
    assert copy.encode_chat(chat) == original.encode_chat(chat)
    assert copy.eos_token_ids == original.eos_token_ids
    assert copy.decode([399]) == ""
    assert copy.backend.get_vocab_size() == original.backend.get_vocab_size()


def test_record_tells_source_and_files(imported: tuple[Path, Path, list[str]], gguf_file: Path):
    record = read_record(imported[1])
    assert record.source == str(gguf_file)
    assert imported[1].name == record.source_sha256[:16]
    assert {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= set(record.files)
    assert (imported[1] / "model.safetensors").stat().st_mode & 0o444 == 0o444


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
def test_truncated_file_is_named(copied_home: Path, gguf_file: Path, file: str):
    (path,) = copied_home.glob(f"base/*/{file}")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        BaseModelError, match=rf"damaged cache: {path} has \d+ bytes, expected .*pull --force"
    ):
        resolve_base(str(gguf_file), copied_home)


def test_missing_file_is_named(copied_home: Path, gguf_file: Path):
    (path,) = copied_home.glob("base/*/config.json")
    path.unlink()
    with pytest.raises(BaseModelError, match=rf"damaged cache: {path} is missing"):
        resolve_base(str(gguf_file), copied_home)


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"files": {"a": 1}}'])
def test_unreadable_record_is_named(copied_home: Path, gguf_file: Path, content: bytes):
    (path,) = copied_home.glob("base/*/polymath.json")
    path.write_bytes(content)
    with pytest.raises(BaseModelError, match=rf"damaged cache: {path}"):
        resolve_base(str(gguf_file), copied_home)


def test_damage_is_repaired_by_importing(
    copied_home: Path,
    gguf_file: Path,
    imported: tuple[Path, Path, list[str]],
    progress: RecordedProgress,
    monkeypatch: pytest.MonkeyPatch,
):
    def copy_instead(_: Path, target: Path, progress: RecordedProgress) -> None:
        shutil.copytree(imported[1], target, dirs_exist_ok=True)
        (target / "polymath.json").unlink()

    monkeypatch.setattr(importing, "convert_gguf", copy_instead)  # converting again would show nothing new
    (path,) = copied_home.glob("base/*/config.json")
    path.unlink()
    assert check_folder(import_base(str(gguf_file), copied_home, progress)).source == str(gguf_file)
    assert path.is_file()
    assert len(progress.notices) == 1
    assert str(path) in progress.notices[0]


def test_failed_import_leaves_what_was_there(
    copied_home: Path, gguf_file: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(_: Path, target: Path, progress: RecordedProgress) -> None:
        (target / "half").write_text("half")
        raise BaseModelError("no")

    monkeypatch.setattr(importing, "convert_gguf", fail)
    with pytest.raises(BaseModelError, match="no"):
        import_base(str(gguf_file), copied_home, force=True)
    folder = resolve_base(str(gguf_file), copied_home)
    assert [path.name for path in (copied_home / "base").iterdir()] == [folder.name]


def test_file_that_is_no_gguf(tmp_path: Path):
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(20))
    with pytest.raises(BaseModelError, match=rf"cannot import {path}: it cannot be read as GGUF") as raised:
        import_base(str(path), tmp_path / "home")
    assert "\n" not in str(raised.value)
    assert not any((tmp_path / "home" / "base").iterdir())


def test_local_folder_is_used_in_place(
    tiny_qwen2: Path, tiny_qwen3: Path, tiny_encoder: Path, tmp_path: Path
):
    for folder in (tiny_qwen2, tiny_qwen3):
        assert import_base(str(folder), tmp_path) == folder == resolve_base(str(folder), tmp_path)
    assert import_encoder(str(tiny_encoder), tmp_path) == tiny_encoder
    assert resolve_encoder(str(tiny_encoder), tmp_path) == tiny_encoder
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("source", ["nonsense", "./missing", "/missing/folder", "a/b/c", ""])
def test_source_that_is_nothing(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(BaseModelError):
        import_base(source, tmp_path)


def test_missing_gguf_and_gguf_as_encoder(tmp_path: Path):
    with pytest.raises(BaseModelError, match="no such file"):
        import_base("missing/model.gguf", tmp_path)
    with pytest.raises(BaseModelError, match="is nothing that exists"):
        import_encoder("missing/model.gguf", tmp_path)


def test_what_is_not_imported_asks_for_pull(tmp_path: Path):
    for source in ("default", "teacher", "Qwen/Qwen2.5-0.5B-Instruct"):
        with pytest.raises(BaseModelError, match="`polymath pull` fetches it"):
            resolve_base(source, tmp_path)
    with pytest.raises(BaseModelError, match="the encoder 'default' is not in"):
        resolve_encoder("default", tmp_path)


class FolderMirror:
    """Hands out the files of a folder, as a mirror of the encoder does."""

    name = "folder"

    def __init__(self, source: Path) -> None:
        self.source = source

    def fetch(self, files: tuple[PinnedFile, ...], folder: Path, progress: RecordedProgress) -> None:
        for file in files:
            shutil.copy(self.source / file.path, folder / file.path)


def test_encoder_is_taken_over_file_by_file(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    names = ("model.safetensors", "config.json", "tokenizer.json", "vocab.txt")
    files = tuple(pinned((tiny_encoder / name).read_bytes(), name) for name in names)
    tiny = Artifact(name="tiny", files=files, mirrors=(FolderMirror(tiny_encoder),), imported_size=0)  # type: ignore[arg-type]
    monkeypatch.setitem(base_model._ENCODER.artifacts, "default", tiny)
    folder = import_encoder("default", tmp_path)
    assert folder == tmp_path / "encoder" / files[0].sha256[:16] == resolve_encoder("default", tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*names, "polymath.json"])
    assert not (tmp_path / "downloads").exists()


def test_hub_model_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match="cannot fetch owner/model from the Hugging Face hub") as raised:
        import_base("owner/model", tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "downloads").exists()


@pytest.mark.weights
def test_real_cache_is_whole(base_folder: Path, encoder_folder: Path):
    assert read_record(base_folder).source_sha256 == artifacts.DEFAULT_BASE.sha256
    assert read_record(encoder_folder).source_sha256 == artifacts.DEFAULT_ENCODER.sha256
    config = json.loads((base_folder / "config.json").read_text())
    assert (config["model_type"], config["dtype"], config["tie_word_embeddings"]) == (
        "qwen2",
        "bfloat16",
        False,
    )
    generation = json.loads((base_folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [151645, 151643]


@pytest.mark.weights
def test_real_base_speaks(base_folder: Path):
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = ChatTokenizer.from_folder(base_folder)
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.bfloat16)
    prompt = tokenizer.encode_chat([{"role": "user", "content": "What is the capital of France? One word."}])
    with torch.inference_mode():
        output = model.generate(torch.tensor([prompt]), max_new_tokens=8, do_sample=False)
    assert "Paris" in tokenizer.decode(output[0, len(prompt) :].tolist())
