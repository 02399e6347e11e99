"""Reinforcement learning on a tiny model: the reward rises, a killed run continues, the parts are what they say."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from specialists.evaluation.task_registry import TASKS
from specialists.training.data import DataError, PromptGroup
from specialists.training.grpo import LogProbabilityReader, PolicyTerm
from specialists.training.lora import load_trainable
from specialists.training.losses import chunked_row_loss
from specialists.training.packing import build_pack
from specialists.training.run import train
from specialists.training.run_folders import Folders
from specialists.training.sections import Lora
from tests.specialists.training.toy_task import EarlyLetters

RECIPE = """
name = "tiny-player"
base = "tiny"
seed = 5
method = "grpo"
checkpoint_every_steps = 5
[lora]
rank = 4
[optimizer]
lr = 2e-2
[validation]
every_steps = 8
[grpo]
tasks = ["early"]
steps = 20
prompts_per_step = 4
num_generations = 8
max_new_tokens = 8
length_budget = 4
beta = 0.01
validation_items = 4
"""


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "early", EarlyLetters)


@pytest.fixture
def folders(tmp_path: Path, tiny_qwen2: Path) -> Folders:
    (tmp_path / "data").mkdir()
    return Folders(base=tiny_qwen2, data=(tmp_path / "data",), out=tmp_path / "adapter")


def run(folders: Folders, recipe: str = RECIPE) -> list[dict[str, Any]]:
    path = folders.out.with_suffix(".toml")
    path.write_text(recipe)
    train(path, folders, dtype=torch.float32)
    lines = (folders.run / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "reward" in row]


@pytest.mark.slow
def test_the_reward_rises(folders: Folders) -> None:
    steps = run(folders)
    first, last = (sum(row["reward"] for row in part) / 3 for part in (steps[:3], steps[-3:]))
    assert last > first + 0.15
    assert {"correct", "well_formed", "answer_tokens", "grad_norm", "tokens_per_second"} <= steps[0].keys()
    facts = json.loads((folders.out / "training.json").read_text())
    assert (facts["num_train_rows"], facts["num_validation_rows"]) == (20, 4)
    assert facts["best_loss"] < 0  # a mean reward, negated


@pytest.mark.slow
def test_a_killed_run_writes_the_same_answers_again(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    from specialists.training.grpo import GrpoMethod

    plain = GrpoMethod.batch

    def killed(self: GrpoMethod, step: int) -> Any:
        if step == 7:
            raise KeyboardInterrupt
        return plain(self, step)

    whole = run(Folders(base=folders.base, data=folders.data, out=folders.out.with_name("whole")))
    with monkeypatch.context() as patch:
        patch.setattr(GrpoMethod, "batch", killed)
        with pytest.raises(KeyboardInterrupt):
            run(folders)
    continued = run(folders)
    assert [row["reward"] for row in continued] == [row["reward"] for row in whole]


def test_too_few_items_are_an_error(folders: Folders) -> None:
    with pytest.raises(DataError, match=r"24 items, of which grpo\.validation_items \(30\)"):
        run(folders, RECIPE.replace("validation_items = 4", "validation_items = 30"))


def test_the_policy_term_is_the_policy_gradient_and_a_divergence() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(6, 16, generator=generator, requires_grad=True)
    head = torch.randn(40, 16, generator=generator)
    targets = torch.randint(0, 40, (6,), generator=generator)
    weights, reference = torch.randn(6, generator=generator), -3 * torch.rand(6, generator=generator)
    log_probabilities = torch.log_softmax(hidden @ head.t() / 1.5, dim=-1).gather(1, targets[:, None])[:, 0]
    difference = reference - log_probabilities
    expected = (0.1 * (difference.exp() - difference - 1) - weights * log_probabilities).sum()
    loss = chunked_row_loss(hidden, head, (PolicyTerm(targets, weights, reference, 0.1, 1.5),))
    torch.testing.assert_close(loss, expected)
    grads = [torch.autograd.grad(one, hidden)[0] for one in (loss, expected)]
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


def test_the_reference_is_the_bare_base(tiny_qwen2: Path) -> None:
    model = load_trainable(tiny_qwen2, Lora(rank=4), seed=1, dtype=torch.float32)
    pack = build_pack([PromptGroup((5, 9, 33), ((41, 7),))])

    def read() -> torch.Tensor:
        reader = LogProbabilityReader(torch.tensor(pack.targets), 1.0)
        with torch.no_grad():
            chunked_row_loss(model.predicting_states(pack), model.head, (reader,))
        return reader.values

    base = read()
    for parameter in model.parameters.values():
        parameter.data.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(read(), base, atol=0.1)
    with model.adapter_off():
        torch.testing.assert_close(read(), base)
