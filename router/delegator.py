"""The delegator: a conversation in, a RoutingDecision out.

One forward pass of a small BERT, bounded for any length.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from router import lora, packed, weights_file
from router.calibration import Floats, softmax
from router.decision import RoutingDecision
from router.errors import DelegatorError
from router.messages import Utterance, last_utterance, message_text
from router.model import IntentModel, load_encoder, predict_logits
from router.policy import decide, nothing_to_classify, stands_alone
from router.tokenizing import PromptTokenizer

WEIGHTS = Path(__file__).with_name("weights")


class Delegator:
    """Reads a prompt and picks the intent. Immutable after construction: safe to call from any thread."""

    def __init__(
        self,
        model: IntentModel,
        tokenizer: PromptTokenizer,
        metadata: weights_file.RouterMetadata,
        threshold: float,
    ) -> None:
        if not 0.0 <= threshold <= 1.0:
            raise ValueError(f"threshold is {threshold}; it must be between 0 and 1")
        self._model = model.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self._metadata = metadata
        self.threshold = threshold

    @classmethod
    def from_folder(cls, encoder: Path, head: Path = WEIGHTS, threshold: float | None = None) -> "Delegator":
        """Loads the encoder, merges the trained part of the folder `head` into it.

        `threshold` replaces the fitted one. Raises DelegatorError naming the file when a folder is unusable or
        the trained part belongs to another encoder.
        """
        metadata, tensors = weights_file.load(head, encoder)
        plain = load_encoder(encoder)
        hidden = tensors["head.weight"].shape[1]
        if hidden != plain.config.hidden_size:
            raise DelegatorError(
                f"{head / weights_file.TENSORS} has a head over {hidden} dimensions; the encoder has "
                f"{plain.config.hidden_size}"
            )
        model = IntentModel(plain, len(metadata.intents))
        lora.merge(model.encoder, tensors)
        if packed.has_bfloat16():
            packed.pack(model.encoder)
        model.head.load_state_dict({"weight": tensors["head.weight"], "bias": tensors["head.bias"]})
        tokenizer = PromptTokenizer.from_folder(encoder, metadata.max_tokens)
        return cls(model, tokenizer, metadata, metadata.threshold if threshold is None else threshold)

    @property
    def intents(self) -> tuple[str, ...]:
        """The intents it tells apart, in the order of its outputs."""
        return self._metadata.intents

    @property
    def metadata(self) -> weights_file.RouterMetadata:
        """What the trained part declares: seed, temperature, encoder, held-out numbers."""
        return self._metadata

    def route(self, messages: Sequence[Mapping[str, Any]]) -> RoutingDecision:
        """Routes OpenAI chat messages by the user's last text; without any, the reason is EMPTY.

        Never raises on content: unknown parts, control characters and any length are read as far as they are text.
        """
        started = time.perf_counter()
        return self._route(last_utterance(messages), started)

    def route_text(self, text: str) -> RoutingDecision:
        """Routes one prompt as a conversation of one message."""
        started = time.perf_counter()
        return self._route(Utterance(text, "") if message_text(text) else None, started)

    def _route(self, utterance: Utterance | None, started: float) -> RoutingDecision:
        if utterance is None:
            return nothing_to_classify(self.threshold, _milliseconds_since(started))
        scores = self.scores(utterance.text)
        if utterance.history and not stands_alone(scores):
            scores = self.scores(utterance.text, utterance.history)
        return decide(scores, self.threshold, _milliseconds_since(started))

    def scores(self, text: str, history: str = "") -> dict[str, float]:
        """The calibrated probability of every intent, in one forward pass."""
        probabilities = softmax(self.logits([Utterance(text, history)])[0], self._metadata.temperature)
        return dict(zip(self._metadata.intents, probabilities.tolist(), strict=True))

    def logits(self, utterances: Sequence[Utterance]) -> Floats:
        """Uncalibrated logits, [utterances, intents]; many are batched by length."""
        encoded = [self._tokenizer.encode(utterance.text, utterance.history) for utterance in utterances]
        return predict_logits(self._model, encoded).double().numpy()


def _milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
