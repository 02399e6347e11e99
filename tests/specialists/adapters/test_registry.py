"""Names, generations, and the count of requests in flight."""

from pathlib import Path

import pytest

from specialists.adapters.errors import AdapterError
from specialists.adapters.registry import AdapterRegistry
from tests.specialists.conftest import MakeAdapter


@pytest.fixture(scope="module")
def folder(tiny_qwen2: Path, make_adapter: MakeAdapter) -> Path:
    return make_adapter(tiny_qwen2, "poet", rank=2)


def test_loads_under_the_folder_name_without_a_manifest(tiny_registry: AdapterRegistry, folder: Path):
    adapter = tiny_registry.load(folder)
    assert (adapter.name, adapter.generation, adapter.rank) == ("poet", 1, 2)
    assert tiny_registry.names() == ["poet"]
    assert tiny_registry.get("poet") is adapter


def test_manifest_names_the_adapter(
    tiny_registry: AdapterRegistry, tiny_qwen2: Path, make_adapter: MakeAdapter
):
    folder = make_adapter(tiny_qwen2, "x", rank=2)
    (folder / "manifest.json").write_text('{"name": "verse", "intent": "poetry"}')
    assert tiny_registry.load(folder).manifest.intent == "poetry"
    assert tiny_registry.names() == ["verse"]


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ('{"name": "base"}', "reserved"),
        ('{"name": "auto"}', "reserved"),
        ('{"name": "../up"}', "name"),
        ('{"name": "x", "intnt": "math"}', "intnt"),
        ("{", "manifest.json"),
    ],
)
def test_refuses_a_bad_manifest(
    tiny_registry: AdapterRegistry, tiny_qwen2: Path, make_adapter: MakeAdapter, manifest: str, message: str
):
    folder = make_adapter(tiny_qwen2, "x", rank=2)
    (folder / "manifest.json").write_text(manifest)
    with pytest.raises(AdapterError, match=message):
        tiny_registry.load(folder)
    assert tiny_registry.names() == []


def test_one_name_is_loaded_once(tiny_registry: AdapterRegistry, folder: Path):
    tiny_registry.load(folder)
    with pytest.raises(AdapterError, match="'poet' is already loaded"):
        tiny_registry.load(folder)


def test_counts_requests_in_flight(tiny_registry: AdapterRegistry, folder: Path):
    tiny_registry.load(folder)
    first, second = tiny_registry.acquire("poet"), tiny_registry.acquire("poet")
    assert tiny_registry.num_in_flight("poet") == 2
    tiny_registry.release(first)
    tiny_registry.release(second)
    assert tiny_registry.num_in_flight("poet") == 0
    with pytest.raises(AssertionError, match="once too often"):
        tiny_registry.release(first)


def test_unknown_name_is_a_key_error(tiny_registry: AdapterRegistry):
    with pytest.raises(KeyError):
        tiny_registry.acquire("nobody")
