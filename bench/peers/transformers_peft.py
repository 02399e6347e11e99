"""transformers with PEFT, in process, bf16: one adapter at a time by `set_adapter`, and mixed by `adapter_names`."""

import sys
import time
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

NUM_STREAMS = 16
NUM_TOKENS = 64


def measure_in_process(base: Path, adapters: list[Path]) -> dict[str, Any]:
    """Tokens a second; without a server, so without a time to the first token."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
    peft_model = PeftModel.from_pretrained(model, adapters[0], adapter_name="0", autocast_adapter_dtype=False)
    for number, adapter in enumerate(adapters[1:], start=1):
        peft_model.load_adapter(adapter, adapter_name=str(number), autocast_adapter_dtype=False)
    peft_model.eval()
    names = [str(number) for number in range(len(adapters))]

    def rate(num_streams: int, **options: Any) -> float:
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": f"Question {i}: tell me something about the number {i}."}],
                tokenize=False,
                add_generation_prompt=True,
            )
            for i in range(num_streams)
        ]
        inputs = tokenizer(texts, return_tensors="pt", padding=True)
        start = time.perf_counter()
        with torch.inference_mode():
            peft_model.generate(
                **inputs, max_new_tokens=NUM_TOKENS, min_new_tokens=NUM_TOKENS, do_sample=False, **options
            )
        return round(num_streams * NUM_TOKENS / (time.perf_counter() - start), 1)

    def one_at_a_time() -> float:
        rates = []
        for name in names:
            peft_model.set_adapter(name)
            rates.append(rate(NUM_STREAMS // len(names)))
        return round(len(rates) / sum(1 / value for value in rates), 1)

    peft_model.set_adapter("0")
    rate(1)
    with peft_model.disable_adapter():
        base_rate, single = rate(NUM_STREAMS), rate(1)
    return {
        "base": base_rate,
        "one_adapter": rate(NUM_STREAMS),
        "four_adapters": rate(NUM_STREAMS, adapter_names=[names[i % len(names)] for i in range(NUM_STREAMS)]),
        "four_adapters_set_adapter": one_at_a_time(),
        "single_stream": single,
        "single_stream_adapter": rate(1),
    }


if __name__ == "__main__":
    import json

    print(json.dumps(measure_in_process(Path(sys.argv[1]), [Path(path) for path in sys.argv[2:]])))
