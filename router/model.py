"""The classifier: a BERT encoder, mean pooling to a unit embedding, and a linear head over embeddings."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import nn
from torch.nn import functional
from transformers import BertConfig, BertModel
from transformers.utils import logging as transformers_logging

from router.errors import DelegatorError
from router.tokenizing import Encoded


class IntentModel(nn.Module):
    """Logits over intents. Embeddings are unit vectors, so that a head can be refitted or compared by
    cosine.
    """

    def __init__(self, encoder: BertModel, num_intents: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, num_intents)

    def embed(self, ids: torch.Tensor, segments: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Ids, segments and mask are [batch, tokens].

        A mask of None says nothing is padding. -> [batch, hidden].
        """
        states = self.encoder(
            input_ids=ids, token_type_ids=segments, attention_mask=mask
        ).last_hidden_state.float()
        return pooled(states, mask)

    def forward(self, ids: torch.Tensor, segments: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """-> logits, [batch, num_intents]."""
        logits: torch.Tensor = self.head(self.embed(ids, segments, mask))
        return logits


def pooled(states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The mean of the states that are no padding, made a unit vector. [batch, tokens, hidden] -> [batch, hidden]."""
    if mask is None:
        mean = states.mean(dim=1)
    else:
        weights = mask.unsqueeze(-1).to(states.dtype)  # [batch, tokens, 1]
        mean = (states * weights).sum(dim=1) / weights.sum(dim=1)
    return functional.normalize(mean, dim=-1)


def read_depths(num_layers: int) -> tuple[int, ...]:
    """After which layers the states are pooled (0: the embeddings): the last, and three that training has changed less.

    Intents are told apart by the last. One that is added while serving is told apart by the others: there, what training
    taught the last layer to overlook (what belongs to no specialist looks alike) still shows.
    """
    return (num_layers, 0, num_layers // 3, 2 * num_layers // 3)


def load_encoder(folder: Path) -> BertModel:
    """The plain encoder in fp32. Raises DelegatorError when the folder holds no BERT checkpoint."""
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise DelegatorError(f"the encoder folder {folder} has no {name}")
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # it reports the unused pooler at length
    transformers_logging.disable_progress_bar()
    try:
        config = BertConfig.from_pretrained(folder)
        if config.model_type != "bert":
            raise DelegatorError(
                f"{folder / 'config.json'} describes a {config.model_type!r} model, not BERT"
            )
        encoder = BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise DelegatorError(f"cannot load the encoder from {folder}: {error}") from error
    finally:
        transformers_logging.set_verbosity(verbosity)
        transformers_logging.enable_progress_bar()
    return encoder.eval()


def collate(
    batch: Sequence[Encoded], multiple: int = 1
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Ids, segments and mask, each [batch, tokens], padded at the right to a `multiple`.

    The mask is None when nothing is padded. Few different lengths keep oneDNN from caching a kernel for each.
    """
    longest = -(-max(len(encoded.ids) for encoded in batch) // multiple) * multiple
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    segments, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, encoded in enumerate(batch):
        length = len(encoded.ids)
        ids[row, :length] = torch.tensor(encoded.ids)
        segments[row, :length] = torch.tensor(encoded.segments)
        mask[row, :length] = 1
    return ids, segments, None if bool(mask.all()) else mask
