"""Answers given before, used again: a greedy answer depends on weights and prompt alone, not on what else is in the batch.

So the routed ensemble can be measured on whole test sets for the price of routing, once each specialist has been
measured on its own domain; what was routed to another one is asked anew.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from specialists.evaluation.answer import prompt_digest
from specialists.evaluation.append_log import read_log
from specialists.evaluation.generation import BASE_NAME, Generate, Generation, GenerationRequest
from specialists.evaluation.task import Message

Name = Callable[[Sequence[Message]], str]
_Key = tuple[str, str, int]  # who answered, the prompt's digest, the token limit


class RecordedAnswers:
    """What specialists and the base answered when they were measured alone."""

    def __init__(self, answers: Mapping[_Key, Mapping[str, Any]]) -> None:
        self._answers = answers

    @classmethod
    def read(
        cls, folder: Path, model: str, quantization: str, fingerprints: Mapping[str, str]
    ) -> "RecordedAnswers":
        """From the logs in `folder` that are of this base and precision and of adapters with these fingerprints, by name.

        Logs of anything else are passed over, and so is a last line that a kill cut off. Raises AppendLogError naming a
        file with another damaged line.
        """
        answers: dict[_Key, Mapping[str, Any]] = {}
        for path in sorted(folder.glob("*.answers.jsonl")):
            log = read_log(path)
            settings = log.settings
            name = settings.get("adapter") or BASE_NAME
            wanted = {
                "model": model,
                "quantization": quantization,
                "fingerprint": fingerprints.get(name),
            }
            if any(settings.get(key) != value for key, value in wanted.items()):
                continue
            limit = int(settings["max_new_tokens"])
            answers |= {(name, row["prompt_sha256"], limit): row for row in log.rows}
        return cls(answers)

    def __len__(self) -> int:
        return len(self._answers)

    def find(self, name: str, request: GenerationRequest) -> Generation | None:
        """The answer of `name` to this very prompt under this limit, if there is one."""
        limit = request.params.max_tokens
        row = None if limit is None else self._answers.get((name, prompt_digest(request.messages), limit))
        if row is None:
            return None
        return Generation(
            key=request.key,
            text=row["text"],
            num_tokens=row["num_tokens"],
            is_cut=row["is_cut"],
            specialist=name,
            is_reused=True,
        )


class ReusingGenerator:
    """Routes each request, hands back the recorded answer of the one chosen, and asks `generate` where there is none."""

    def __init__(self, generate: Generate, recorded: RecordedAnswers, name: Name) -> None:
        self._generate = generate
        self._recorded = recorded
        self._name = name

    def __call__(self, requests: Iterable[GenerationRequest]) -> Iterator[Generation]:
        found: deque[Generation] = deque()

        def unanswered() -> Iterator[GenerationRequest]:
            for request in requests:
                recorded = self._recorded.find(self._name(request.messages), request)
                if recorded is None:
                    yield request
                else:
                    found.append(recorded)

        for generation in self._generate(unanswered()):
            yield from _drain(found)
            yield generation
        yield from _drain(found)


def _drain(found: deque[Generation]) -> Iterator[Generation]:
    while found:
        yield found.popleft()
