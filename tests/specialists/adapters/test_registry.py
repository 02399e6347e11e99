"""Names, generations, what happens to requests in flight, and the count of them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from specialists.adapters.errors import AdapterError, ErrorCode
from specialists.adapters.limits import AdapterLimits
from specialists.adapters.loaded import AdapterState, LoadedAdapter, NotResidentError
from specialists.adapters.registry import AdapterRegistry
from specialists.engine.qwen_config import QwenConfig, read_qwen_config
from specialists.manifest import SpecialistManifest
from tests.specialists.adapters.tiny import write_adapter

BASE_SHA256 = "ab" * 32


@pytest.fixture(scope="module")
def base(tiny_qwen2: Path) -> QwenConfig:
    return read_qwen_config(tiny_qwen2)


@pytest.fixture(scope="module")
def folders(base: QwenConfig, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four adapters of the same size under the same name."""
    root = tmp_path_factory.mktemp("adapters")
    return [write_adapter(root / str(seed) / "poet", base, seed=seed) for seed in range(4)]


@pytest.fixture
def make_registry(base: QwenConfig) -> Callable[..., AdapterRegistry]:
    def make(**limits: Any) -> AdapterRegistry:
        return AdapterRegistry(
            base, dtype=torch.float32, base_sha256=BASE_SHA256, limits=AdapterLimits(**limits)
        )

    return make


@pytest.fixture
def registry(make_registry: Callable[..., AdapterRegistry]) -> AdapterRegistry:
    return make_registry()


@pytest.fixture
def holder(registry: AdapterRegistry) -> "Holder":
    holder = Holder()
    registry.attach(holder)
    return holder


class Holder:
    """Hears what an engine would be told."""

    def __init__(self) -> None:
        self.active: set[int] = set()
        self.vacated: list[int] = []
        self.forgotten: list[int] = []

    def active_adapters(self) -> set[int]:
        return self.active

    def vacate(self, generation: int) -> None:
        self.vacated.append(generation)

    def forget(self, generation: int) -> None:
        self.forgotten.append(generation)


def named(name: str, **fields: Any) -> SpecialistManifest:
    return SpecialistManifest(name=name, **fields)


def refusal_of(action: Callable[[], object]) -> AdapterError:
    with pytest.raises(AdapterError) as refusal:
        action()
    return refusal.value


def test_loads_under_the_folder_name_without_a_manifest(registry: AdapterRegistry, folders: list[Path]):
    adapter = registry.load(folders[0])
    assert (adapter.name, adapter.generation, adapter.rank) == ("poet", 1, 2)
    assert adapter.targets == ("q_proj", "down_proj")
    assert len(adapter.sha256) == 64
    assert registry.names() == ["poet"]
    assert registry.get("poet") is adapter
    assert registry.num_resident_bytes == adapter.num_bytes > 0


def test_manifest_names_the_adapter(registry: AdapterRegistry, base: QwenConfig, tmp_path: Path):
    folder = write_adapter(tmp_path / "x", base, manifest={"name": "verse", "intent": "poetry"})
    assert registry.load(folder).manifest.intent == "poetry"
    assert registry.load(folder, manifest=named("other")).name == "other"
    assert registry.names() == ["other", "verse"]


@pytest.mark.parametrize(
    ("manifest", "code", "message"),
    [
        ('{"name": "base"}', "name_reserved", "reserved"),
        ('{"name": "auto"}', "name_reserved", "reserved"),
        ('{"name": "../up"}', "name_invalid", "name"),
        ('{"name": "Upper"}', "name_invalid", "name"),
        ('{"name": "x\\n"}', "name_invalid", "name"),
        ('{"intent": "math"}', "name_invalid", "name"),
        ('{"name": "x", "intnt": "math"}', "manifest_invalid", "intnt"),
        ('{"name": "x", "scores": {"a": 1e999}}', "manifest_invalid", "scores"),
        ("{", "manifest_invalid", "manifest.json"),
        ("[" * 100_000, "manifest_invalid", "manifest.json"),
        ('{"name": "x"}' + " " * 2**20, "too_large", "manifest.json"),
    ],
)
def test_refuses_a_bad_manifest(
    registry: AdapterRegistry, base: QwenConfig, tmp_path: Path, manifest: str, code: ErrorCode, message: str
):
    folder = write_adapter(tmp_path / "x", base)
    (folder / "manifest.json").write_text(manifest)
    error = refusal_of(lambda: registry.load(folder))
    assert error.code == code
    assert message in str(error) and len(str(error)) < 1000
    assert registry.names() == []


def test_a_folder_whose_name_is_no_name_is_refused(
    registry: AdapterRegistry, base: QwenConfig, tmp_path: Path
):
    folder = write_adapter(tmp_path / "No Name", base)
    assert refusal_of(lambda: registry.load(folder)).code == "name_invalid"


def test_the_base_it_was_trained_on_must_be_this_one(registry: AdapterRegistry, folders: list[Path]):
    other = named("x", base_sha256="cd" * 32)
    error = refusal_of(lambda: registry.load(folders[0], manifest=other))
    assert error.code == "base_mismatch"
    assert "trained on the base cdcdcdcdcdcdcdcd, this server's base is abababababababab" in str(error)
    assert registry.load(folders[0], manifest=named("y", base_sha256=BASE_SHA256)).name == "y"
    assert registry.load(folders[0], manifest=other, allow_base_mismatch=True).name == "x"


def test_one_name_is_loaded_once(registry: AdapterRegistry, folders: list[Path]):
    registry.load(folders[0])
    error = refusal_of(lambda: registry.load(folders[1]))
    assert error.code == "name_taken"
    assert "'poet' is already loaded (generation 1)" in str(error)


def test_replacing_makes_a_generation_and_the_old_one_drains(
    registry: AdapterRegistry, folders: list[Path], holder: Holder
):
    old = registry.load(folders[0])
    assert registry.acquire("poet") is old
    new = registry.load(folders[1], replace=True, expected_generation=old.generation)
    assert new.generation > old.generation and new.sha256 != old.sha256
    assert registry.acquire("poet") is new
    assert [(s.generation, s.draining, s.in_flight) for s in registry.statuses()] == [
        (new.generation, False, 1),
        (old.generation, True, 1),
    ]
    assert old.is_resident and old.weights is not None  # its request still runs
    assert not registry.wait_idle(old, 0)
    registry.release(old)
    assert registry.wait_idle(old, 0)
    assert not old.is_resident and holder.forgotten == [old.generation]
    assert [status.generation for status in registry.statuses()] == [new.generation]
    assert registry.num_resident_bytes == new.num_bytes


def test_an_idle_one_that_is_replaced_goes_at_once(
    registry: AdapterRegistry, folders: list[Path], holder: Holder
):
    old = registry.load(folders[0])
    registry.load(folders[1], replace=True)
    assert not old.is_resident and holder.forgotten == [old.generation]
    with pytest.raises(NotResidentError, match="generation 1"):
        old.in_use()


@pytest.mark.parametrize(
    ("loaded", "expected", "message"),
    [
        (True, 7, "stands for generation 1, expected generation 7"),
        (True, 0, "stands for generation 1, expected generation 0"),
        (False, 1, "stands for nothing, expected generation 1"),
    ],
)
def test_another_generation_than_expected_changes_nothing(
    registry: AdapterRegistry, folders: list[Path], loaded: bool, expected: int, message: str
):
    if loaded:
        registry.load(folders[0])
    error = refusal_of(lambda: registry.load(folders[1], replace=True, expected_generation=expected))
    assert error.code == "generation_mismatch" and message in str(error)
    assert [status.generation for status in registry.statuses()] == ([1] if loaded else [])


def test_expecting_nothing_loads_where_there_is_nothing(registry: AdapterRegistry, folders: list[Path]):
    assert registry.load(folders[0], expected_generation=0).name == "poet"


def test_a_failed_replacement_leaves_the_old_one(
    registry: AdapterRegistry, folders: list[Path], base: QwenConfig, tmp_path: Path, holder: Holder
):
    old = registry.load(folders[0])
    damaged = write_adapter(tmp_path / "poet", base)
    (damaged / "adapter_model.safetensors").write_bytes(b"damaged")
    assert refusal_of(lambda: registry.load(damaged, replace=True)).code == "header_invalid"

    def refuse(adapter: LoadedAdapter) -> None:
        raise AdapterError("no", code="no_effect")

    assert refusal_of(lambda: registry.load(folders[1], replace=True, trial=refuse)).code == "no_effect"
    assert registry.get("poet") is old and old.is_resident
    assert old.generation not in holder.forgotten and len(holder.forgotten) == 1
    assert registry.num_resident_bytes == old.num_bytes


def test_nobody_sees_an_adapter_before_its_trial(registry: AdapterRegistry, folders: list[Path]):
    old = registry.load(folders[0])
    seen: list[LoadedAdapter] = []

    def look(adapter: LoadedAdapter) -> None:
        assert registry.get("poet") is old
        assert adapter.weights is not None
        seen.append(adapter)

    assert registry.load(folders[1], replace=True, trial=look) is seen[0]
    assert registry.get("poet") is seen[0]


def test_a_name_taken_during_the_trial_is_a_refusal(registry: AdapterRegistry, folders: list[Path]):
    winner: list[LoadedAdapter] = []

    def overtaken(adapter: LoadedAdapter) -> None:
        winner.append(registry.load(folders[1]))

    assert refusal_of(lambda: registry.load(folders[0], trial=overtaken)).code == "name_taken"
    assert registry.get("poet") is winner[0]
    current = winner[0].generation

    def replaced(adapter: LoadedAdapter) -> None:
        registry.load(folders[2], replace=True)

    error = refusal_of(
        lambda: registry.load(folders[0], replace=True, expected_generation=current, trial=replaced)
    )
    assert error.code == "generation_mismatch"
    registry.check_integrity()


def test_of_several_loads_at_the_same_time_one_wins(registry: AdapterRegistry, folders: list[Path]):
    barrier = threading.Barrier(4)

    def load(folder: Path) -> object:
        try:
            return registry.load(folder, trial=lambda _: barrier.wait(30) and None)
        except AdapterError as error:
            return error.code

    with ThreadPoolExecutor(4) as threads:
        outcomes = list(threads.map(load, folders))
    assert outcomes.count("name_taken") == 3
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, LoadedAdapter)]
    assert registry.get("poet") is winner
    assert registry.num_resident_bytes == winner.num_bytes
    registry.check_integrity()


def test_unloading_takes_the_name_at_once_and_waits_for_nobody(
    registry: AdapterRegistry, folders: list[Path], holder: Holder
):
    adapter = registry.load(folders[0])
    registry.acquire("poet")
    assert refusal_of(lambda: registry.unload("poet", expected_generation=9)).code == "generation_mismatch"
    assert registry.unload("poet", expected_generation=adapter.generation) is adapter
    for twice in (registry.unload, registry.acquire, registry.get, registry.status):
        with pytest.raises(KeyError):
            twice("poet")
    assert registry.names() == [] and adapter.is_resident
    assert not registry.wait_idle(adapter, 0.01)
    again = registry.load(folders[0])
    assert again.generation != adapter.generation and again.sha256 == adapter.sha256
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(registry.wait_idle, adapter, 30)
        registry.release(adapter)
        assert waiting.result()
    assert not adapter.is_resident and holder.forgotten == [adapter.generation]
    registry.check_integrity()


def test_counts_requests_in_flight(registry: AdapterRegistry, folders: list[Path]):
    registry.load(folders[0])
    assert registry.status("poet").last_used is None
    first, second = registry.acquire("poet"), registry.acquire("poet")
    assert registry.num_in_flight("poet") == 2
    registry.release(first)
    registry.release(second)
    assert registry.num_in_flight("poet") == 0
    assert registry.status("poet").last_used is not None
    with pytest.raises(AssertionError, match="once too often"):
        registry.release(first)
    registry.unload("poet")
    with pytest.raises(AssertionError, match="once too often"):
        registry.release(first)


def test_unknown_name_is_a_key_error(registry: AdapterRegistry):
    for unknown in (registry.acquire, registry.get, registry.unload, registry.status):
        with pytest.raises(KeyError):
            unknown("nobody")
    with pytest.raises(KeyError):
        registry.set_pinned("nobody", True)
    with pytest.raises(KeyError):
        registry.set_routable("nobody", True)


def test_only_so_many_names(make_registry: Callable[..., AdapterRegistry], folders: list[Path]):
    registry = make_registry(max_registered=1)
    registry.load(folders[0])
    assert refusal_of(lambda: registry.load(folders[1], manifest=named("other"))).code == "too_many"
    assert registry.load(folders[1], replace=True).generation == 2


def test_routing_may_be_forbidden_and_a_replacement_keeps_it(registry: AdapterRegistry, folders: list[Path]):
    registry.load(folders[0], routable=False)
    registry.load(folders[0], manifest=named("other"))
    assert registry.routable_names() == ["other"]
    registry.load(folders[1], replace=True)
    assert registry.routable_names() == ["other"]
    assert registry.set_routable("poet", True).routable
    assert registry.routable_names() == ["other", "poet"]
    error = refusal_of(lambda: registry.set_routable("poet", False, expected_generation=1))
    assert error.code == "generation_mismatch"


def test_status_says_how_near_it_is(
    registry: AdapterRegistry, folders: list[Path], holder: Holder, make_registry: Any
):
    adapter = registry.load(folders[0], pinned=True)
    status = registry.status("poet")
    assert (status.state, status.pinned, status.routable) == (AdapterState.RESIDENT, True, True)
    assert (status.sha256, status.rank, status.num_bytes) == (adapter.sha256, 2, adapter.num_bytes)
    holder.active.add(adapter.generation)
    assert registry.status("poet").state is AdapterState.ACTIVE
    small = make_registry(max_resident=1)
    small.load(folders[0])
    small.load(folders[1], manifest=named("other"))
    assert [status.state for status in small.statuses()] == [AdapterState.RESIDENT, AdapterState.REGISTERED]


@pytest.mark.parametrize(
    "wrong", [{"max_resident": 0}, {"max_registered": 0}, {"max_resident_bytes": -1}, {"room_seconds": -1.0}]
)
def test_limits_that_cannot_work_are_named(wrong: dict[str, Any]):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        AdapterLimits(**wrong)
