"""Which tasks there are, by the name the command line and the recipes use."""

from collections.abc import Callable
from typing import Any

from specialists.evaluation.file_task import FileTask
from specialists.evaluation.task import Split, TaskDataError
from specialists.evaluation.tasks.aqua import AQuA
from specialists.evaluation.tasks.commonsenseqa import CommonsenseQA
from specialists.evaluation.tasks.competition_math import Aime2024, Math500
from specialists.evaluation.tasks.convfinqa import ConvFinQA
from specialists.evaluation.tasks.dolly import Dolly
from specialists.evaluation.tasks.gsm8k import GSM8K
from specialists.evaluation.tasks.gsm8k_forms import GSM8KBoxed, GSM8KOptions
from specialists.evaluation.tasks.headlines import Headlines
from specialists.evaluation.tasks.headqa import HeadQA
from specialists.evaluation.tasks.humaneval import HumanEval
from specialists.evaluation.tasks.mbpp import MBPP, MBPPStub
from specialists.evaluation.tasks.open_trivia import OpenTrivia, OpenTriviaShort
from specialists.evaluation.tasks.science_qa import ArcChallenge, ArcEasy, BoolQ, OpenBookQA
from specialists.evaluation.tasks.socialiqa import SocialIQA
from specialists.evaluation.tasks.squad_es import SquadEs
from specialists.evaluation.tasks.tatqa import TatQA
from specialists.evaluation.tasks.trivia import NaturalQuestions, TriviaQA, WebQuestions
from specialists.evaluation.tasks.winogrande import Winogrande

# Any: each task has its own type of item, which only the task itself looks into.
TASKS: dict[str, Callable[[Split], FileTask[Any]]] = {
    "aime2024": Aime2024,
    "aqua": AQuA,
    "arc_challenge": ArcChallenge,
    "arc_easy": ArcEasy,
    "boolq": BoolQ,
    "commonsenseqa": CommonsenseQA,
    "convfinqa": ConvFinQA,
    "dolly": Dolly,
    "gsm8k": GSM8K,
    "gsm8k_boxed": GSM8KBoxed,
    "gsm8k_options": GSM8KOptions,
    "headlines": Headlines,
    "headqa": HeadQA,
    "humaneval": HumanEval,
    "math500": Math500,
    "mbpp": MBPP,
    "mbpp_stub": MBPPStub,
    "nq": NaturalQuestions,
    "openbookqa": OpenBookQA,
    "opentriviaqa": OpenTrivia,
    "opentriviaqa_short": OpenTriviaShort,
    "socialiqa": SocialIQA,
    "squad_es": SquadEs,
    "tatqa": TatQA,
    "triviaqa": TriviaQA,
    "webquestions": WebQuestions,
    "winogrande": Winogrande,
}

# The domain of each specialist of the catalog: the tasks its gate and the table of the README measure.
DOMAINS: dict[str, tuple[str, ...]] = {
    "math": ("gsm8k", "math500", "aime2024", "aqua"),
    "code": ("humaneval", "mbpp"),
    "commonsense": ("winogrande", "commonsenseqa", "socialiqa"),
    "knowledge": ("triviaqa",),
    "finance": ("tatqa",),
    "spanish": ("headqa", "squad_es"),
}


def get_task(name: str, split: Split = "test") -> FileTask[Any]:
    """Raises TaskDataError naming the tasks there are."""
    if name not in TASKS:
        raise TaskDataError(f"no task {name!r}; there are {', '.join(sorted(TASKS))}")
    return TASKS[name](split)
