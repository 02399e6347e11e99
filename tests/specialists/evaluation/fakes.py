"""A model that knows its answers by heart, in place of an engine."""

from collections.abc import Callable, Iterable, Iterator

from specialists.evaluation.generation import Generation, GenerationRequest


class FakeModel:
    """Answers each request by a function of its key and prompt, the last ones first, as an engine may."""

    def __init__(self, answer: Callable[[str, str], str], batch: int = 4) -> None:
        self._answer = answer
        self._batch = batch
        self.requests: list[GenerationRequest] = []

    def __call__(self, requests: Iterable[GenerationRequest]) -> Iterator[Generation]:
        waiting: list[GenerationRequest] = []
        for request in requests:
            self.requests.append(request)
            waiting.append(request)
            if len(waiting) == self._batch:
                yield from self._flush(waiting)
        yield from self._flush(waiting)

    def _flush(self, waiting: list[GenerationRequest]) -> Iterator[Generation]:
        while waiting:
            request = waiting.pop()
            text = self._answer(request.key, request.messages[-1]["content"])
            is_cut = text.endswith("...")
            yield Generation(key=request.key, text=text, num_tokens=len(text.split()), is_cut=is_cut)
