"""Grading beside generating: a program that runs into its time limit does not hold the engine up."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from specialists.evaluation.generation import Generation

Result = TypeVar("Result")

# Sandboxed programs are short and start slowly: two keep up with the engine without taking its cores.
_NUM_GRADERS = 2


def grade_as_they_come(
    generations: Iterable[Generation], grade: Callable[[Generation], Result]
) -> Iterator[Result]:
    """Yield `grade(generation)` in the order of the generations, computed in threads meanwhile.

    When generating fails, what was generated before is still graded and yielded, and then the error is raised.
    """
    pending: deque[Future[Result]] = deque()
    failure: Exception | None = None
    with ThreadPoolExecutor(_NUM_GRADERS) as graders:
        try:
            for generation in generations:
                pending.append(graders.submit(grade, generation))
                while pending and pending[0].done():
                    yield pending.popleft().result()
        except Exception as error:
            failure = error
        while pending:
            yield pending.popleft().result()
    if failure is not None:
        raise failure
