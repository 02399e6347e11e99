"""Several prompt groups in one row of tokens, none of which sees another.

A pack is one row without padding. Each answer attends to its own prompt and to itself; a prompt that several
answers share, and a beginning that several prompts share, are computed once, and positions are those each answer
would have alone. So a pack gives every answer the same loss and gradient as a batch of its own.
Plain Python: tensors are made in
`attention.py` and `losses.py`.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from specialists.training.data import PromptGroup


@dataclass(frozen=True, slots=True)
class Segment:
    """Queries at `start:end` attend to all of `prefix_start:prefix_end` and causally to themselves."""

    start: int
    end: int
    prefix_start: int
    prefix_end: int


@dataclass(frozen=True, slots=True)
class Pack:
    """One row of tokens with its attention plan and its loss.

    `token_ids`, `position_ids`: one per token. `loss_positions[i]` is the place whose output predicts
    `targets[i]`; the last token of a shared prompt occurs once for each of its answers. `groups` is what was laid out.
    """

    token_ids: tuple[int, ...]
    position_ids: tuple[int, ...]
    segments: tuple[Segment, ...]
    loss_positions: tuple[int, ...]
    targets: tuple[int, ...]
    groups: tuple[PromptGroup, ...]

    @property
    def num_unshared_tokens(self) -> int:
        """Tokens there would be with each prompt repeated for each of its answers."""
        return sum(group.num_unshared_tokens for group in self.groups)


def build_pack(groups: Sequence[PromptGroup]) -> Pack:
    """Lay groups out one after the other: prompt, answer, answer, prompt, answer, ...

    Where every group has one answer, the beginning that all prompts have in common (the system's turn) is computed
    once, and stands only before the first.
    """
    num_shared = _common_beginning(groups)
    token_ids: list[int] = []
    position_ids: list[int] = []
    segments: list[Segment] = []
    loss_positions: list[int] = []
    targets: list[int] = []
    for place, group in enumerate(groups):
        skipped = num_shared if place else 0
        prompt = group.prompt_ids[skipped:]
        prompt_start, prompt_end = len(token_ids), len(token_ids) + len(prompt)
        for index, answer in enumerate(group.answers):
            # The first answer stands directly behind the prompt: both are one causal segment.
            start = len(token_ids)
            token_ids += [*prompt, *answer] if index == 0 else answer
            end = len(token_ids)
            answer_start = end - len(answer)
            prefix = (0, skipped) if skipped else (prompt_start, prompt_start if index == 0 else prompt_end)
            segments.append(Segment(start, end, *prefix))
            first_position = skipped if index == 0 else len(group.prompt_ids)
            position_ids += range(first_position, first_position + end - start)
            loss_positions += [prompt_end - 1, *range(answer_start, end - 1)]
            targets += answer
    return Pack(
        tuple(token_ids),
        tuple(position_ids),
        tuple(segments),
        tuple(loss_positions),
        tuple(targets),
        tuple(groups),
    )


def _common_beginning(groups: Sequence[PromptGroup]) -> int:
    """How many tokens all prompts begin with, less than any whole prompt; 0 where a prompt has several answers."""
    if len(groups) < 2 or any(len(group.answers) > 1 for group in groups):
        return 0
    # Between the smallest and the largest of them in the order of words lie all others.
    first, last = min(group.prompt_ids for group in groups), max(group.prompt_ids for group in groups)
    shortest = min(len(group.prompt_ids) for group in groups)
    for place in range(shortest - 1):
        if first[place] != last[place]:
            return place
    return shortest - 1


def split_group(group: PromptGroup, max_tokens: int) -> Iterator[PromptGroup]:
    """The group in parts that fit a pack each. Needs every single answer to fit with its prompt."""
    answers: list[tuple[int, ...]] = []
    size = len(group.prompt_ids)
    for answer in group.answers:
        if answers and size + len(answer) > max_tokens:
            yield PromptGroup(group.prompt_ids, tuple(answers))
            answers, size = [], len(group.prompt_ids)
        answers.append(answer)
        size += len(answer)
    yield PromptGroup(group.prompt_ids, tuple(answers))


def pack_groups(groups: Sequence[PromptGroup], pack_tokens: int, seed: int) -> list[Pack]:
    """Fill packs of at most `pack_tokens` tokens in a random order, each group into the first that has room.

    Questions on one document make packs of their own, which compute the document once. For the others only the last few
    open packs are tried: the order stays random, and packs end up almost full.
    """
    documents, others = _split_documents(groups)
    parts = [part for group in others for part in split_group(group, pack_tokens)]
    random.Random(seed).shuffle(parts)
    open_packs: list[list[PromptGroup]] = []
    done: list[list[PromptGroup]] = [part for group in documents for part in _fill(group, pack_tokens)]
    for part in parts:
        for content in open_packs:
            if sum(one.num_tokens for one in content) + part.num_tokens <= pack_tokens:
                content.append(part)
                break
        else:
            open_packs.append([part])
            if len(open_packs) > _MAX_OPEN_PACKS:
                done.append(open_packs.pop(0))
    contents = [*done, *open_packs]
    if documents:
        random.Random(seed).shuffle(contents)
    return [build_pack(content) for content in contents]


def _split_documents(groups: Sequence[PromptGroup]) -> tuple[list[list[PromptGroup]], list[PromptGroup]]:
    """Prompts with one answer that begin with the same `_DOCUMENT_TOKENS`, two and more together; and all others."""
    by_beginning: dict[tuple[int, ...], list[PromptGroup]] = defaultdict(list)
    others: list[PromptGroup] = []
    for group in groups:
        if len(group.answers) == 1 and len(group.prompt_ids) > _DOCUMENT_TOKENS:
            by_beginning[group.prompt_ids[:_DOCUMENT_TOKENS]].append(group)
        else:
            others.append(group)
    documents = [one for one in by_beginning.values() if len(one) > 1]
    return documents, [*others, *(one[0] for one in by_beginning.values() if len(one) == 1)]


def _fill(groups: Sequence[PromptGroup], pack_tokens: int) -> Iterator[list[PromptGroup]]:
    """The questions on one document in order, as many in a pack as fit with what they share computed once."""
    content: list[PromptGroup] = []
    for group in groups:
        if content and _shared_size([*content, group]) > pack_tokens:
            yield content
            content = []
        content.append(group)
    yield content


def _shared_size(groups: Sequence[PromptGroup]) -> int:
    return sum(group.num_tokens for group in groups) - _common_beginning(groups) * (len(groups) - 1)


# A system's turn is shorter, a page or a table is longer.
_DOCUMENT_TOKENS = 96
_MAX_OPEN_PACKS = 8


def group_into_steps(packs: Sequence[Pack], step_tokens: int) -> list[tuple[Pack, ...]]:
    """Consecutive packs until `step_tokens` tokens are together; a short rest joins the last step."""
    steps: list[list[Pack]] = [[]]
    for pack in packs:
        if sum(len(one.token_ids) for one in steps[-1]) >= step_tokens:
            steps.append([])
        steps[-1].append(pack)
    if len(steps) > 1 and sum(len(one.token_ids) for one in steps[-1]) < step_tokens / 2:
        rest = steps.pop()
        steps[-1] += rest
    return [tuple(step) for step in steps if step]
