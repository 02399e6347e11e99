"""A teacher: a larger model with the student's vocabulary, and what it says of given answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from specialists.sources.errors import BaseModelError
from specialists.tokenizer import ChatTokenizer
from specialists.training.method_sections import Distill, Teacher
from specialists.training.packed_model import FrozenModel
from specialists.training.packing import Pack
from specialists.training.run_folders import FindModel
from specialists.training.sections import BaseQuantization

# Rows of logits at a time.
_CHUNK_ROWS = 128


class TeacherError(ValueError):
    """A teacher that cannot teach this student; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a teacher says of n positions: its k most likely tokens, their log-probabilities, and hidden states.

    ids: [n, k] int32, log_probabilities: [n, k] float16, hidden: [num_layer_pairs, n, width] bfloat16.
    """

    ids: Tensor
    log_probabilities: Tensor
    hidden: Tensor

    def rows(self, start: int, end: int) -> "Lesson":
        part = slice(start, end)
        return Lesson(self.ids[part], self.log_probabilities[part], self.hidden[:, part])

    def log_probabilities_of(self, tokens: Sequence[int]) -> Tensor:
        """[n, num_tokens] float32; a token that is not among the k likeliest has the least one's: it cannot have more."""
        known = self.log_probabilities.float()
        columns = []
        for token in tokens:
            is_it = self.ids == token
            found = known.masked_fill(~is_it, -torch.inf).amax(1)
            columns.append(torch.where(is_it.any(1), found, known.amin(1)))
        return torch.stack(columns, dim=1)


def find_teacher(teacher: Teacher, student: ChatTokenizer, find_model: FindModel) -> Path:
    """The teacher's folder. Raises TeacherError when it is not there or writes other tokens than the student."""
    try:
        folder = find_model(teacher.model)
    except BaseModelError as error:
        raise TeacherError(f"the teacher {teacher.model!r} cannot be used: {error}") from error
    own = student.backend.get_vocab(with_added_tokens=True)
    other = ChatTokenizer.from_folder(folder).backend.get_vocab(with_added_tokens=True)
    if own != other:
        differing = sorted(token for token in own.keys() | other.keys() if own.get(token) != other.get(token))
        token = differing[0]
        raise TeacherError(
            f"the teacher {teacher.model!r} has another vocabulary than the student: {len(differing)} tokens differ, "
            f"such as {token!r} ({_say(other.get(token))}, expected {_say(own.get(token))})"
        )
    return folder


def _say(token_id: int | None) -> str:
    return "missing" if token_id is None else f"id {token_id}"


# What a teacher says of a pack's answers.
TeachPack = Callable[[Pack], Lesson]


class LoadedTeacher:
    """A teacher in memory, asked about packs."""

    def __init__(
        self,
        folder: Path,
        settings: Distill,
        vocab_size: int,
        dtype: torch.dtype,
        quantization: BaseQuantization = "none",
        kernel_folder: Path | None = None,
    ) -> None:
        self._model = FrozenModel(folder, dtype, quantization, kernel_folder)
        self._settings = settings
        # Rows of the head beyond the student's have no token, in either model.
        self._head = self._model.head[:vocab_size]
        deepest = max(pair.teacher for pair in settings.layers)
        if settings.hidden_weight and deepest >= self._model.num_layers:
            raise TeacherError(
                f"distill.layers names the teacher's layer {deepest}; it has {self._model.num_layers}"
            )

    def teach(self, pack: Pack) -> Lesson:
        states = self._model.layer_states(pack)
        with torch.inference_mode():
            chunks = [self._top(chunk) for chunk in states[-1].split(_CHUNK_ROWS)]
            pairs = self._settings.layers if self._settings.hidden_weight else ()
            layers = [states[behind(pair.teacher)] for pair in pairs]
            hidden = torch.stack(layers) if layers else states[-1].new_zeros(0, len(states[-1]), 0)
        ids, values = (torch.cat(parts) for parts in zip(*chunks, strict=True))
        return Lesson(ids.int(), values.half(), hidden.bfloat16())

    def _top(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        logits = (hidden @ self._head.t()).float() / self._settings.temperature
        values, ids = logits.topk(self._settings.top_k, dim=-1)
        return ids, values - torch.logsumexp(logits, dim=-1, keepdim=True)


def behind(layer: int) -> int:
    """The place of the states behind layer `layer` among `layer_states`, whose first are the embeddings."""
    return -1 if layer == -1 else layer + 1
