"""A manifest is read whole or refused with the field, and nothing is waited for."""

import os
from pathlib import Path

import pytest

from specialists.manifest import MANIFEST_FILE, MAX_MANIFEST_BYTES, ManifestError, read_manifest


def test_a_folder_without_one_is_called_by_its_own_name(tmp_path: Path):
    (tmp_path / "poet").mkdir()
    assert read_manifest(tmp_path / "poet").name == "poet"


def test_names_every_field_at_fault(tmp_path: Path):
    (tmp_path / MANIFEST_FILE).write_text('{"name": "No", "intnt": 1, "examples": 2}')
    with pytest.raises(ManifestError, match="intnt") as refusal:
        read_manifest(tmp_path)
    assert set(refusal.value.fields) == {"name", "intnt", "examples"}


def test_many_faults_make_no_long_message(tmp_path: Path):
    (tmp_path / MANIFEST_FILE).write_text("{" + ", ".join(f'"x{i}": 1' for i in range(9999)) + "}")
    with pytest.raises(ManifestError) as refusal:
        read_manifest(tmp_path)
    assert len(str(refusal.value)) < 1000


def test_what_is_no_file_is_not_opened(tmp_path: Path):
    os.mkfifo(tmp_path / MANIFEST_FILE)
    with pytest.raises(ManifestError, match="is no file"):
        read_manifest(tmp_path)
    (tmp_path / MANIFEST_FILE).unlink()
    (tmp_path / MANIFEST_FILE).write_bytes(b" " * (MAX_MANIFEST_BYTES + 1))
    with pytest.raises(ManifestError, match=f"more than {MAX_MANIFEST_BYTES} bytes"):
        read_manifest(tmp_path)
