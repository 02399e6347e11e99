"""Builds the services from the settings: the slow part of a start.

Decides what is loaded and what a specialist that cannot be loaded means: it is left out, by name and with
the reason, and the others serve. Everything else that cannot be loaded ends the start.
"""

import hashlib
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from server.dispatch import Dispatcher
from server.services import Services
from server.settings import Settings, SettingsError
from specialists.engine.config import EngineConfig

if TYPE_CHECKING:
    from router.delegator import Delegator
    from specialists.adapters.registry import AdapterRegistry
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
        )
    except ValueError as error:
        raise SettingsError(str(error)) from error


def check_settings(settings: Settings) -> None:
    """What can be refused before anything is loaded. Raises SettingsError."""
    engine_config(settings, device="cpu", dtype=_dtype(settings))


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
    refused = load_specialists(settings, registry)
    base_id = base_model_id(settings.base, base)

    from specialists.engine.async_engine import AsyncEngine

    return Services(
        settings=settings,
        base_id=base_id,
        fingerprint=f"fp_{hashlib.sha256(base.name.encode()).hexdigest()[:12]}",
        created=int(time.time()),
        tokenizer=engine.tokenizer,
        registry=registry,
        engine=AsyncEngine(engine, max_requests=settings.max_num_seqs + settings.max_queued_requests),
        dispatcher=Dispatcher(delegator, registry, {base_id}, delegator_thread),
        refused=refused,
    )


def load_delegator(settings: Settings) -> "Delegator":
    """The delegator, ready to decide at its usual speed."""
    from specialists.base_model import resolve_encoder

    encoder = resolve_encoder(settings.encoder, settings.home)

    from router.delegator import WEIGHTS, Delegator

    delegator = Delegator.from_folder(encoder, settings.router_weights or WEIGHTS, settings.router_threshold)
    delegator.route_text("A first decision takes many times longer.")
    return delegator


def one_core_thread(name: str) -> ThreadPoolExecutor:
    """One thread whose torch computes on one core.

    The delegator's products are small and the engine keeps the cores busy: OpenMP's threads would mostly spin
    and wait for each other. Measured on two busy cores: 0.06 s for a decision with one thread, 1.9 s with two.
    """
    import torch

    def use_one_core() -> None:
        torch.get_num_threads()  # a thread takes over the default at its first look; that must be behind it
        torch.set_num_threads(1)

    num_threads = torch.get_num_threads()
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
    executor.submit(use_one_core).result()
    # torch takes the last number given as the default for threads to come, and the engine's is one of them.
    torch.set_num_threads(num_threads)
    return executor


def load_engine(settings: Settings, base: Path) -> "tuple[LLMEngine, AdapterRegistry]":
    """The engine with the base in it, and an empty registry of adapters that fit it."""
    # Here and not above: these import torch, and `polymath --help` and /health must not wait for it.
    import torch

    from specialists.adapters.registry import AdapterRegistry
    from specialists.engine.llm_engine import LLMEngine

    dtype = _dtype(settings)
    engine = LLMEngine(base, engine_config(settings, device=_device(settings), dtype=dtype))
    registry = AdapterRegistry(
        engine.runner.model.config,
        max_rank=settings.max_lora_rank,
        dtype=getattr(torch, dtype),
        prepare=engine.runner.prepare,
    )
    return engine, registry


def _device(settings: Settings) -> str:
    import torch

    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise SettingsError("device is cuda, but this torch finds no CUDA device; use cpu or auto")
    return ("cuda" if has_cuda else "cpu") if settings.device == "auto" else settings.device


def load_specialists(settings: Settings, registry: "AdapterRegistry") -> dict[str, str]:
    """Load the catalog and the configured folder; returns what was refused, with the reason."""
    from specialists.adapters.checkpoint import AdapterError

    refused: dict[str, str] = {}
    for folder in specialist_folders(settings, refused):
        try:
            registry.load(folder)
        except AdapterError as error:
            refused[folder.name] = str(error)
    for name, reason in refused.items():
        logger.error("specialist %s is left out: %s", name, reason)
    return refused


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
    return local.stem if local.exists() else source
