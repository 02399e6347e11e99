"""Builds the services from the settings: the slow part of a start.

Decides what is loaded and what a specialist that cannot be loaded means: it is left out, by name and with
the reason, and the others serve. Everything else that cannot be loaded ends the start.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from server.dispatch import Dispatcher
from server.intents import IntentRegistrar, LearnedIntents
from server.keys import KeyRing
from server.ledger import Ledger
from server.local_specialists import LocalSpecialists, Sources
from server.roster import Roster
from server.services import Services
from server.settings import Settings, SettingsError
from specialists.engine.config import EngineConfig
from specialists.manifest import ManifestError, read_manifest

if TYPE_CHECKING:
    from router.delegator import Delegator
    from specialists.adapters.registry import AdapterRegistry
    from specialists.engine.async_engine import AsyncEngine
    from specialists.engine.llm_engine import LLMEngine

logger = logging.getLogger(__name__)


def engine_config(settings: Settings, *, device: str, dtype: str) -> EngineConfig:
    """Raises SettingsError when settings contradict each other."""
    try:
        return EngineConfig(
            device=device,
            dtype=dtype,
            max_num_seqs=settings.max_num_seqs,
            block_size=settings.block_size,
            num_blocks=settings.num_blocks,
            max_num_batched_tokens=settings.max_num_batched_tokens,
            max_prefill_tokens_while_decoding=settings.max_prefill_tokens_while_decoding,
            reuse_prefixes=settings.reuse_prefixes,
            max_model_len=settings.max_model_len,
            max_adapters=settings.max_adapters,
            max_lora_rank=settings.max_lora_rank,
            num_threads=settings.threads,
            quantization=settings.quantization,
            kernels=settings.kernels,
            kernel_folder=settings.home / "kernels",
            batch_invariant=settings.batch_invariant,
            max_draft_rows=settings.max_draft_rows,
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error


def check_settings(settings: Settings) -> None:
    """What can be refused before anything is loaded. Raises SettingsError."""
    engine_config(settings, device="cpu", dtype=_dtype(settings))
    KeyRing(settings)


def _dtype(settings: Settings) -> str:
    return "bfloat16" if settings.dtype == "auto" else settings.dtype


def load_services(settings: Settings) -> Services:
    """Load all there is; takes seconds. Raises the parts' own errors, each one clear sentence."""
    from specialists.base_model import resolve_base, resolve_encoder

    # Both before anything slow: what has to be fetched first is known at once.
    base = resolve_base(settings.base, settings.home)
    resolve_encoder(settings.encoder, settings.home)
    delegator_thread = one_core_thread("delegator")
    try:
        # At the same time as the engine: one mostly imports, the other mostly packs weights.
        loading = delegator_thread.submit(load_delegator, settings)
        engine, registry = load_engine(settings, base)
        delegator = loading.result()
    except BaseException:
        delegator_thread.shutdown(wait=False, cancel_futures=True)
        raise
    base_id = base_model_id(settings.base, base)

    from specialists.engine.async_engine import AsyncEngine

    async_engine = AsyncEngine(engine, max_requests=settings.max_num_seqs + settings.max_queued_requests)
    registry.attach(async_engine)
    roster = load_roster(settings, registry, async_engine, LearnedIntents(delegator))
    return Services(
        settings=settings,
        base_id=base_id,
        fingerprint=f"fp_{hashlib.sha256(base.name.encode()).hexdigest()[:12]}",
        created=int(time.time()),
        tokenizer=engine.tokenizer,
        registry=registry,
        engine=async_engine,
        dispatcher=Dispatcher(
            delegator,
            registry,
            {base_id},
            delegator_thread,
            # Several: one that waits for room in memory must not hold up another whose room is there.
            loaders=one_core_thread("loader", 4),
        ),
        roster=roster,
    )


def load_delegator(settings: Settings) -> "Delegator":
    """The delegator, ready to decide at its usual speed."""
    from specialists.base_model import resolve_encoder

    encoder = resolve_encoder(settings.encoder, settings.home)

    from router.delegator import WEIGHTS, Delegator

    delegator = Delegator.from_folder(encoder, settings.router_weights or WEIGHTS, settings.router_threshold)
    delegator.route_text("A first decision takes many times longer.")
    return delegator


def one_core_thread(name: str, count: int = 1) -> ThreadPoolExecutor:
    """One thread, or `count`, whose torch computes on one core each.

    The delegator's products are small and the engine keeps the cores busy: OpenMP's threads would mostly spin
    and wait for each other. Measured on two busy cores: 0.06 s for a decision with one thread, 1.9 s with two.
    """
    import torch

    all_there = threading.Barrier(count)

    def use_one_core() -> None:
        torch.get_num_threads()  # a thread takes over the default at its first look; that must be behind it
        torch.set_num_threads(1)
        all_there.wait()  # so that no thread does this twice, and another never

    num_threads = torch.get_num_threads()
    executor = ThreadPoolExecutor(max_workers=count, thread_name_prefix=name)
    for done in [executor.submit(use_one_core) for _ in range(count)]:
        done.result()
    # torch takes the last number given as the default for threads to come, and the engine's is one of them.
    torch.set_num_threads(num_threads)
    return executor


def load_engine(settings: Settings, base: Path) -> "tuple[LLMEngine, AdapterRegistry]":
    """The engine with the base in it, and an empty registry of adapters that fit it."""
    # Here and not above: these import torch, and `polymath --help` and /health must not wait for it.
    import torch

    from specialists.adapters.limits import AdapterLimits
    from specialists.adapters.registry import AdapterRegistry
    from specialists.base_model import base_sha256
    from specialists.engine.llm_engine import LLMEngine

    dtype = _dtype(settings)
    engine = LLMEngine(base, engine_config(settings, device=_device(settings), dtype=dtype))
    registry = AdapterRegistry(
        engine.runner.model.config,
        max_rank=settings.max_lora_rank,
        dtype=getattr(torch, dtype),
        prepare=engine.runner.prepare,
        base_sha256=base_sha256(base),
        limits=AdapterLimits(
            max_resident=settings.max_resident_adapters,
            max_resident_bytes=settings.max_resident_bytes,
            max_file_bytes=settings.max_upload_bytes,
        ),
    )
    return engine, registry


def _device(settings: Settings) -> str:
    import torch

    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise SettingsError("device is cuda, but this torch finds no CUDA device; use cpu or auto")
    return ("cuda" if has_cuda else "cpu") if settings.device == "auto" else settings.device


def load_roster(
    settings: Settings, registry: "AdapterRegistry", engine: "AsyncEngine", intents: IntentRegistrar
) -> Roster:
    """The specialists of the configured folders and those that operators loaded earlier. Raises StoreError."""
    from server.store.content import ContentStore
    from server.store.specialists import SpecialistStore
    from specialists.adapters.trial import try_adapter

    refused: dict[str, str] = {}
    configured = configured_specialists(settings, refused)
    folders = [settings.catalog, *([settings.adapter_folder] if settings.adapter_folder else [])]
    url = None if settings.database_url is None else settings.database_url.get_secret_value()
    ledger = Ledger(SpecialistStore.open(url, settings.state), ContentStore.open(settings.state))
    local = LocalSpecialists(
        registry, intents, Sources(configured, (*settings.adapter_roots, *folders)), ledger.content
    )
    roster = Roster(
        local, ledger, one_core_thread("roster"), trial=lambda adapter: try_adapter(engine, adapter)
    )
    try:
        roster.restore()
    except BaseException:
        roster.close()
        raise
    for name, reason in refused.items():
        logger.error("specialist %s is left out: %s", name, reason)
    local.refused.update(refused)
    return roster


def configured_specialists(settings: Settings, refused: dict[str, str]) -> dict[str, Path]:
    """The folders of the catalog and of the configured folder by their specialist's name; the rest goes to `refused`."""
    found: dict[str, Path] = {}
    for folder in specialist_folders(settings, refused):
        try:
            name = read_manifest(folder).name
        except ManifestError as error:
            refused[folder.name] = str(error)
            continue
        if name in found:
            refused[name] = f"{folder}: a specialist named {name!r} is already loaded, from {found[name]}"
        else:
            found[name] = folder
    return found


def specialist_folders(settings: Settings, missing: dict[str, str]) -> Iterator[Path]:
    """The folders that should hold a specialist; a root that does not exist is noted in `missing`."""
    for root in (settings.catalog, settings.adapter_folder):
        if root is None:
            continue
        if not root.is_dir():
            missing[root.name] = f"the adapter folder {root} does not exist"
            continue
        for folder in sorted(root.iterdir()):
            if folder.is_dir() and not folder.name.startswith((".", "_")):
                yield folder


def base_model_id(source: str, folder: Path) -> str:
    """What the base is called to clients: never a path of this machine."""
    from specialists.sources.artifacts import DEFAULT_BASE, TEACHER

    known = {"default": DEFAULT_BASE.name, "teacher": TEACHER.name}
    if source in known:
        return known[source]
    local = Path(source).expanduser()
    if not local.exists():
        return source
    return local.name if local.is_dir() else local.stem  # a folder's name may hold dots: Qwen2.5
