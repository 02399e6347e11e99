"""Answers a teacher writes to the training prompts, kept on disk: each prompt is answered once, a kill loses few."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from specialists.engine.output import FinishReason
from specialists.evaluation.progress import show_progress
from specialists.training.data import PromptGroup
from specialists.training.rollout import Writer, draw_seed

_AT_A_TIME = 64


class TeacherAnswers:
    """The answers of one teacher by prompt, in `<path>`, one JSON line each. Cut ones are kept as null, and not used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers: dict[tuple[int, ...], tuple[int, ...] | None] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):  # what a kill cut off is written again
                    prompt, answer = json.loads(line)
                    self._answers[tuple(prompt)] = None if answer is None else tuple(answer)

    def fill(
        self,
        groups: Sequence[PromptGroup],
        load: Callable[[], Writer],
        max_tokens: int,
        temperature: float,
        seed: int,
    ) -> None:
        """Have all prompts answered that are not yet; `load` is called only when there are some."""
        prompts = [group.prompt_ids for group in groups if group.prompt_ids not in self._answers]
        prompts = list(dict.fromkeys(prompts))
        if not prompts:
            return
        writer = load()
        self._rewrite()
        with show_progress("the teacher answers", len(prompts)) as meter:
            for start in range(0, len(prompts), _AT_A_TIME):
                part = prompts[start : start + _AT_A_TIME]
                seeds = [draw_seed(seed, prompt) for prompt in part]
                written = writer.write(part, max_tokens, temperature, seeds)
                for prompt, one in zip(part, written, strict=True):
                    is_whole = one.finish_reason is FinishReason.STOP
                    self._answers[prompt] = one.token_ids if is_whole else None
                self._append(part)
                meter.advance(len(part), sum(len(one.token_ids) for one in written))

    def answer(self, prompt_ids: tuple[int, ...]) -> tuple[int, ...] | None:
        return self._answers[prompt_ids]

    def _rewrite(self) -> None:
        """Drop half a line that a kill left."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(f".{self._path.name}.partial")
        partial.write_text("".join(map(self._line, self._answers)), encoding="utf-8")
        partial.replace(self._path)

    def _append(self, prompts: Sequence[tuple[int, ...]]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(map(self._line, prompts))

    def _line(self, prompt: tuple[int, ...]) -> str:
        return json.dumps([prompt, self._answers[prompt]]) + "\n"


def answered(groups: Sequence[PromptGroup], teachers: Sequence[TeacherAnswers]) -> list[PromptGroup]:
    """The groups with the teachers' whole answers in the place of the data's; prompts without one are dropped."""
    result = []
    for group in groups:
        written = [teacher.answer(group.prompt_ids) for teacher in teachers]
        answers = dict.fromkeys(answer for answer in written if answer is not None)
        if answers:
            result.append(PromptGroup(group.prompt_ids, tuple(answers)))
    return result
