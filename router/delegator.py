"""The delegator: a conversation in, a RoutingDecision out.

One forward pass of a small BERT, bounded for any length; intents can be added and removed while it serves.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from router import weights_file
from router.added import COST_LIMIT, LEAST_RECALL, MIN_EXAMPLES, RECALL_WARNING, AddedIntent
from router.bank import load_bank
from router.calibration import Floats
from router.classifier import Classifier
from router.decision import RoutingDecision, RoutingOptions
from router.errors import DelegatorError
from router.intent_set import IntentSet
from router.intents import GENERAL
from router.messages import Utterance, last_utterance, message_text
from router.policy import Policy, decide, nothing_to_classify, restrict, stands_alone
from router.session import SessionStore, Turn, session_keys

WEIGHTS = Path(__file__).with_name("weights")
NUM_NEAREST = 5
_PLAIN = RoutingOptions()

Messages = Sequence[Mapping[str, Any]]


class Delegator:
    """Reads prompts and picks intents. Safe to call from any thread: a decision sees one set of intents throughout."""

    def __init__(
        self,
        classifier: Classifier,
        intents: IntentSet,
        policy: Policy,
        metadata: weights_file.RouterMetadata,
        sessions: SessionStore | None = None,
    ) -> None:
        self._classifier = classifier
        self._intents = intents  # replaced as a whole, never changed
        self._changing = threading.Lock()
        self._sessions = sessions or SessionStore()
        self.policy = policy
        self.metadata = metadata

    @classmethod
    def from_folder(cls, encoder: Path, head: Path = WEIGHTS, threshold: float | None = None) -> "Delegator":
        """Loads the encoder, merges the trained part of the folder `head` into it.

        `threshold` replaces the fitted ones. Raises DelegatorError naming the file when a folder is unusable or
        the trained part belongs to another encoder, ValueError for a threshold that is no probability.
        """
        metadata, tensors = weights_file.load(head, encoder)
        classifier = Classifier.load(encoder, tensors, metadata.max_tokens, head / weights_file.TENSORS)
        intents = IntentSet(
            trained=metadata.intents,
            weight=tensors["head.weight"].double().numpy(),
            bias=tensors["head.bias"].double().numpy(),
            temperature=metadata.temperature,
            bank=load_bank(head, weights_file.sha256_of(head / weights_file.TENSORS), classifier.width),
        )
        policy = metadata.policy
        if threshold is not None:
            policy = replace(policy, threshold=threshold, by_intent={})
        return cls(classifier, intents, policy, metadata)

    @property
    def intents(self) -> tuple[str, ...]:
        """The intents it tells apart now, in the order of its scores."""
        return self._intents.names

    @property
    def known(self) -> IntentSet:
        """The intents at this moment, as an immutable set."""
        return self._intents

    @property
    def threshold(self) -> float:
        """The threshold of intents that have none of their own."""
        return self.policy.threshold

    def route(self, messages: Messages, options: RoutingOptions = _PLAIN) -> RoutingDecision:
        """Routes OpenAI chat messages by the user's last text; without any, the reason is EMPTY.

        Never raises on content: unknown parts, control characters and any length are read as far as they are text.
        """
        return self.route_many([messages], options)[0]

    def route_text(self, text: str, options: RoutingOptions = _PLAIN) -> RoutingDecision:
        """Routes one prompt as a conversation of one message."""
        return self.route([{"role": "user", "content": text}], options)

    def route_many(
        self, conversations: Sequence[Messages], options: RoutingOptions = _PLAIN
    ) -> list[RoutingDecision]:
        """Routes many conversations as `route` routes each, in batches. `route_ms` is each one's share of the time."""
        started = time.perf_counter()
        intents = self._intents
        keys = [session_keys(messages, options) for messages in conversations]
        turns = [self._sessions.get(key.found_under) for key in keys]
        read = [
            _with_session(last_utterance(messages), turn)
            for messages, turn in zip(conversations, turns, strict=True)
        ]
        said = [utterance for utterance in read if utterance is not None]
        readings = iter(self._read(said, intents, options))
        share = (time.perf_counter() - started) * 1000 / max(1, len(conversations))
        decisions = []
        for utterance, turn, key in zip(read, turns, keys, strict=True):
            if utterance is None:
                decisions.append(nothing_to_classify(self.policy, share))
                continue
            scores, is_alone, vector = next(readings)
            session = None if turn is None else turn.state
            decision = decide(scores, self.policy, share, session=session, is_alone=is_alone)
            if options.remember:
                self._remember(key.kept_under, decision, turn, utterance.text, is_alone)
            if options.explain:
                decision = replace(decision, nearest=intents.nearest(vector, NUM_NEAREST))
            decisions.append(decision)
        return decisions

    def _remember(
        self, key: str, decision: RoutingDecision, turn: Turn | None, text: str, is_alone: bool
    ) -> None:
        intent = decision.intent if decision.accepted else GENERAL
        if turn is None:
            self._sessions.put(key, intent, 1, text)
            return
        # With the base any subject may follow any other: the latest is the topic.
        goes_on = intent == turn.state.intent != GENERAL and not is_alone
        self._sessions.put(key, intent, turn.state.turns + 1, turn.topic if goes_on else text)

    def _read(
        self, utterances: Sequence[Utterance], intents: IntentSet, options: RoutingOptions
    ) -> list[tuple[dict[str, float], bool, Floats]]:
        """For each: its scores, whether they are of the last message alone, and the last message's embedding."""
        vectors = self._classifier.embed([Utterance(u.text, "") for u in utterances])
        alone = _distributions(intents, vectors, options)
        clear = [stands_alone(scores, self.policy) for scores in alone]
        in_context = [
            i for i, u in enumerate(utterances) if u.history and not clear[i]
        ]  # read again, with the message before
        both = self._classifier.embed([utterances[i] for i in in_context])
        joint = dict(zip(in_context, _distributions(intents, both, options), strict=True))
        return [(joint.get(i, alone[i]), clear[i], vectors[i]) for i in range(len(utterances))]

    def scores(self, text: str, history: str = "") -> dict[str, float]:
        """The calibrated probability of every intent, in one forward pass."""
        intents = self._intents
        return _distributions(intents, self._classifier.embed([Utterance(text, history)]), _PLAIN)[0]

    def embed(self, utterances: Sequence[Utterance]) -> Floats:
        """What intents are told apart by, [utterances, depths * hidden] (`Classifier.embed`)."""
        return self._classifier.embed(utterances)

    def add_intent(
        self, name: str, description: str, examples: Sequence[str], *, force: bool = False
    ) -> AddedIntent:
        """Makes a new intent routable from its examples; an added one of the same name is replaced.

        It takes at most half a point of held-out prompts from the other intents, and is refused when it then finds fewer
        than half of its own examples; `force` overrules both. Raises
        DelegatorError for a name that was trained, or fewer than four different examples with text.
        """
        started = time.perf_counter()
        if not name.strip() or name in self._intents.trained:
            raise DelegatorError(f"{name!r} cannot be added: it is empty or an intent of the trained part")
        distinct = tuple(dict.fromkeys(text for text in examples if message_text(text)))
        if len(distinct) < MIN_EXAMPLES:
            raise DelegatorError(
                f"the intent {name!r} has {len(distinct)} different examples with text; at least "
                f"{MIN_EXAMPLES} are needed"
            )
        vectors = self._classifier.embed([Utterance(text, "") for text in distinct])
        with self._changing:
            before = self._intents.without_intent(name)
            after = before.with_intent(name, description, distinct, vectors)
            if not force:
                after = after.sparing(COST_LIMIT / 100)
            outcome = _outcome(before, after, name, vectors, force, started)
            if outcome.accepted:
                self._intents = after
        return outcome

    def remove_intent(self, name: str) -> bool:
        """Forgets an added intent, as if it had never been; False when there is none of this name."""
        with self._changing:
            before = self._intents
            self._intents = before.without_intent(name)
            return self._intents is not before


def _with_session(utterance: Utterance | None, turn: Turn | None) -> Utterance | None:
    """The utterance in the context of its conversation's topic, where there is one, not of the message before."""
    if utterance is None or turn is None:
        return utterance
    return Utterance(utterance.text, turn.topic)


def _distributions(intents: IntentSet, vectors: Floats, options: RoutingOptions) -> list[dict[str, float]]:
    names = intents.names
    return [
        restrict(dict(zip(names, row, strict=True)), options.candidates)
        for row in intents.probabilities(vectors).tolist()
    ]


def _outcome(
    before: IntentSet, after: IntentSet, name: str, vectors: Floats, force: bool, started: float
) -> AddedIntent:
    cost = 100 * (before.check_accuracy() - after.check_accuracy())
    specialists = 100 * (before.check_accuracy(True) - after.check_accuracy(True))
    recall = float((after.logits(vectors).argmax(axis=1) == len(after.names) - 1).mean())
    flags = []
    if cost > COST_LIMIT:
        flags.append(f"the other intents lose {cost:.1f} points on held-out prompts (allowed: {COST_LIMIT})")
    if recall < RECALL_WARNING:
        flags.append(f"only {recall:.0%} of its own examples are routed to it")
    accepted = (cost <= COST_LIMIT and recall >= LEAST_RECALL) or force
    if accepted:
        message = "; ".join([f"{name!r} is routable from {len(vectors)} examples", *flags])
    else:
        why = flags[0] if flags else f"only {recall:.0%} of its own examples are routed to it"
        message = f"{name!r} is refused: {why}"
    return AddedIntent(
        name=name,
        accepted=accepted,
        cost_points=cost,
        specialist_cost_points=specialists,
        example_recall=recall,
        flags=tuple(flags),
        message=message,
        ms=(time.perf_counter() - started) * 1000,
    )
