"""The scheduler without torch: who runs when, within which budgets, and that nothing is lost by preemption or abort."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from specialists.engine.config import EngineConfig
from specialists.engine.sampling_params import SamplingParams
from specialists.engine.scheduler import Scheduler
from specialists.engine.scheduler_output import BASE_SLOT, ScheduledSequence, SchedulerOutput
from specialists.engine.sequence import Sequence, SequenceStatus


def make_config(**changes: int) -> EngineConfig:
    defaults: dict[str, int] = {
        "max_num_seqs": 4,
        "block_size": 4,
        "num_blocks": 16,
        "max_num_batched_tokens": 16,
        "max_prefill_tokens_while_decoding": 6,
        "max_model_len": 64,
        "max_adapters": 2,
    }
    return EngineConfig(**{**defaults, **changes})  # type: ignore[arg-type]


def make_sequence(name: str, num_prompt: int, max_tokens: int = 8, adapter_id: int = 0) -> Sequence:
    # Tokens that differ by name, so that no prefix is shared unless a test wants it.
    tokens = [hash((name, position)) % 100_000 for position in range(num_prompt)]
    return Sequence(
        request_id=name,
        token_ids=tokens,
        num_prompt=num_prompt,
        params=SamplingParams(max_tokens=max_tokens),
        seed=0,
        max_total=num_prompt + max_tokens,
        adapter_id=adapter_id,
    )


def run_step(scheduler: Scheduler) -> SchedulerOutput:
    """Plan a step and pretend the model ran: each completing sequence gets a token and ends at its limit."""
    plan = scheduler.schedule()
    completing = [item for item in plan.scheduled if item.completes]
    scheduler.advance(plan)
    for item in completing:
        take_tokens(scheduler, item)
    return plan


def take_tokens(scheduler: Scheduler, item: ScheduledSequence) -> None:
    """The model says 7 whatever it is asked; guesses that say so too are right."""
    sequence = item.sequence
    for guess in (*item.draft, None):
        sequence.append(7)
        if len(sequence) >= sequence.max_total:
            scheduler.finish(sequence)
            return
        if guess != 7:
            return
        scheduler.confirm(sequence)


def test_prompt_is_taken_in_chunks_within_the_budget():
    scheduler = Scheduler(make_config())
    scheduler.add(make_sequence("long", 40))
    assert [run_step(scheduler).num_rows for _ in range(4)] == [16, 16, 8, 1]


def test_running_streams_decode_in_every_step_while_a_long_prompt_arrives():
    scheduler = Scheduler(make_config())
    scheduler.add(make_sequence("short", 4, max_tokens=20))
    run_step(scheduler)
    scheduler.add(make_sequence("long", 30))
    for _ in range(5):
        plan = run_step(scheduler)
        assert [item.sequence.request_id for item in plan.decodes] == ["short"]
        assert [item.num_tokens for item in plan.prefills] == [6]


def test_a_long_prompt_takes_ever_smaller_shares_of_the_steps_of_others():
    config = make_config(
        num_blocks=600, max_model_len=1200, max_num_batched_tokens=128, max_prefill_tokens_while_decoding=64
    )
    scheduler = Scheduler(config)
    scheduler.add(make_sequence("stream", 4, max_tokens=1000))
    run_step(scheduler)
    scheduler.add(make_sequence("long", 1100))
    shares = []
    while (plan := run_step(scheduler)).prefills:
        shares.append(plan.prefills[0].num_tokens)
    assert 1099 <= sum(shares) <= 1100  # a single token at the end runs as a decoding row
    assert shares[:-1] == sorted(shares[:-1], reverse=True)
    assert shares[0] > 2 * shares[-2]


def test_a_long_prompt_alone_is_not_held_back():
    scheduler = Scheduler(
        make_config(
            num_blocks=600,
            max_model_len=1200,
            max_num_batched_tokens=128,
            max_prefill_tokens_while_decoding=64,
        )
    )
    scheduler.add(make_sequence("long", 1100))
    assert [run_step(scheduler).prefills[0].num_tokens for _ in range(3)] == [128, 128, 128]


def test_admits_in_order_of_arrival_up_to_the_limit_of_sequences():
    scheduler = Scheduler(make_config(max_num_seqs=2))
    for name in "abc":
        scheduler.add(make_sequence(name, 3))
    run_step(scheduler)
    assert [sequence.request_id for sequence in scheduler.running] == ["a", "b"]
    assert [sequence.request_id for sequence in scheduler.waiting] == ["c"]


def test_youngest_is_preempted_when_blocks_run_out_and_comes_back():
    scheduler = Scheduler(make_config(num_blocks=4, max_model_len=16))
    first, second = make_sequence("first", 8, max_tokens=8), make_sequence("second", 8, max_tokens=8)
    scheduler.add(first)
    scheduler.add(second)
    run_step(scheduler)
    run_step(scheduler)
    assert second.status is SequenceStatus.WAITING
    assert scheduler.num_preemptions == 1
    while scheduler.has_unfinished:
        run_step(scheduler)
        scheduler.check_integrity()
    assert (first.num_completion, second.num_completion) == (8, 8)


def test_mixes_adapters_and_base_and_places_each_adapter_once():
    scheduler = Scheduler(make_config())
    for name, adapter_id in (("a", 5), ("b", 0), ("c", 9), ("d", 5)):
        scheduler.add(make_sequence(name, 3, adapter_id=adapter_id))
    plan = run_step(scheduler)
    assert [(p.adapter_id, p.slot) for p in plan.placements] == [(5, 0), (9, 1)]
    assert [item.slot for item in plan.prefills] == [0, BASE_SLOT, 1, 0]
    assert run_step(scheduler).placements == ()


def test_adapter_without_a_slot_is_passed_over_and_takes_the_first_that_gets_free():
    scheduler = Scheduler(make_config(max_adapters=1))
    first, blocked, other = (
        make_sequence("first", 3, max_tokens=2, adapter_id=1),
        make_sequence("blocked", 3, adapter_id=2),
        make_sequence("other", 3, adapter_id=0),
    )
    for sequence in (first, blocked, other):
        scheduler.add(sequence)
    run_step(scheduler)
    assert [sequence.request_id for sequence in scheduler.running] == ["first", "other"]
    run_step(scheduler)
    assert first.status is SequenceStatus.FINISHED
    plan = run_step(scheduler)
    assert [(p.adapter_id, p.slot) for p in plan.placements] == [(2, 0)]
    assert blocked.status is SequenceStatus.RUNNING


def test_a_flood_for_one_specialist_holds_up_no_other():
    """The first request of another adapter gets the next place that gets free, however many wait before it."""
    scheduler = Scheduler(make_config(max_num_batched_tokens=64))
    for number in range(40):
        scheduler.add(make_sequence(f"flood{number}", 3, max_tokens=3 + number % 4, adapter_id=1))
    run_step(scheduler)
    single = make_sequence("single", 3, adapter_id=2)
    scheduler.add(single)
    num_running_before = {sequence.request_id for sequence in scheduler.running}
    while single.status is SequenceStatus.WAITING:
        run_step(scheduler)
        admitted = {sequence.request_id for sequence in scheduler.running} - num_running_before
        assert admitted <= {"single"}, "the flood went first"


def test_within_one_adapter_arrival_decides():
    scheduler = Scheduler(make_config(max_num_seqs=1))
    for name in "abcd":
        scheduler.add(make_sequence(name, 3, max_tokens=1, adapter_id=3))
    order = [run_step(scheduler).prefills[0].sequence.request_id for _ in range(4)]
    assert order == list("abcd")


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), max_adapters=st.integers(1, 3))
def test_waiting_is_bounded_under_an_endless_flood(seed: int, max_adapters: int):
    """Other adapters never stop coming and hold all slots; the one without a slot is still served in bounded time."""
    chance = random.Random(seed)
    scheduler = Scheduler(make_config(max_adapters=max_adapters, num_blocks=64, max_num_batched_tokens=64))

    def arrive(number: int) -> None:
        adapter_id = 1 + number % (max_adapters + 1)
        scheduler.add(make_sequence(f"f{number}", 2, chance.randint(1, 6), adapter_id))

    for number in range(12):
        arrive(number)
    late = make_sequence("late", 2, 2, adapter_id=99)
    scheduler.add(late)
    # At most 12 were there before, and at most max_num_seqs (the patience) may overtake it; each takes 6 steps at most.
    for number in range(12, 12 + 6 * (12 + 4 + 4)):
        if late.status is not SequenceStatus.WAITING:
            break
        arrive(number)
        run_step(scheduler)
    assert late.status is not SequenceStatus.WAITING
    scheduler.check_integrity()


def test_what_a_failed_request_computed_is_not_shared():
    scheduler = Scheduler(make_config(num_blocks=32))
    first = make_sequence("failed", 12)
    scheduler.add(first)
    run_step(scheduler)
    scheduler.finish(first, forget=True)
    second = make_sequence("again", 12)
    second.token_ids = first.token_ids[:12]
    scheduler.add(second)
    assert scheduler.schedule().prefills[0].num_tokens == 12
    assert second.num_cached == 0
    scheduler.check_integrity()


def test_second_turn_computes_only_what_is_new():
    scheduler = Scheduler(make_config(num_blocks=32))
    first = make_sequence("chat", 12, max_tokens=5)
    scheduler.add(first)
    while scheduler.has_unfinished:
        run_step(scheduler)
    second = make_sequence("again", 20)
    second.token_ids[: len(first)] = first.token_ids
    scheduler.add(second)
    plan = scheduler.schedule()
    # 17 tokens are known, the last of them was sampled but never computed: four full blocks.
    assert plan.prefills[0].num_tokens == 4
    assert second.num_cached == 16


def test_finish_is_idempotent_and_works_in_every_state():
    scheduler = Scheduler(make_config())
    waiting, running = make_sequence("waiting", 3), make_sequence("running", 3)
    scheduler.add(running)
    run_step(scheduler)
    scheduler.add(waiting)
    for sequence in (waiting, running, waiting, running):
        scheduler.finish(sequence)
    assert not scheduler.has_unfinished
    scheduler.check_integrity()
    assert scheduler.blocks.num_free == 16


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), num_blocks=st.integers(8, 40), max_adapters=st.integers(1, 3))
def test_random_life_loses_nothing_and_ends_every_sequence(seed: int, num_blocks: int, max_adapters: int):
    chance = random.Random(seed)
    config = make_config(num_blocks=num_blocks, max_model_len=num_blocks * 4, max_adapters=max_adapters)
    scheduler = Scheduler(config)
    alive: list[Sequence] = []
    for number in range(30):
        num_prompt = chance.randint(1, 20)
        sequence = make_sequence(
            str(chance.randint(0, 3)), num_prompt, chance.randint(1, 32 - num_prompt), chance.randint(0, 4)
        )
        sequence.request_id = str(number)
        scheduler.add(sequence)
        alive.append(sequence)
        for _ in range(chance.randint(0, 3)):
            plan = run_step(scheduler)
            assert plan.num_rows <= config.max_num_batched_tokens
            assert len({item.slot for item in plan.scheduled if item.slot != BASE_SLOT}) <= max_adapters
            scheduler.check_integrity()
        if chance.random() < 0.2:
            scheduler.finish(chance.choice(alive))
            scheduler.check_integrity()
    for _ in range(2000):
        if not scheduler.has_unfinished:
            break
        assert not run_step(scheduler).is_empty, "work is waiting but nothing runs"
    assert all(sequence.status is SequenceStatus.FINISHED for sequence in alive)
    scheduler.check_integrity()
    assert scheduler.blocks.num_free == num_blocks
