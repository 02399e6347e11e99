"""Only what lies under a root is found, wherever links lead."""

from pathlib import Path

import pytest

from specialists.adapters.containment import resolve_under
from specialists.adapters.errors import AdapterError, ErrorCode


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "poet").mkdir(parents=True)
    (tmp_path / "root-beside" / "spy").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "root" / "file").touch()
    (tmp_path / "root" / "leak").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "alias").symlink_to("poet")
    (tmp_path / "root" / "loop").symlink_to("loop")
    return tmp_path / "root"


@pytest.mark.parametrize(
    "path", ["poet", "./poet", "poet/../poet", "alias", "leak/../root/poet", "{root}/poet"]
)
def test_finds_what_is_inside(root: Path, path: str):
    assert resolve_under(path.format(root=root), [root]) == root / "poet"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("..", "outside_roots"),
        ("../outside", "outside_roots"),
        ("../nowhere", "outside_roots"),
        ("poet/../../outside", "outside_roots"),
        ("leak", "outside_roots"),
        ("/etc", "outside_roots"),
        ("{root}-beside/spy", "outside_roots"),
        ("", "outside_roots"),
        (".", "outside_roots"),
        ("a\0b", "outside_roots"),
        ("x" * 5000, "outside_roots"),
        ("loop", "outside_roots"),
        ("nobody", "folder_missing"),
        ("file", "folder_missing"),
    ],
)
def test_refuses_the_rest(root: Path, path: str, code: ErrorCode):
    with pytest.raises(AdapterError) as refusal:
        resolve_under(path.format(root=root), [root])
    assert refusal.value.code == code


def test_searches_the_roots_in_turn(root: Path, tmp_path: Path):
    roots = [tmp_path / "gone", root, tmp_path / "root-beside"]
    assert resolve_under("spy", roots) == tmp_path / "root-beside" / "spy"
    (tmp_path / "linked").symlink_to(root)
    assert resolve_under("poet", [tmp_path / "linked"]) == root / "poet"
    with pytest.raises(AdapterError, match="is not inside one of"):
        resolve_under("poet", [])
