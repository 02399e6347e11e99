import re

import pytest

from specialists.evaluation import provenance


def test_commit_and_machine() -> None:
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?|unknown", provenance.current_commit())
    assert re.search(r", \d+ cores, ", provenance.describe_machine())


def test_outside_a_checkout_the_commit_is_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setattr(provenance, "_ROOT", tmp_path_factory.mktemp("nowhere"))
    assert provenance.current_commit() == "unknown"
