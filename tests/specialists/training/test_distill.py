"""Whole distillation runs on tiny models: each way of learning brings the student nearer to its teacher."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from specialists.adapters.registry import AdapterRegistry
from specialists.engine.qwen_config import read_qwen_config
from specialists.tokenizer import ChatTokenizer
from specialists.training import distill_setup
from specialists.training.data import DataError, PromptGroup
from specialists.training.method_sections import Distill, LayerPair, Teacher
from specialists.training.packing import Pack, build_pack
from specialists.training.recipe import RecipeError
from specialists.training.run import train
from specialists.training.run_folders import Folders
from specialists.training.sections import BaseQuantization
from specialists.training.teacher import Lesson, LoadedTeacher, TeacherError, find_teacher
from specialists.training.teacher_cache import TeacherCache, TeacherCacheError, cache_folders
from tests.specialists.training.tiny_teacher import make_teacher

RECIPE = """
name = "tiny-pupil"
base = "tiny"
seed = 5
method = "distill"
checkpoint_every_steps = 2
[[sources]]
path = "rows.jsonl"
templates = ["{question}"]
[lora]
rank = 8
[optimizer]
lr = 1e-2
[batching]
epochs = 10
step_tokens = 300
pack_tokens = 160
max_seq_len = 120
[validation]
share = 0.0
[distill]
top_k = 8
max_new_tokens = 12
"""


@pytest.fixture(scope="module")
def teacher(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tiny_qwen2, tmp_path_factory.mktemp("teachers") / "wide")


@pytest.fixture
def folders(tmp_path: Path, tiny_qwen2: Path) -> Folders:
    rows = [{"question": f"What is {n} and {n}?", "completion": f"It is {2 * n}."} for n in range(16)]
    (tmp_path / "data").mkdir()
    (tmp_path / "data/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Folders(base=tiny_qwen2, data=(tmp_path / "data",), out=tmp_path / "adapter")


def run(
    folders: Folders, teacher: Path, settings: str, find: Callable[[str], Path] | None = None
) -> list[dict[str, float]]:
    path = folders.out.with_suffix(".toml")
    path.write_text(RECIPE + settings)
    train(path, folders, find_model=find or (lambda name: teacher), dtype=torch.float32)
    lines = (folders.run / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "loss" in row]


WAYS = {
    "forward": "answer_weight = 0\nlogit_weight = 1",
    "reverse": 'answer_weight = 0\nlogit_weight = 1\ndivergence = "reverse_kl"',
    "jsd": 'answer_weight = 0\nlogit_weight = 1\ndivergence = "jsd"\nbeta = 0.3\ntemperature = 2',
    "hidden": "answer_weight = 0.5\nlogit_weight = 0\nhidden_weight = 0.5\n"
    "layers = [{ student = 1, teacher = 0 }, { student = -1, teacher = -1 }]",
    "both": "answer_weight = 0.3\nlogit_weight = 0.4\nhidden_weight = 0.3",
    "teacher-written": 'answer_weight = 0.5\nlogit_weight = 0.5\nsequences = "teacher"\nsampling_temperature = 0',
    "student-written": 'answer_weight = 0\nlogit_weight = 1\nsequences = "student"',
    "8 bits": 'sequences = "teacher"\nsampling_temperature = 0\nteachers = [{ model = "wide", quantization = "int8" }]',
}
QUICK = {"forward", "teacher-written", "8 bits"}  # the others take seconds


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(settings, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, settings in WAYS.items()
    ],
)
def test_each_way_of_distillation_comes_nearer_to_the_teacher(
    folders: Folders, teacher: Path, settings: str
) -> None:
    steps = run(folders, teacher, settings)
    assert steps[-1]["loss"] < 0.8 * steps[0]["loss"]
    assert all(row["loss"] >= 0 for row in steps)
    adapter = AdapterRegistry(read_qwen_config(folders.base)).load(folders.out)
    assert adapter.rank == 8
    facts = json.loads((folders.out / "training.json").read_text(), parse_constant=pytest.fail)
    assert facts["best_loss"] is None  # nothing was kept out to look at
    names = load_file(folders.out / "adapter_model.safetensors")
    assert not any("projection" in name for name in names)


@pytest.mark.slow
def test_a_pupils_letters_are_watched(folders: Folders, teacher: Path) -> None:
    rows = [{"question": f"{n} is A. even B. odd", "completion": "AB"[n % 2]} for n in range(16)]
    (folders.data[0] / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps = run(folders, teacher, '[shortcut]\nlabels = ["A", "B"]\ncentered = 0.9\n')
    assert all(sum(row["answer_shares"].values()) == pytest.approx(1.0, abs=0.01) for row in steps)  # type: ignore[attr-defined]
    assert all(row["answer_divergence"] >= 0 for row in steps)
    assert steps[-1]["loss"] < steps[0]["loss"]


def test_what_a_teacher_says_of_a_token() -> None:
    lesson = Lesson(
        torch.tensor([[5, 3], [3, 8]]), torch.tensor([[-0.1, -3.0], [-0.5, -1.0]]), torch.zeros(0)
    )
    expected = torch.tensor(
        [[-3.0, -0.1], [-0.5, -1.0]]
    )  # 5 is not among the second row's: at most the least
    torch.testing.assert_close(lesson.log_probabilities_of((3, 5)), expected)


@pytest.mark.slow
def test_several_teachers_have_their_weights(
    folders: Folders, teacher: Path, tiny_qwen2: Path, tmp_path: Path
) -> None:
    other = make_teacher(tiny_qwen2, tmp_path / "other", hidden_size=64, seed=9)
    settings = 'answer_weight = 0\nlogit_weight = 1\n{}[[distill.teachers]]\nmodel = "{}"\nweight = {}\n'

    def losses(first: float, second: float) -> float:
        text = (
            settings.format("", "wide", first) + f'[[distill.teachers]]\nmodel = "other"\nweight = {second}\n'
        )
        out = Folders(base=folders.base, data=folders.data, out=tmp_path / f"adapter-{first}-{second}")
        return run(out, teacher, text, lambda name: other if name == "other" else teacher)[0]["loss"]

    only_first, only_second = losses(1, 1e-9), losses(1e-9, 1)
    assert losses(3, 1) == pytest.approx(0.75 * only_first + 0.25 * only_second, rel=1e-3)


@pytest.mark.slow
def test_the_teacher_reads_each_answer_once(
    folders: Folders, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill after some packs costs those not yet written; a finished cache loads no teacher at all."""
    read: list[int] = []
    plain = LoadedTeacher.teach

    def counted(self: LoadedTeacher, pack: object) -> object:
        if len(read) == 1:
            raise KeyboardInterrupt
        read.append(1)
        return plain(self, pack)  # type: ignore[arg-type]

    monkeypatch.setattr("specialists.training.teacher_cache._PACKS_PER_FILE", 1)
    with monkeypatch.context() as patch:
        patch.setattr(LoadedTeacher, "teach", counted)
        with pytest.raises(KeyboardInterrupt):
            run(folders, teacher, "")
    cache = next(folders.run.glob("lessons-*"))
    assert len(list(cache.iterdir())) == 1
    run(folders, teacher, "")
    written = {path: path.stat().st_mtime_ns for path in cache.iterdir()}

    def no_teacher(*arguments: object) -> None:
        raise AssertionError("the teacher was loaded again")

    monkeypatch.setattr(distill_setup, "LoadedTeacher", no_teacher)
    (folders.run / "checkpoint.pt").unlink()
    folders.out.rename(folders.out.with_name("first"))
    run(folders, teacher, "")
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == written


def test_a_damaged_cache_and_a_full_disk_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: Path
) -> None:
    groups = [PromptGroup((5, 9), ((7, 8),))]
    loaded = LoadedTeacher(teacher, Distill(top_k=2), 400, torch.float32)
    cache = TeacherCache([tmp_path / "lessons"])

    def no_space(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("specialists.training.teacher_cache.save_file", no_space)
        with pytest.raises(TeacherCacheError, match=r"No space left on device.*make room and resume"):
            cache.fill(groups, 100, lambda: loaded.teach)
    cache.fill(groups, 100, lambda: loaded.teach)
    assert cache.lesson(build_pack(groups)).ids.shape == (2, 2)
    (path,) = (tmp_path / "lessons").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(TeacherCacheError, match=r"lessons-00000\.safetensors cannot be read"):
        TeacherCache([tmp_path / "lessons"])


def test_a_deleted_file_is_asked_again_and_no_other_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, teacher: Path
) -> None:
    monkeypatch.setattr("specialists.training.teacher_cache._PACKS_PER_FILE", 1)
    groups = [PromptGroup((5, number), ((7, 8),)) for number in range(3)]
    loaded = LoadedTeacher(teacher, Distill(top_k=2), 400, torch.float32)
    TeacherCache([tmp_path]).fill(groups, 4, lambda: loaded.teach)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3
    files[1].unlink()
    again = TeacherCache([tmp_path])
    again.fill(groups, 4, lambda: loaded.teach)
    for cache in (again, TeacherCache([tmp_path])):
        assert [cache.lesson(build_pack([group])).ids.shape for group in groups] == [(2, 2)] * 3


@pytest.mark.parametrize("quantization", ["int8", "bnb-int8"])
def test_a_quantised_teacher_says_nearly_the_same(teacher: Path, quantization: BaseQuantization) -> None:
    pack = build_pack([PromptGroup((5, 9, 33), ((7, 8, 41),)), PromptGroup((5, 3), ((4, 6),))])
    settings = Distill(top_k=400, hidden_weight=1)
    plain, quantised = (
        LoadedTeacher(teacher, settings, 400, torch.float32, one).teach(pack)
        for one in ("none", quantization)
    )
    tokens = range(400)
    differences = plain.log_probabilities_of(tokens) - quantised.log_probabilities_of(tokens)
    assert 0 < differences.std() < 0.1 * plain.log_probabilities.float().std()
    distance = (plain.hidden - quantised.hidden).float().norm() / plain.hidden.float().norm()
    assert 0 < distance < 0.05


def test_what_was_said_with_hidden_states_serves_logits_too(tmp_path: Path, teacher: Path) -> None:
    groups = [PromptGroup((5, 9), ((7, 8),)), PromptGroup((5, 3), ((4, 6),))]
    plain, states = Distill(top_k=2), Distill(top_k=2, hidden_weight=1)
    asked = []

    def fill(settings: Distill, some: list[PromptGroup]) -> TeacherCache:
        loaded = LoadedTeacher(teacher, settings, 400, torch.float32)

        def teach(pack: Pack) -> Lesson:
            asked.append(len(pack.groups))
            return loaded.teach(pack)

        cache = TeacherCache(cache_folders(tmp_path, "t", settings))
        cache.fill(some, 100, lambda: teach)
        return cache

    fill(states, groups[:1])
    lesson = fill(plain, groups).lesson(build_pack(groups))
    assert asked == [1, 1]  # of the second answer alone
    assert torch.equal(
        lesson.ids, LoadedTeacher(teacher, plain, 400, torch.float32).teach(build_pack(groups)).ids
    )
    assert fill(states, groups).lesson(build_pack(groups)).hidden.shape[:2] == (1, 4)
    assert asked == [1, 1, 1]  # what was said without states does not serve where they are wanted
    assert cache_folders(tmp_path, "u", plain) != cache_folders(tmp_path, "t", plain)[:1]


def test_other_settings_ask_the_teacher_for_other_answers(
    folders: Folders, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = 'sequences = "teacher"\nsampling_temperature = 0'
    with monkeypatch.context() as patch:
        patch.setattr(f"{__name__}.RECIPE", RECIPE.replace("max_new_tokens = 12", "max_new_tokens = 1"))
        with pytest.raises(DataError, match="no answer of the teachers ended within 1 tokens"):
            run(folders, teacher, settings)
    assert run(folders, teacher, settings)
    assert len(list(folders.run.glob("teacher-answers-*.jsonl"))) == 2


def test_a_lesson_is_the_teachers_own_opinion(teacher: Path) -> None:
    from transformers import AutoModelForCausalLM

    groups = [PromptGroup((5, 9, 33), ((41, 7), (8,)))]
    settings = Distill(top_k=3, hidden_weight=1, layers=(LayerPair(student=-1, teacher=0),))
    lesson = LoadedTeacher(teacher, settings, 400, torch.float32).teach(build_pack(groups))
    model = AutoModelForCausalLM.from_pretrained(teacher, dtype=torch.float32)
    with torch.inference_mode():
        output = model(input_ids=torch.tensor([[5, 9, 33, 41]]), output_hidden_states=True)
    values, ids = torch.log_softmax(output.logits[0, 2:4], dim=-1).topk(3)
    assert torch.equal(lesson.ids[:2].long(), ids)
    torch.testing.assert_close(lesson.log_probabilities[:2].float(), values, rtol=2e-3, atol=2e-3)
    expected = output.hidden_states[1][0, 2:4]
    torch.testing.assert_close(lesson.hidden[0, :2].float(), expected, rtol=1e-2, atol=1e-2)


def test_a_teacher_with_another_vocabulary_or_too_few_layers_is_refused(
    teacher: Path, tiny_qwen2: Path, tmp_path: Path
) -> None:
    student = ChatTokenizer.from_folder(tiny_qwen2)
    assert find_teacher(Teacher(), student, lambda name: teacher) == teacher
    other = make_teacher(tiny_qwen2, tmp_path / "other")
    content = json.loads((other / "tokenizer.json").read_text())
    vocab = content["model"]["vocab"]
    vocab["zzz"] = vocab.pop(next(token for token in vocab if len(token) > 3 and token.isalpha()))
    content["model"]["merges"] = []
    (other / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(TeacherError, match=r"another vocabulary than the student: 2 tokens differ, such as"):
        find_teacher(Teacher(model="far"), student, lambda name: other)
    settings = Distill(hidden_weight=1, layers=(LayerPair(student=0, teacher=2),))
    with pytest.raises(TeacherError, match="the teacher's layer 2; it has 2"):
        LoadedTeacher(teacher, settings, 400, torch.float32)


def test_a_layer_the_student_does_not_have_is_refused(folders: Folders, teacher: Path) -> None:
    with pytest.raises(RecipeError, match="the student's layer 3; it has 3"):
        run(folders, teacher, "hidden_weight = 1\nlayers = [{ student = 3, teacher = 0 }]")
