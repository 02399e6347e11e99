"""The fast training path against plain PEFT on transformers: same loss, same gradients, same files."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from specialists.training.data import PromptGroup
from specialists.training.lora import TrainableModel, load_trainable
from specialists.training.method import pack_loss
from specialists.training.packing import build_pack
from specialists.training.sections import Lora

GROUPS = [
    PromptGroup((5, 9, 33, 21), ((41, 7, 300), (8,), (77, 78, 79, 80, 81))),
    PromptGroup((6, 200), ((12, 13),)),
    PromptGroup((90, 91, 92), ((14,), (15, 16))),
]
SHARED = [
    PromptGroup((5, 9, *rest), (answer,))
    for rest, answer in [((3, 4), (7, 8)), ((6,), (2,)), ((3, 1, 1), (4, 4))]
]
LORA = Lora(rank=4, alpha=8.0)


def randomize(model: TrainableModel) -> None:
    """B is zero in a fresh adapter, which would hide every mistake in A."""
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters.values():
        parameter.data.normal_(0.0, 0.2, generator=generator)


def plain_model(folder: Path, fast: TrainableModel) -> PeftModel:
    """transformers' eager attention and PEFT's own forward, with the fast model's weights."""
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    config = LoraConfig(
        r=LORA.rank, lora_alpha=LORA.alpha, target_modules=list(LORA.targets), task_type="CAUSAL_LM"
    )
    model = get_peft_model(base, config)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, parameter in fast.parameters.items():
            own[name].copy_(parameter)
    return model


def plain_loss(model: PeftModel, groups: list[PromptGroup]) -> torch.Tensor:
    """Every answer alone behind its own prompt."""
    total = torch.zeros(())
    for group in groups:
        for answer in group.answers:
            ids = torch.tensor([[*group.prompt_ids, *answer]])
            logits = model(input_ids=ids).logits[0, len(group.prompt_ids) - 1 : -1]
            total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum")
    return total


@pytest.mark.parametrize("groups", [GROUPS, SHARED], ids=["answers", "beginnings"])
@pytest.mark.parametrize("tiny", ["tiny_qwen2", "tiny_qwen3"])
def test_a_pack_has_the_loss_and_gradient_of_its_answers_alone(
    tiny: str, groups: list[PromptGroup], request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(tiny)
    fast = load_trainable(folder, LORA, seed=1, dtype=torch.float32)
    randomize(fast)
    plain = plain_model(folder, fast)

    loss = pack_loss(fast, build_pack(groups))
    expected = plain_loss(plain, groups)
    loss.backward()
    expected.backward()

    # float32 in another order of summation; the losses are about 60
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
    reference = dict(plain.named_parameters())
    for name, parameter in fast.parameters.items():
        torch.testing.assert_close(parameter.grad, reference[name].grad, rtol=1e-3, atol=1e-4, msg=name)


def test_the_same_groups_in_another_order_make_the_same_loss(tiny_qwen2: Path) -> None:
    model = load_trainable(tiny_qwen2, LORA, seed=1, dtype=torch.float32)
    randomize(model)
    one = pack_loss(model, build_pack(GROUPS))
    other = pack_loss(model, build_pack(GROUPS[::-1]))
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-4)


def test_only_the_adapter_is_trained_and_the_base_stays(tiny_qwen2: Path) -> None:
    model = load_trainable(
        tiny_qwen2, Lora(rank=2, targets=("q_proj", "v_proj")), seed=1, dtype=torch.float32
    )
    assert len(model.parameters) == 3 * 2 * 2  # layers, targets, A and B
    assert not model.head.requires_grad


def test_layers_below_first_layer_have_no_adapter(tiny_qwen2: Path) -> None:
    model = load_trainable(tiny_qwen2, Lora(rank=2, first_layer=2), seed=1, dtype=torch.float32)
    assert all(".layers.2." in name for name in model.parameters)
    with pytest.raises(ValueError, match="first_layer is 3, but the base has 3 layers"):
        load_trainable(tiny_qwen2, Lora(first_layer=3), seed=1)


def test_the_seed_decides_the_fresh_adapter(tiny_qwen2: Path) -> None:
    weights = [load_trainable(tiny_qwen2, LORA, seed=seed).parameters for seed in (3, 3, 4)]
    name = next(iter(weights[0]))
    assert torch.equal(weights[0][name], weights[1][name])
    assert not torch.equal(weights[0][name], weights[2][name])
    assert weights[0][name].dtype == torch.bfloat16


def test_what_is_saved_is_what_peft_reads(tiny_qwen2: Path, tmp_path: Path) -> None:
    model = load_trainable(tiny_qwen2, LORA, seed=1, dtype=torch.float32)
    randomize(model)
    model.save(tmp_path, base_name="tiny")
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert len(tensors) == 3 * 7 * 2
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in tensors
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["peft_type"]) == (4, 8.0, "LORA")
    assert config["base_model_name_or_path"] == "tiny"

    base = AutoModelForCausalLM.from_pretrained(tiny_qwen2, dtype=torch.float32)
    read = PeftModel.from_pretrained(base, tmp_path)
    ids = torch.tensor([[5, 9, 33, 21]])
    with torch.inference_mode():
        expected = plain_model(tiny_qwen2, model)(input_ids=ids).logits
        torch.testing.assert_close(read(input_ids=ids).logits, expected)
