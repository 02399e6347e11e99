"""Adapters leave memory and come back: limits, pins, several that wait for one read, and files that changed meanwhile."""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from specialists.adapters.checkpoint import LoraWeights
from specialists.adapters.errors import AdapterError
from specialists.adapters.limits import AdapterLimits
from specialists.adapters.loaded import AdapterState
from specialists.adapters.registry import AdapterRegistry
from specialists.engine.qwen_config import QwenConfig, read_qwen_config
from specialists.manifest import SpecialistManifest
from tests.specialists.adapters.tiny import write_adapter

NAMES = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def base(tiny_qwen2: Path) -> QwenConfig:
    return read_qwen_config(tiny_qwen2)


@pytest.fixture
def root(base: QwenConfig, tmp_path: Path) -> Path:
    for seed, name in enumerate(NAMES):
        write_adapter(tmp_path / name, base, seed=seed)
    return tmp_path


class Preparing:
    """Counts, and can hold up, what is brought into memory."""

    def __init__(self) -> None:
        self.num_calls = 0
        self.may_go = threading.Event()
        self.may_go.set()

    def __call__(self, weights: LoraWeights) -> LoraWeights:
        self.num_calls += 1
        assert self.may_go.wait(30)
        return weights


@pytest.fixture
def preparing() -> Preparing:
    return Preparing()


@pytest.fixture
def make(base: QwenConfig, root: Path, preparing: Preparing) -> Callable[..., AdapterRegistry]:
    """A registry with all four loaded, of which `max_resident` fit."""

    def make(max_resident: int = 2, room_seconds: float = 30.0) -> AdapterRegistry:
        limits = AdapterLimits(max_resident=max_resident, room_seconds=room_seconds)
        registry = AdapterRegistry(base, dtype=torch.float32, limits=limits, prepare=preparing)
        for name in NAMES:
            registry.load(root / name)
        return registry

    return make


def resident(registry: AdapterRegistry) -> list[str]:
    registry.check_integrity()
    return [s.name for s in registry.statuses() if s.state is not AdapterState.REGISTERED]


def use(registry: AdapterRegistry, name: str) -> None:
    adapter = registry.acquire(name)
    registry.ensure_resident(adapter)
    assert adapter.in_use().weights is adapter.weights
    registry.release(adapter)


def test_the_least_recently_used_leave_and_come_back(make: Callable[..., AdapterRegistry]):
    registry = make()
    assert resident(registry) == ["c", "d"]
    use(registry, "a")
    assert resident(registry) == ["a", "d"]
    use(registry, "d")
    use(registry, "b")
    assert resident(registry) == ["b", "d"]


def test_what_comes_back_is_what_was_loaded(make: Callable[..., AdapterRegistry]):
    registry = make(max_resident=4)
    before = registry.get("a").weights
    small = make(max_resident=1)
    use(small, "a")
    after = small.get("a").weights
    assert isinstance(before, LoraWeights) and isinstance(after, LoraWeights)
    for key, pair in before.pairs.items():
        assert torch.equal(pair.a, after.pairs[key].a) and torch.equal(pair.b, after.pairs[key].b)


def test_in_use_and_pinned_stay(make: Callable[..., AdapterRegistry]):
    registry = make(room_seconds=0)
    registry.set_pinned("c", True)
    held = registry.acquire("d")
    wanted = registry.acquire("a")
    with pytest.raises(AdapterError, match="there is no room in memory for adapter 'a'") as refusal:
        registry.ensure_resident(wanted)
    assert refusal.value.code == "no_room"
    assert registry.num_in_flight("a") == 1  # the request's own, no other
    registry.release(held)
    registry.ensure_resident(wanted)
    assert resident(registry) == ["a", "c"]
    registry.release(wanted)
    registry.set_pinned("c", False)
    use(registry, "b")
    assert resident(registry) == [
        "b",
        "c",
    ]  # c was told to go on without a pin a moment ago, a was used before


def test_waits_for_requests_to_end_but_not_for_pins(make: Callable[..., AdapterRegistry]):
    registry = make()
    held = [registry.acquire(name) for name in ("c", "d")]
    wanted = registry.acquire("a")
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(registry.ensure_resident, wanted)
        with pytest.raises(TimeoutError):
            waiting.result(0.05)
        registry.release(held[0])
        waiting.result(30)
    assert resident(registry) == ["a", "d"]
    registry.set_pinned("a", True)
    registry.set_pinned("d", True)
    blocked = registry.acquire("b")
    with pytest.raises(AdapterError) as refusal:
        registry.ensure_resident(blocked)  # at once: `room_seconds` is 30
    assert refusal.value.code == "no_room"


def test_a_pinned_one_that_was_unloaded_is_waited_for(make: Callable[..., AdapterRegistry]):
    registry = make(max_resident=1)
    registry.set_pinned("d", True)
    held = registry.acquire("d")
    registry.unload("d")
    wanted = registry.acquire("a")
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(registry.ensure_resident, wanted)
        with pytest.raises(TimeoutError):
            waiting.result(0.05)
        registry.release(held)
        waiting.result(30)
    assert resident(registry) == ["a"]


def test_a_pin_is_a_promise(make: Callable[..., AdapterRegistry], root: Path):
    registry = make()
    registry.set_pinned("a", True)
    registry.set_pinned("b", True)
    assert resident(registry) == ["a", "b"]
    with pytest.raises(AdapterError) as refusal:
        registry.set_pinned("c", True)
    assert refusal.value.code == "no_room"
    pinned = SpecialistManifest(name="e")
    with pytest.raises(AdapterError) as refusal:
        registry.load(root / "c", manifest=pinned, pinned=True)
    assert refusal.value.code == "no_room"
    assert registry.names() == NAMES
    # The one it replaces makes room for it, though pinned itself, and the pin is handed on.
    replaced = registry.load(root / "c", manifest=SpecialistManifest(name="a"), replace=True)
    assert registry.status("a").pinned and replaced.is_resident
    assert resident(registry) == ["a", "b"]


def test_a_load_that_finds_no_room_is_registered(make: Callable[..., AdapterRegistry], root: Path):
    registry = make()
    for name in ("c", "d"):
        registry.set_pinned(name, True)
    late = registry.load(root / "a", manifest=SpecialistManifest(name="late"))
    assert not late.is_resident and registry.status("late").state is AdapterState.REGISTERED
    registry.set_pinned("c", False)
    use(registry, "late")
    assert resident(registry) == ["d", "late"]


def test_larger_than_all_memory_is_refused(base: QwenConfig, root: Path):
    registry = AdapterRegistry(base, dtype=torch.float32, limits=AdapterLimits(max_resident_bytes=1000))
    with pytest.raises(AdapterError, match="together may take 1000") as refusal:
        registry.load(root / "a")
    assert refusal.value.code == "too_large"


def test_several_that_wait_share_one_read(make: Callable[..., AdapterRegistry], preparing: Preparing):
    registry = make()
    requests = [registry.acquire("a") for _ in range(8)]
    preparing.num_calls = 0
    preparing.may_go.clear()
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(registry.ensure_resident, adapter) for adapter in requests]
        assert registry.status("a").state is AdapterState.REGISTERED
        preparing.may_go.set()
        for one in waiting:
            one.result(30)
    assert preparing.num_calls == 1
    assert registry.num_in_flight("a") == 8


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda folder, base: write_adapter(folder, base, seed=99), "content_changed"),
        (lambda folder, base: shutil.rmtree(folder), "folder_missing"),
        (lambda folder, base: (folder / "adapter_model.safetensors").write_bytes(b""), "header_invalid"),
    ],
)
def test_files_that_changed_are_an_error_of_the_request(
    make: Callable[..., AdapterRegistry],
    root: Path,
    base: QwenConfig,
    damage: Callable[[Path, QwenConfig], object],
    code: str,
):
    registry = make()
    damage(root / "a", base)
    adapter = registry.acquire("a")
    with pytest.raises(AdapterError, match=str(root / "a")) as refusal:
        registry.ensure_resident(adapter)
    assert refusal.value.code == code
    registry.release(adapter)
    assert resident(registry) in (["c", "d"], ["d"])  # room may have been made already
    write_adapter(root / "a", base, seed=0)
    use(registry, "a")  # put right on disk, it is back


def test_unloaded_while_it_comes_back(make: Callable[..., AdapterRegistry], preparing: Preparing):
    registry = make()
    adapter = registry.acquire("a")
    preparing.may_go.clear()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(registry.ensure_resident, adapter)
        registry.unload("a")
        registry.release(adapter)  # its client went away
        assert not registry.wait_idle(adapter, 0)
        preparing.may_go.set()
        waiting.result(30)
    assert registry.wait_idle(adapter, 0) and not adapter.is_resident
    assert "a" not in [status.name for status in registry.statuses()]
    registry.check_integrity()
