"""The intents a delegator knows at one moment: the trained ones and those added while serving. Immutable.

A change makes a new set, so that a decision under way sees one set from beginning to end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from router.bank import Bank, nearest_rows
from router.calibration import Floats, softmax
from router.decision import NearestExample
from router.hot import Fit, HotRow, fit_head, logits_of
from router.intents import GENERAL

_ABOVE = 1e-6  # ties go to the intent listed first


@dataclass(frozen=True, slots=True)
class HotIntent:
    """An intent added while serving: its examples, their vectors ([examples, depths * hidden]), and its row."""

    name: str
    description: str
    examples: tuple[str, ...]
    vectors: Floats
    row: HotRow


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentSet:
    """Trained rows of the head with their temperature, the bank they were measured on, and the added intents.

    Vectors are as the classifier gives them: trained rows see their first `hidden` columns, added ones the rest.
    """

    trained: tuple[str, ...]
    weight: Floats  # [trained, hidden]
    bias: Floats  # [trained]
    temperature: float
    bank: Bank | None = None
    hot: tuple[HotIntent, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All intents, the trained ones first, in the order of the probabilities."""
        return (*self.trained, *(intent.name for intent in self.hot))

    def probabilities(self, vectors: Floats) -> Floats:
        """Calibrated probabilities, [vectors, intents]."""
        return softmax(self.logits(vectors))

    def logits(self, vectors: Floats) -> Floats:
        """Calibrated logits, [vectors, intents]."""
        trained = (self._embeddings(vectors) @ self.weight.T + self.bias) / self.temperature
        if not self.hot:
            return trained
        added = logits_of([intent.row for intent in self.hot], self._shallow(vectors))
        return np.concatenate([trained, added], axis=1)

    def _embeddings(self, vectors: Floats) -> Floats:
        return vectors[..., : self.weight.shape[1]]

    def _shallow(self, vectors: Floats) -> Floats:
        return vectors[..., self.weight.shape[1] :]

    def with_intent(
        self, name: str, description: str, examples: Sequence[str], vectors: Floats, fit: Fit = fit_head
    ) -> "IntentSet":
        """The set with one more intent; one of the same name is replaced. Needs a bank."""
        bank = self.bank
        if bank is None:
            raise ValueError("intents can be added only where a bank was loaded")
        before = self.without_intent(name)
        old = bank.fitted_on
        row = fit(self._shallow(vectors), before.logits(vectors), self._shallow(old), before.logits(old))
        added = HotIntent(name, description, tuple(examples), vectors, row)
        return replace(before, hot=(*before.hot, added))

    def without_intent(self, name: str, fit: Fit = fit_head) -> "IntentSet":
        """The set as if the intent had never been added: those added after it are fitted again."""
        names = [intent.name for intent in self.hot]
        if name not in names:
            return self
        place = names.index(name)
        rest = replace(self, hot=self.hot[:place])
        for later in self.hot[place + 1 :]:
            rest = rest.with_intent(later.name, later.description, later.examples, later.vectors, fit)
        return rest

    def sparing(self, limit: float) -> "IntentSet":
        """The set with the last added row's bias as high as it is, or as low as it takes for the other intents to lose at
        most the share `limit` of the bank's checking rows to it.
        """
        assert self.bank is not None and self.hot, "nothing was added"
        rows = self.bank.is_check
        others = self.logits(self.bank.vectors[rows])
        own, others = others[:, -1], others[:, :-1]
        was_right = others.argmax(axis=1) == self.bank.labels[rows]
        leads = np.sort((own - others.max(axis=1))[was_right])[::-1]
        allowed = int(limit * len(others))
        if len(leads) <= allowed or leads[allowed] < 0:
            return self
        last = self.hot[-1]
        row = HotRow(last.row.weight, last.row.bias - float(leads[allowed]) - _ABOVE)
        return replace(self, hot=(*self.hot[:-1], replace(last, row=row)))

    def check_accuracy(self, only_specialists: bool = False) -> float:
        """Accuracy on the bank's checking rows, in [0, 1]; a row that goes to an added intent is wrong."""
        assert self.bank is not None
        rows = self.bank.is_check
        if only_specialists and GENERAL in self.trained:
            rows = rows & (self.bank.labels != self.trained.index(GENERAL))
        if not rows.any():
            return 1.0
        predicted = self.logits(self.bank.vectors[rows]).argmax(axis=1)
        return float((predicted == self.bank.labels[rows]).mean())

    def nearest(self, vector: Floats, count: int) -> tuple[NearestExample, ...]:
        """The example prompts most similar to a vector ([depths * hidden]) by its embedding, best first."""
        embedding = self._embeddings(vector)
        found: list[NearestExample] = []
        if self.bank is not None:
            vectors, labels, texts = self.bank.shown()
            found += [
                NearestExample(text=texts[row], intent=self.trained[labels[row]], similarity=similarity)
                for row, similarity in nearest_rows(self._embeddings(vectors), embedding, count)
            ]
        for intent in self.hot:
            found += [
                NearestExample(text=intent.examples[row], intent=intent.name, similarity=similarity)
                for row, similarity in nearest_rows(self._embeddings(intent.vectors), embedding, count)
            ]
        return tuple(sorted(found, key=lambda example: -example.similarity)[:count])
