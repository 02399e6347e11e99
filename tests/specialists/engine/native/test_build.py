from pathlib import Path

import pytest

from specialists.engine.native.build import BuildError, build_kernels
from tests.specialists.engine.compiled import kernels_or_skip


@pytest.mark.slow
def test_compiles_once(tmp_path: Path):
    kernels_or_skip()
    first = build_kernels(tmp_path)
    made = first.stat().st_mtime_ns
    assert build_kernels(tmp_path) == first
    assert first.stat().st_mtime_ns == made
    assert list(tmp_path.iterdir()) == [first], "the scratch folder of the compiler is gone"


@pytest.mark.slow
def test_another_processor_is_another_file(tmp_path: Path):
    kernels_or_skip()
    assert build_kernels(tmp_path) != build_kernels(tmp_path, "x86-64-v3")


def test_no_compiler_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match=r"no C\+\+ compiler was found \(looked for g\+\+"):
        build_kernels(tmp_path)


def test_a_failing_compiler_leaves_nothing_behind(tmp_path: Path):
    kernels_or_skip()
    with pytest.raises(BuildError, match=r"failed: .+ native"):
        build_kernels(tmp_path, "no-such-processor")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(BuildError, match="file"):
        build_kernels(tmp_path / "file" / "kernels")
