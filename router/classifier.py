"""Texts to vectors, as they are served: tokenized, bounded, batched by length, on the fastest encoder there is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import BertModel

from router import lora
from router.calibration import Floats
from router.errors import DelegatorError
from router.messages import Utterance
from router.model import collate, load_encoder, read_depths
from router.packed import PackedEncoder
from router.quantized import RANGE_PREFIX, QuantizedEncoder, is_supported
from router.tokenizing import PromptTokenizer

_BATCH = 32
NUM_DEPTHS = len(read_depths(0))


class Classifier:
    """The encoder with its trained deltas merged. Immutable: safe to call from any thread."""

    def __init__(self, encoder: QuantizedEncoder | PackedEncoder, tokenizer: PromptTokenizer) -> None:
        self._encoder = encoder
        self._tokenizer = tokenizer

    @classmethod
    def load(
        cls, encoder: Path, tensors: dict[str, torch.Tensor], max_tokens: int, origin: Path
    ) -> "Classifier":
        """Raises DelegatorError when a folder is unusable or the trained part does not fit the encoder."""
        plain = load_encoder(encoder)
        hidden = tensors["head.weight"].shape[1]
        if hidden != plain.config.hidden_size:
            raise DelegatorError(
                f"{origin} has a head over {hidden} dimensions; the encoder has {plain.config.hidden_size}"
            )
        lora.merge(plain, tensors)
        return cls(_served(plain, tensors), PromptTokenizer.from_folder(encoder, max_tokens))

    @property
    def width(self) -> int:
        """Columns of what `embed` gives."""
        return self._encoder.hidden_size * NUM_DEPTHS

    def embed(self, utterances: Sequence[Utterance]) -> Floats:
        """Unit vectors of every depth of `read_depths` beside each other, [utterances, depths * hidden], in order.

        The first `hidden` columns are the embedding that intents are told apart by.
        """
        encoded = [self._tokenizer.encode(utterance.text, utterance.history) for utterance in utterances]
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
        rows = np.zeros((len(encoded), self.width))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            rows[batch] = self._encoder.embed(*collate([encoded[i] for i in batch])).double().numpy()
        return rows


def _served(plain: BertModel, tensors: dict[str, torch.Tensor]) -> QuantizedEncoder | PackedEncoder:
    ranges = {name: seen for name, seen in tensors.items() if name.startswith(RANGE_PREFIX)}
    return QuantizedEncoder(plain, ranges) if ranges and is_supported() else PackedEncoder(plain)
