"""Peers that are measured without a server: the command that runs each, in the environment it needs."""

import sys
from pathlib import Path

from bench.peers.environment import make_environment, run
from bench.peers.load import Setup

_OPENVINO = ["openvino-genai==2026.4.1.0", "optimum-intel[openvino]==2.2.0", "torch==2.13.0"]


def transformers_command(setup: Setup) -> list[str]:
    """transformers and PEFT are ours already."""
    return [
        sys.executable,
        "-m",
        "bench.peers.transformers_peft",
        str(setup.base),
        *map(str, setup.adapters),
    ]


def openvino_command(setup: Setup) -> list[str]:
    """Installs OpenVINO GenAI and exports the base with 8-bit weights, once. Raises PeerUnavailableError."""
    folder = setup.home / "openvino"
    python = make_environment(folder, _OPENVINO)
    run([str(python), "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision"])
    model = folder / "model"
    if not (model / "openvino_tokenizer.xml").exists():
        exporting = [str(folder / "bin" / "optimum-cli"), "export", "openvino", "--model", str(setup.base)]
        run([*exporting, "--task", "text-generation-with-past", "--weight-format", "int8", str(model)])
    script = Path(__file__).with_name("openvino_pipeline.py")
    weights = [str(adapter / "adapter_model.safetensors") for adapter in setup.adapters]
    return [str(python), str(script), str(model), *weights]
