"""Vectors kept from training, so that an intent can be added without the data sets or a pass of the encoder.

Rows to fit on come from training prompts, rows to check on from held-out sources: what a new intent costs the others is
measured on prompts neither it nor they were fitted to. Rows of this project's own templates carry their text and are shown
as examples; the public sets' rows carry none. Vectors are kept in 8 bits, some two megabytes in all.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from router.calibration import Floats, Ints
from router.errors import DelegatorError
from router.tokenizing import read_json_object

VECTORS = "bank.safetensors"
TEXTS = "bank.json"


@dataclass(frozen=True, slots=True)
class Bank:
    """Vectors of the classifier ([rows, depths * hidden]) with their intents (indices into the trained ones) and their use.

    `texts` holds "" for rows without a text of our own.
    """

    vectors: Floats
    labels: Ints
    is_check: NDArray[np.bool_]
    texts: tuple[str, ...]

    @property
    def fitted_on(self) -> Floats:
        return self.vectors[~self.is_check]

    def shown(self) -> "tuple[Floats, Ints, tuple[str, ...]]":
        """The rows that have a text: vectors, intents, texts."""
        rows = [row for row, text in enumerate(self.texts) if text]
        return self.vectors[rows], self.labels[rows], tuple(self.texts[row] for row in rows)


def save_bank(folder: Path, bank: Bank, weights_sha256: str) -> None:
    """Writes both files. `weights_sha256` is of the trained part whose embeddings these are."""
    scales = np.abs(bank.vectors).max(axis=1) / 127
    rounded = np.round(bank.vectors / scales[:, None]).astype(np.int8)
    tensors = {
        "vectors": torch.from_numpy(rounded),
        "scales": torch.from_numpy(scales.astype(np.float32)),
        "labels": torch.from_numpy(bank.labels.astype(np.uint8)),
        "is_check": torch.from_numpy(bank.is_check),
    }
    save_file(tensors, folder / VECTORS)
    texts = {str(row): text for row, text in enumerate(bank.texts) if text}
    content = json.dumps({"weights_sha256": weights_sha256, "texts": texts}, indent=0, ensure_ascii=False)
    (folder / TEXTS).write_text(content + "\n", encoding="utf-8")


def load_bank(folder: Path, weights_sha256: str, width: int) -> Bank:
    """Reads both files. Raises DelegatorError naming the one that is missing, malformed, of another trained part, or with
    vectors of another width.
    """
    content = read_json_object(folder / TEXTS)
    if content.get("weights_sha256") != weights_sha256:
        raise DelegatorError(
            f"{folder / TEXTS} belongs to the trained part {str(content.get('weights_sha256'))[:16]}..., not to "
            f"{weights_sha256[:16]}...; train the router again to write both"
        )
    try:
        tensors = load_file(folder / VECTORS)
        vectors = tensors["vectors"].double().numpy() * tensors["scales"].double().numpy()[:, None]
        labels, is_check = tensors["labels"].long().numpy(), tensors["is_check"].bool().numpy()
    except (OSError, SafetensorError, KeyError) as error:
        raise DelegatorError(f"cannot read {folder / VECTORS}: {error}") from error
    if vectors.shape != (len(labels), width):
        raise DelegatorError(
            f"{folder / VECTORS} holds vectors {list(vectors.shape)}, not {[len(labels), width]}; fit it again with "
            "`polymath train router --finish-only`"
        )
    return Bank(vectors, labels, is_check, _texts(folder, content.get("texts"), len(labels)))


def _texts(folder: Path, texts: object, rows: int) -> tuple[str, ...]:
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise DelegatorError(f"{folder / TEXTS}: 'texts' must map rows to texts")
    return tuple(texts.get(str(row), "") for row in range(rows))


def nearest_rows(vectors: Floats, vector: Floats, count: int) -> Sequence[tuple[int, float]]:
    """The unit rows with the highest cosine to a unit `vector` ([hidden]), best first, with the cosine."""
    similarities = vectors @ vector
    order = np.argsort(-similarities, kind="stable")[:count]
    return [(int(row), float(similarities[row])) for row in order]
