import gzip
import json
from pathlib import Path

import pytest

from specialists.evaluation.task import Split, TaskDataError
from specialists.evaluation.tasks.gsm8k import GSM8K


def write_rows(data: Path, split: Split, rows: list[dict[str, str]]) -> None:
    (data / "gsm8k").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if split == "train":
        with gzip.open(data / "gsm8k/train.jsonl.gz", "wt") as file:
            file.write(text)
    else:
        (data / "gsm8k/test_first660.jsonl").write_text(text)


ROW = {"question": "Eggs?", "answer": "16 - 7 = <<16-7=9>>9\n9 * 2 = <<9*2=18>>18\n#### 1,018"}


@pytest.mark.parametrize("split", ["train", "test"])
def test_items_prompt_and_grade(tmp_path: Path, split: Split) -> None:
    write_rows(tmp_path, split, [ROW])
    task = GSM8K(split)
    (item,) = task.load(tmp_path)
    assert (item.id, item.question, item.answer) == (f"gsm8k/{split}/0", "Eggs?", 1018)
    assert task.reference(item) == "16 - 7 = 9\n9 * 2 = 18"
    (message,) = task.prompt(item)
    assert message["content"].startswith("Eggs?\n\n")
    assert "####" in message["content"]
    right = task.grade(item, "reasons\n#### 1018")
    assert (right.correct, right.well_formed, right.extracted) == (True, True, "1018")
    loose = task.grade(item, "It is $1,018.00.")
    assert (loose.correct, loose.well_formed) == (True, False)
    wrong = task.grade(item, "#### 18")
    assert (wrong.correct, wrong.well_formed, wrong.extracted) == (False, True, "18")
    assert task.grade(item, "no idea").extracted is None


def test_damaged_and_missing_data_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(TaskDataError, match=r"test_first660\.jsonl"):
        GSM8K().load(tmp_path)
    write_rows(tmp_path, "test", [{"question": "no answer"}])
    with pytest.raises(TaskDataError, match=r"test_first660\.jsonl, row 0"):
        GSM8K().load(tmp_path)
    (tmp_path / "gsm8k/test_first660.jsonl").write_text(json.dumps(ROW) + "\n{broken\n")
    with pytest.raises(TaskDataError, match=r"test_first660\.jsonl, line 2"):
        GSM8K().load(tmp_path)
    with pytest.raises(TaskDataError, match="no 'val' split"):
        GSM8K("val").load(tmp_path)
