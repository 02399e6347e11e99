"""From settings to services, on tiny real parts."""

import shutil
import threading
from pathlib import Path

import pytest

from router.decision import RoutingReason
from server.errors import is_for_people
from server.loading import base_model_id, load_services, one_core_thread
from server.settings import CATALOG, Settings, SettingsError
from tests.server.tiny import tiny_settings, write_adapter

MESSAGES = [{"role": "user", "content": "what is the sum"}]


@pytest.fixture
def settings(tmp_path: Path, tiny_qwen2: Path) -> Settings:
    return tiny_settings(tmp_path, tiny_qwen2, router_threshold=0.0)


async def test_everything_is_loaded(settings: Settings):
    services = load_services(settings)
    try:
        assert services.registry.names() == ["code", "loner", "math"]
        assert services.refused == {}
        assert services.base_id == "qwen2"
        route = await services.dispatcher.resolve("auto", MESSAGES)
        assert route.decision.reason in (RoutingReason.CONFIDENT, RoutingReason.NO_SPECIALIST)
    finally:
        services.close()


def test_a_damaged_specialist_is_left_out_and_the_others_serve(settings: Settings, tmp_path: Path):
    (settings.catalog / "math" / "adapter_model.safetensors").write_bytes(b"damaged")
    (settings.catalog / "code" / "manifest.json").write_text('{"name": "code", "intend": "code"}')
    (settings.catalog / ".hidden").mkdir()
    services = load_services(settings.model_copy(update={"adapter_folder": tmp_path / "absent"}))
    services.close()
    assert services.registry.names() == ["loner"]
    assert set(services.refused) == {"math", "code", "absent"}
    assert "adapter_model.safetensors" in services.refused["math"]
    assert "intend" in services.refused["code"]
    assert str(tmp_path / "absent") in services.refused["absent"]


def test_one_more_folder(settings: Settings, tmp_path: Path, tiny_qwen2: Path):
    more = tmp_path / "more"
    write_adapter(more / "poetry", tiny_qwen2, intent="poetry", seed=9)
    write_adapter(more / "math", tiny_qwen2, intent="math", seed=9)
    services = load_services(settings.model_copy(update={"adapter_folder": more}))
    services.close()
    assert services.registry.names() == ["code", "loner", "math", "poetry"]
    assert "already loaded" in services.refused["math"]


def test_what_ends_a_start_is_a_sentence_for_people(settings: Settings, tmp_path: Path):
    damaged = tmp_path / "damaged"
    shutil.copytree(Path(settings.base), damaged)
    (damaged / "config.json").write_text("{}")
    for changes in (
        {"base": str(tmp_path / "absent")},
        {"base": str(damaged)},
        {"encoder": str(tmp_path / "absent")},
        {"router_weights": tmp_path / "absent"},
        {"num_blocks": 1},
    ):
        with pytest.raises(Exception) as caught:
            load_services(settings.model_copy(update=changes))
        assert is_for_people(caught.value), (changes, caught.value)
        assert "\n" not in str(caught.value)


def test_cuda_where_there_is_none(settings: Settings, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SettingsError, match="no CUDA device"):
        load_services(settings.model_copy(update={"device": "cuda"}))


@pytest.mark.parametrize("count", [1, 3])
def test_these_threads_compute_on_one_core_and_the_others_keep_theirs(count: int):
    import torch

    def look() -> int:
        barrier.wait(30)
        return torch.get_num_threads()

    barrier = threading.Barrier(count)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    seen: list[int] = []
    try:
        with one_core_thread("test", count) as executor:
            assert [done.result() for done in [executor.submit(look) for _ in range(count)]] == [1] * count
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (torch.get_num_threads(), seen) == (2, [2])
    finally:
        torch.set_num_threads(before)


def test_a_base_is_never_called_by_its_path(tmp_path: Path):
    assert base_model_id("default", tmp_path) == "Qwen2.5-Coder-0.5B-Instruct"
    assert base_model_id("Qwen/Qwen3-0.6B", tmp_path) == "Qwen/Qwen3-0.6B"
    assert base_model_id(str(tmp_path), tmp_path) == tmp_path.name
    dotted = tmp_path / "Qwen2.5-0.5B-Instruct"
    dotted.mkdir()
    assert base_model_id(str(dotted), dotted) == "Qwen2.5-0.5B-Instruct"
    (tmp_path / "qwen2.5.gguf").write_bytes(b"")
    assert base_model_id(str(tmp_path / "qwen2.5.gguf"), tmp_path) == "qwen2.5"


def test_the_catalog_is_in_the_package():
    assert CATALOG.is_dir()
