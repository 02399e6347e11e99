"""Guesses what a sequence says next: what came after the last place where its newest tokens stand. Integers only.

Prompt-lookup decoding (A. Saxena, 2023): answers repeat their prompts and themselves, code most of all. The model checks
a guess in the step that would have run anyway; a wrong guess costs its rows and changes nothing.
"""

from collections.abc import Sequence

NGRAM = 2  # as many of the newest tokens must agree; measured against 3 and 4 (docs/experiments.md)


class PromptLookup:
    """Where the n-grams of one sequence stand."""

    def __init__(self) -> None:
        self._next_after: dict[tuple[int, ...], int] = {}
        self._num_indexed = NGRAM  # the n-grams that end before this place are known

    def propose(self, token_ids: Sequence[int], limit: int) -> tuple[int, ...]:
        """At most `limit` tokens that may follow `token_ids`; none where nothing like its end came before.

        Always called with the same sequence, which only grows.
        """
        # The newest n-gram is looked up before it is known itself: what follows it is what is asked.
        for place in range(self._num_indexed, len(token_ids)):
            self._next_after[tuple(token_ids[place - NGRAM : place])] = place
        self._num_indexed = max(self._num_indexed, len(token_ids))
        start = self._next_after.get(tuple(token_ids[-NGRAM:]))
        return () if start is None else tuple(token_ids[start : start + limit])
