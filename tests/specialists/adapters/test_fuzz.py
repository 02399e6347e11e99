"""Whatever the bytes of an adapter's files are: it is loaded, or refused with an AdapterError. Never anything else.

10,000 cases in the slow run, some hundred in `make test-fast`. Most start from a good file, so that they get past the
first check.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specialists.adapters.checkpoint import read_checkpoint, read_folder_manifest
from specialists.adapters.errors import ERROR_CODES, AdapterError
from specialists.adapters.files import CONFIG_FILE, WEIGHTS_FILE
from specialists.engine.qwen_config import QwenConfig
from specialists.manifest import MANIFEST_FILE
from tests.specialists.adapters.tiny import write_adapter

# The smallest base there can be, so that a case takes a millisecond.
BASE = QwenConfig(
    architecture="qwen2",
    vocab_size=32,
    hidden_size=4,
    intermediate_size=8,
    num_layers=1,
    num_heads=2,
    num_kv_heads=1,
    head_dim=2,
    rms_norm_eps=1e-6,
    rope_theta=10000.0,
    max_position=32,
    tie_word_embeddings=True,
)
PEFT_FIELDS = (
    *("peft_type", "r", "lora_alpha", "target_modules", "bias", "use_rslora"),
    *(
        "use_dora",
        "modules_to_save",
        "rank_pattern",
        "alpha_pattern",
        "layers_to_transform",
        "layers_pattern",
    ),
    *("init_lora_weights", "task_type", "fan_in_fan_out", "lora_bias", "loftq_config"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_adapter(
        tmp_path_factory.mktemp("fuzz") / "poet",
        BASE,
        targets=("q_proj", "k_proj"),
        manifest={"name": "poet"},
    )


def repeat(thorough: bool, num_fast: int, num_thorough: int) -> Any:
    """Hypothesis' settings for one of the two runs of a property."""
    return settings(
        max_examples=num_thorough if thorough else num_fast,
        deadline=None,
        derandomize=not thorough,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


both = pytest.mark.parametrize(
    "thorough", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["fast", "thorough"]
)


def read_or_refuse(folder: Path) -> None:
    try:
        weights = read_checkpoint(folder, BASE, 8, torch.float32, 2**20).weights
        assert weights.pairs and 1 <= weights.rank <= 8
        assert all(pair.a.isfinite().all() and pair.b.isfinite().all() for pair in weights.pairs.values())
    except AdapterError as error:
        assert error.code in ERROR_CODES
        assert str(error).isascii() and len(str(error)) < 1000


def mutated(content: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Some stretches of the content replaced by other bytes."""
    for position, length, new in changes:
        start = position % (len(content) + 1)
        content = content[:start] + new + content[start + length :]
    return content


changes = st.lists(
    st.tuples(
        st.integers(0, 10_000),
        st.integers(0, 8),
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from([b"0", b"9", b"-1", b"[", b"]", b"{", b"}", b'"', b",", b":", b"null", b"1e9"]),
        ),
    ),
    min_size=1,
    max_size=4,
)
json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-1, 9),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["q_proj", "k_proj", "LORA", "none", "F32", "I64"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@both
def test_any_config(folder: Path, thorough: bool):
    good = (folder / CONFIG_FILE).read_bytes()

    @repeat(thorough, 100, 2500)
    @given(st.dictionaries(st.one_of(st.sampled_from(PEFT_FIELDS), st.text(max_size=8)), json_values))
    def check(fields: dict[str, Any]) -> None:
        (folder / CONFIG_FILE).write_text(json.dumps(json.loads(good) | fields))
        read_or_refuse(folder)

    _restoring(folder / CONFIG_FILE, check)


def check_damage(path: Path, thorough: bool, *budget: int) -> None:
    """Every byte may change, go, or come; or all of them."""
    good = path.read_bytes()

    @repeat(thorough, *budget)
    @given(st.one_of(st.binary(max_size=200), changes.map(lambda found: mutated(good, found))))
    def check(content: bytes) -> None:
        path.write_bytes(content)
        read_or_refuse(path.parent)

    _restoring(path, check)


@both
def test_any_damage_to_the_config(folder: Path, thorough: bool):
    check_damage(folder / CONFIG_FILE, thorough, 200, 2000)


@both
def test_any_damage_to_the_weights(folder: Path, thorough: bool):
    """Lengths, headers, values."""
    check_damage(folder / WEIGHTS_FILE, thorough, 150, 2500)


@both
def test_any_header_of_the_right_length(folder: Path, thorough: bool):
    """Damage inside the JSON, with a length that still fits: what only a parser would stumble over."""
    good = (folder / WEIGHTS_FILE).read_bytes()
    length = int.from_bytes(good[:8], "little")
    header, data = json.loads(good[8 : 8 + length]), good[8 + length :]
    names = [name for name in header if name != "__metadata__"]

    @repeat(thorough, 150, 2000)
    @given(
        st.one_of(
            changes.map(lambda found: mutated(json.dumps(header).encode(), found)),
            st.tuples(
                st.sampled_from([*names, "__metadata__", "other"]),
                st.one_of(
                    json_values,
                    st.fixed_dictionaries(
                        {
                            "dtype": st.sampled_from(["F32", "F16", "BF16", "I8", "F64", "F99"]),
                            "shape": st.lists(st.integers(-1, 9), max_size=3),
                            "data_offsets": st.lists(st.integers(-1, 300), max_size=3),
                        }
                    ),
                ),
            ).map(lambda pair: json.dumps(header | {pair[0]: pair[1]}).encode()),
        )
    )
    def check(content: bytes) -> None:
        (folder / WEIGHTS_FILE).write_bytes(len(content).to_bytes(8, "little") + content + data)
        read_or_refuse(folder)

    _restoring(folder / WEIGHTS_FILE, check)


@both
def test_any_manifest(folder: Path, thorough: bool):
    good = (folder / MANIFEST_FILE).read_bytes()

    @repeat(thorough, 100, 1000)
    @given(
        st.one_of(
            st.binary(max_size=200),
            changes.map(lambda found: mutated(good, found)),
            json_values.map(lambda value: json.dumps(value).encode()),
        )
    )
    def check(content: bytes) -> None:
        (folder / MANIFEST_FILE).write_bytes(content)
        try:
            assert read_folder_manifest(folder).name
        except AdapterError as error:
            assert error.code in ("manifest_invalid", "name_invalid")

    _restoring(folder / MANIFEST_FILE, check)


def _restoring(path: Path, check: Callable[[], None]) -> None:
    good = path.read_bytes()
    try:
        check()
    finally:
        path.write_bytes(good)
