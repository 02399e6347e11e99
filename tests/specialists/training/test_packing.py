from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from specialists.training.data import PromptGroup
from specialists.training.packing import Segment, build_pack, group_into_steps, pack_groups, split_group

ids = st.lists(st.integers(0, 99), min_size=1, max_size=8).map(tuple)
groups_strategy = st.lists(
    st.builds(PromptGroup, ids, st.lists(ids, min_size=1, max_size=5).map(tuple)), min_size=1, max_size=20
)


def test_a_pack_runs_a_shared_prompt_once() -> None:
    pack = build_pack([PromptGroup((1, 2, 3), ((4, 5), (6,))), PromptGroup((7,), ((8, 9),))])
    assert pack.token_ids == (1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert pack.position_ids == (0, 1, 2, 3, 4, 3, 0, 1, 2)
    assert pack.segments == (Segment(0, 5, 0, 0), Segment(5, 6, 0, 3), Segment(6, 9, 6, 6))
    assert pack.loss_positions == (2, 3, 2, 6, 7)
    assert pack.targets == (4, 5, 6, 8, 9)
    assert pack.num_unshared_tokens == 5 + 4 + 3


def test_a_beginning_that_all_prompts_share_is_run_once() -> None:
    pack = build_pack(
        [PromptGroup((1, 2, 3), ((4,),)), PromptGroup((1, 2, 5), ((6, 7),)), PromptGroup((1, 2, 8), ((9,),))]
    )
    assert pack.token_ids == (1, 2, 3, 4, 5, 6, 7, 8, 9)
    assert pack.position_ids == (0, 1, 2, 3, 2, 3, 4, 2, 3)
    assert pack.segments == (Segment(0, 4, 0, 0), Segment(4, 7, 0, 2), Segment(7, 9, 0, 2))
    assert pack.loss_positions == (2, 4, 5, 7)
    same = build_pack([PromptGroup((1, 2), ((3,),)), PromptGroup((1, 2), ((4,),))])
    assert same.segments == (
        Segment(0, 3, 0, 0),
        Segment(3, 5, 0, 1),
    )  # its last token predicts, so it is run
    assert same.loss_positions == (1, 3)


@settings(max_examples=40, deadline=None)  # a busy machine is not a failure
@given(groups_strategy)
def test_packs_hold_every_answer_once_and_no_pack_is_too_long(groups: list[PromptGroup]) -> None:
    packs = pack_groups(groups, pack_tokens=20, seed=3)
    expected = Counter(answer for group in groups for answer in group.answers)
    targets = sum(len(answer) for answer in expected.elements())
    assert sum(len(pack.targets) for pack in packs) == targets
    assert all(len(pack.token_ids) <= 20 for pack in packs)
    assert sum(pack.num_unshared_tokens for pack in packs) == sum(g.num_unshared_tokens for g in groups)
    for pack in packs:
        covered = [place for one in pack.segments for place in range(one.start, one.end)]
        assert covered == list(range(len(pack.token_ids)))


@settings(max_examples=40, deadline=None)  # a busy machine is not a failure
@given(groups_strategy)
def test_splitting_a_group_keeps_its_answers_in_order(groups: list[PromptGroup]) -> None:
    for group in groups:
        parts = list(split_group(group, max_tokens=16))
        assert all(part.num_tokens <= 16 for part in parts)
        assert tuple(answer for part in parts for answer in part.answers) == group.answers


def test_the_order_is_random_by_the_seed() -> None:
    groups = [PromptGroup((index,), ((index, index),)) for index in range(40)]
    assert pack_groups(groups, 9, seed=1) == pack_groups(groups, 9, seed=1)
    assert pack_groups(groups, 9, seed=1) != pack_groups(groups, 9, seed=2)


def test_packs_are_almost_full() -> None:
    groups = [PromptGroup((index,) * (10 + index % 23), ((2,) * (5 + index % 17),)) for index in range(300)]
    packs = pack_groups(groups, pack_tokens=200, seed=1)
    share = sum(len(pack.token_ids) for pack in packs) / (200 * len(packs))
    assert share > 0.93


def test_a_short_rest_joins_the_last_step() -> None:
    packs = [build_pack([PromptGroup((1,), ((2,) * 9,))]) for _ in range(7)]
    assert [len(step) for step in group_into_steps(packs, step_tokens=30)] == [3, 4]
    assert [len(step) for step in group_into_steps(packs[:5], step_tokens=30)] == [3, 2]
    assert group_into_steps([], step_tokens=30) == []


def test_questions_on_one_document_share_a_pack_and_the_document() -> None:
    page, table = tuple(range(100, 250)), tuple(range(300, 420))
    on_page = [PromptGroup((*page, number, 9), ((7,),)) for number in range(5)]
    on_table = [PromptGroup((*table, number, 9), ((7,),)) for number in range(3)]
    alone = [PromptGroup((number, 5), ((6,),)) for number in range(10)]
    packs = pack_groups([*on_page, *alone, *on_table], pack_tokens=160, seed=1)
    sizes = sorted(len(pack.token_ids) for pack in packs if len(pack.groups) > 1)
    assert sum(len(pack.targets) for pack in packs) == 18
    assert max(sizes) <= 160
    documents = [pack for pack in packs if pack.groups[0] in (*on_page, *on_table)]
    assert sorted(len(pack.groups) for pack in documents) == [
        2,
        3,
        3,
    ]  # 150 + 3 * 3 tokens, 150 + 2 * 3, 120 + 3 * 3
    assert sorted(len(pack.token_ids) for pack in documents) == [129, 156, 159]
