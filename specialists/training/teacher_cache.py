"""What teachers said, on disk: each teacher reads each answer once, whatever the number of epochs or restarts.

`<folder>/lessons-<n>.safetensors` hold the lessons of some answers each, keyed by a hash of prompt and answer; a
file is written beside its name and renamed, so a kill costs at most what the last file would have held. The folder's
own name carries the teacher and the settings that matter.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from specialists.evaluation.progress import show_progress
from specialists.training.data import PromptGroup
from specialists.training.method_sections import Distill
from specialists.training.packing import Pack, pack_groups
from specialists.training.teacher import Lesson, TeachPack

_PACKS_PER_FILE = 8


class TeacherCacheError(ValueError):
    """A cache that cannot be read or written; the message names the file and what to do."""


def lesson_key(prompt_ids: Sequence[int], answer: Sequence[int]) -> str:
    return hashlib.sha256(json.dumps([list(prompt_ids), list(answer)]).encode()).hexdigest()[:32]


def cache_folders(run: Path, teacher: str, settings: Distill) -> list[Path]:
    """Below `run`: where what this teacher says under these settings is kept, then others that hold it as well.

    Where only logits are wanted, what was said together with hidden states will do.
    """
    said = hashlib.sha256(json.dumps([teacher, settings.top_k, settings.temperature]).encode()).hexdigest()[
        :12
    ]
    if settings.hidden_weight:
        layers = "_".join(str(pair.teacher) for pair in settings.layers)
        return [run / f"lessons-{said}-states{layers}"]
    return [run / f"lessons-{said}", *sorted(run.glob(f"lessons-{said}-states*"))]


class TeacherCache:
    """The lessons of one teacher: those of all `folders` are read, new ones go to the first."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folder = folders[0]
        self._file_of: dict[str, Path] = {}
        for folder in folders:
            for path in sorted(folder.glob("lessons-*.safetensors")):
                self._index(path)

    def fill(self, groups: Sequence[PromptGroup], pack_tokens: int, load: Callable[[], TeachPack]) -> None:
        """Ask the teacher about all answers that are not stored yet; `load` is called only when there are some.

        Raises TeacherCacheError when the disk refuses.
        """
        missing = list(self._missing(groups))
        if not missing:
            return
        teach = load()
        packs = pack_groups(missing, pack_tokens, seed=0)
        with show_progress("asking the teacher", len(packs)) as meter:
            for start in range(0, len(packs), _PACKS_PER_FILE):
                lessons: dict[str, Lesson] = {}
                for pack in packs[start : start + _PACKS_PER_FILE]:
                    lessons |= split_lesson(teach(pack), pack)
                    meter.advance(1, len(pack.token_ids))
                self._write(lessons)

    def lesson(self, pack: Pack) -> Lesson:
        """The stored lessons of a pack's answers, in the order of its targets; hidden states where all have them."""
        parts = [self._read(key) for key in _keys(pack)]
        have_states = len({part.hidden.shape[::2] for part in parts}) == 1
        hidden = [
            part.hidden if have_states else part.hidden.new_zeros(0, len(part.ids), 0) for part in parts
        ]
        return Lesson(
            torch.cat([part.ids for part in parts]),
            torch.cat([part.log_probabilities for part in parts]),
            torch.cat(hidden, dim=1),
        )

    def _missing(self, groups: Sequence[PromptGroup]) -> Iterator[PromptGroup]:
        seen = set(self._file_of)
        for group in groups:
            answers = []
            for answer in group.answers:
                key = lesson_key(group.prompt_ids, answer)
                if key not in seen:
                    seen.add(key)
                    answers.append(answer)
            if answers:
                yield PromptGroup(group.prompt_ids, tuple(answers))

    def _index(self, path: Path) -> None:
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118 (not a mapping)
                    if name.endswith("/ids"):
                        self._file_of[name.removesuffix("/ids")] = path
        except (SafetensorError, OSError) as error:
            raise TeacherCacheError(
                f"{path} cannot be read ({error}); delete it to ask the teacher again"
            ) from error

    def _read(self, key: str) -> Lesson:
        with safe_open(self._file_of[key], "pt") as file:
            return Lesson(*(file.get_tensor(f"{key}/{name}") for name in Lesson.__slots__))

    def _next_number(self) -> int:
        """Behind the highest: of the files before it one may have been damaged and deleted."""
        numbers = [int(path.stem.rpartition("-")[2]) for path in self._folder.glob("lessons-*.safetensors")]
        return max(numbers, default=-1) + 1

    def _write(self, lessons: dict[str, Lesson]) -> None:
        path = self._folder / f"lessons-{self._next_number():05d}.safetensors"
        partial = path.with_name(f".{path.name}.partial")
        tensors = {
            f"{key}/{name}": getattr(lesson, name).contiguous()
            for key, lesson in lessons.items()
            for name in Lesson.__slots__
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, partial)
            partial.replace(path)
        except (SafetensorError, OSError) as error:
            partial.unlink(missing_ok=True)
            raise TeacherCacheError(f"cannot write {path} ({error}); make room and resume") from error
        self._file_of |= dict.fromkeys(lessons, path)


def _keys(pack: Pack) -> Iterator[str]:
    for group in pack.groups:
        for answer in group.answers:
            yield lesson_key(group.prompt_ids, answer)


def split_lesson(lesson: Lesson, pack: Pack) -> dict[str, Lesson]:
    """A pack's lesson by answer."""
    lengths = [len(answer) for group in pack.groups for answer in group.answers]
    lessons, start = {}, 0
    for key, length in zip(_keys(pack), lengths, strict=True):
        lessons[key] = lesson.rows(start, start + length)
        start += length
    return lessons
