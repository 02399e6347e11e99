"""Spanish SQuAD: the answer is a few words of a given Spanish text (public name: ccasimiro/squad_es, v1.1.0).

The file is the translated development set without what XQuAD shares with it. A twelfth of its documents (texts) is kept
from training and is the `test` here; the published one, XQuAD-es, is not read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from specialists.evaluation.context import fit_text
from specialists.evaluation.file_task import Files
from specialists.evaluation.short_answer import ShortAnswer, ShortItem
from specialists.evaluation.task import Message, Split

MAX_CONTEXT_TOKENS = 700  # estimated; the longest texts of the file are just below


@dataclass(frozen=True)
class SquadEs(ShortAnswer):
    """Asked in Spanish, articles dropped as the Spanish evaluation scripts do."""

    name = "squad_es"
    files: ClassVar[Files] = {"train": ("es_squad/squad_es.jsonl.gz",)}
    val_share = 0.08
    held_out: ClassVar[Split] = "test"
    instruction = "Responde solo con las palabras del texto que contestan la pregunta."
    language = "es"

    max_new_tokens: int = 48

    def group(self, row: Any) -> str:
        return str(row["context"])

    def parse(self, row: Any, row_id: str) -> Iterable[ShortItem]:
        answers = tuple(dict.fromkeys(answer["text"] for answer in row["answers"] if answer["text"]))
        context = fit_text(row["context"], MAX_CONTEXT_TOKENS)
        yield ShortItem(row_id, row["question"], answers, context)

    def prompt(self, item: ShortItem) -> list[Message]:
        return [{"role": "user", "content": f"{item.context}\n\n{item.question}\n\n{self.instruction}"}]
