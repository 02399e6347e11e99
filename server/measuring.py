"""The work behind `polymath evaluate`: opens what is to be measured, and measures it task by task.

Decides which tasks belong to whom, where reports go and what the stress test compares. Generation is the engine's
own, in this process, or that of a server at a URL; routing is the serving code path either way.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.console import Console

from server.dispatch import AUTO, BASE, Dispatcher
from server.fingerprints import ensemble_fingerprint, fingerprints, specialist_fingerprint
from server.loading import (
    base_model_id,
    configured_specialists,
    load_delegator,
    load_engine,
    one_core_thread,
    specialist_folders,
)
from server.settings import Settings, SettingsError
from specialists.adapters.files import CONFIG_FILE, WEIGHTS_FILE
from specialists.base_model import resolve_base, resolve_encoder
from specialists.evaluation.bootstrap import paired_difference
from specialists.evaluation.file_task import FileTask
from specialists.evaluation.generation import PROMPT_TOKENS_A_STEP, EngineGenerator, Generate
from specialists.evaluation.item_order import draw_items
from specialists.evaluation.remote import RemoteGenerator
from specialists.evaluation.report import Report
from specialists.evaluation.reuse import RecordedAnswers, ReusingGenerator
from specialists.evaluation.rewriting import RewrittenTask, rewritings_for
from specialists.evaluation.run import Subject, evaluate
from specialists.evaluation.task import Split, Task
from specialists.evaluation.task_registry import DOMAINS, get_task
from specialists.manifest import read_manifest

if TYPE_CHECKING:
    from specialists.adapters.registry import LoadedAdapter

ENSEMBLE = "ensemble"
ALL = "all"


class MeasuringError(ValueError):
    """What was asked for cannot be measured; the message says what there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure on. No tasks: those of the subject's domain, or of all domains."""

    tasks: tuple[str, ...]
    split: str
    limit: int | None
    seed: int
    out: Path
    stress: bool
    max_new_tokens: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Something that answers. `label` names its files; `subject` is what its reports say of it."""

    label: str
    subject: Subject
    open: Callable[[], AbstractContextManager[Generate]]


def open_specialist(settings: Settings, name: str, url: str | None) -> Measured:
    """A specialist by name or folder, or the base. Raises MeasuringError naming the specialists there are."""
    if url is not None:
        return _at_url(settings, name, None if name == BASE else name, url, name)
    folder = None if name == BASE else _find_specialist(settings, name)
    base = resolve_base(settings.base, settings.home)
    adapter = None if folder is None else read_manifest(folder).name
    subject = Subject(
        model=base_model_id(settings.base, base),
        adapter=adapter,
        fingerprint=specialist_fingerprint(base, folder),
        quantization=settings.quantization,
    )
    label = adapter or BASE

    @contextmanager
    def open_engine() -> Iterator[Generate]:
        engine, registry = load_engine(_offline(settings), base)
        yield EngineGenerator(engine, None if folder is None else registry.load(folder))

    return Measured(label=_label(label, settings), subject=subject, open=open_engine)


def open_ensemble(settings: Settings, url: str | None, recorded: Path | None = None) -> Measured:
    """The delegator and all specialists of the catalog; at a URL, the model `auto`.

    Answers that the chosen one already gave alone are taken from the folder `recorded`, if there is one.
    """
    if url is not None:
        return _at_url(settings, ENSEMBLE, ENSEMBLE, url, AUTO)
    base = resolve_base(settings.base, settings.home)
    resolve_encoder(settings.encoder, settings.home)
    subject = Subject(
        model=base_model_id(settings.base, base),
        adapter=ENSEMBLE,
        fingerprint=ensemble_fingerprint(settings, base),
        quantization=settings.quantization,
    )

    @contextmanager
    def open_engine() -> Iterator[Generate]:
        thread = one_core_thread("delegator")
        try:
            engine, registry = load_engine(_offline(settings), base)
            for folder in configured_specialists(settings, {}).values():
                registry.load(folder)
            delegator = thread.submit(load_delegator, settings).result()
            dispatcher = Dispatcher(delegator, registry, executor=thread)

            def choose(messages: Sequence[Any]) -> "LoadedAdapter | None":
                return asyncio.run(dispatcher.resolve(AUTO, messages)).adapter

            generate = EngineGenerator(engine, choose=choose)
            if recorded is None:
                yield generate
            else:
                answers = RecordedAnswers.read(
                    recorded, subject.model, subject.quantization, fingerprints(settings, base)
                )
                yield ReusingGenerator(generate, answers, lambda messages: _name(choose(messages)))
        finally:
            thread.shutdown()

    return Measured(label=_label(ENSEMBLE, settings), subject=subject, open=open_engine)


def measure(settings: Settings, plan: Plan, measured: Measured) -> list[Report]:
    """Measure task by task, write `<out>/<label>_<task>.json` each, and print a line each.

    Raises TaskDataError or MeasuringError before anything slow is opened.
    """
    if settings.data is None:
        raise SettingsError("where the public data sets are is not known; give --data or set POLYMATH_DATA")
    if plan.split not in get_args(Split):
        raise MeasuringError(f"no split {plan.split!r}; there are {', '.join(get_args(Split))}")
    tasks = [_task(name, plan) for name in _task_names(plan, measured)]
    items = {task.name: draw_items(task.load(settings.data), plan.seed, plan.limit) for task in tasks}
    subject = replace(measured.subject, split=plan.split, seed=plan.seed, limit=plan.limit)  # type: ignore[arg-type]
    console = Console(highlight=False, soft_wrap=True)
    reports: list[Report] = []
    with measured.open() as generate:
        for task in tasks:
            path = _report_path(plan, measured, task.name)
            report = _run(task, items[task.name], generate, subject, path, console)
            reports.append(report)
            if plan.stress:
                _stress(task, report, settings.data, generate, subject, path, console)
    return reports


def _run(
    task: Task[Any], items: Sequence[Any], generate: Generate, subject: Subject, path: Path, console: Console
) -> Report:
    report = evaluate(task, items, generate, subject, path.with_suffix(".answers.jsonl"))
    report.write(path)
    console.print(report.summary(), markup=False)
    return report


def _stress(
    task: FileTask[Any],
    plain: Report,
    data: Path,
    generate: Generate,
    subject: Subject,
    path: Path,
    console: Console,
) -> None:
    """The same items in each rewriting, and how much of the score is gone; `<report>.stress.json` holds the drops."""
    ids = plain.scores.keys()
    drops: dict[str, Any] = {}
    for rewriting in rewritings_for(task, task.load(data)):
        rewritten = RewrittenTask(task, rewriting, subject.seed)
        items = [item for item in rewritten.load(data) if item.id in ids]
        target = path.with_suffix(f".{rewriting}.json")
        report = _run(rewritten, items, generate, replace(subject, rewriting=rewriting), target, console)
        change = paired_difference(plain.scores, report.scores, subject.seed)
        drops[rewriting] = {
            "score": report.score,
            "change": change.mean,
            "interval": [change.low, change.high],
        }
        points = ", ".join(f"{100 * bound:+.1f}" for bound in (change.low, change.high))
        console.print(f"  {rewriting}: {100 * change.mean:+.1f} points [{points}]", markup=False)
    target = path.with_suffix(".stress.json")
    target.write_text(json.dumps({"task": task.name, "plain": plain.score, **drops}, indent=2) + "\n")


def _task_names(plan: Plan, measured: Measured) -> list[str]:
    everything = [name for names in DOMAINS.values() for name in names]
    if ALL in plan.tasks:
        return everything
    return list(plan.tasks) or list(DOMAINS.get(measured.subject.adapter or "", everything))


def _task(name: str, plan: Plan) -> FileTask[Any]:
    task = get_task(name, plan.split)  # type: ignore[arg-type]
    return task if plan.max_new_tokens is None else replace(task, max_new_tokens=plan.max_new_tokens)


def _report_path(plan: Plan, measured: Measured, task: str) -> Path:
    split = "" if plan.split == "test" else f"_{plan.split}"
    return plan.out / f"{measured.label}_{task}{split}.json"


def _label(name: str, settings: Settings) -> str:
    """For file names: reports of other bases and other precisions lie side by side."""
    base = (
        "" if settings.base == "default" else f"@{re.sub(r'[^A-Za-z0-9.-]+', '-', settings.base).strip('-')}"
    )
    return f"{name}{base}" + ("" if settings.quantization == "none" else f"-{settings.quantization}")


def _at_url(settings: Settings, label: str, adapter: str | None, url: str, model: str) -> Measured:
    key = settings.api_keys[0].get_secret_value() if settings.api_keys else None

    @contextmanager
    def open_client() -> Iterator[Generate]:
        client = RemoteGenerator(url, model, key, settings.max_num_seqs)
        try:
            yield client
        finally:
            client.close()

    safe = re.sub(r"[^A-Za-z0-9.-]+", "-", label)
    return Measured(label=f"{safe}-remote", subject=Subject(model=url, adapter=adapter), open=open_client)


def _find_specialist(settings: Settings, name: str) -> Path:
    folders = {folder.name: folder for folder in specialist_folders(settings, {})}
    folder = folders.get(name, Path(name).expanduser())
    if not all((folder / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE)):
        raise MeasuringError(
            f"no specialist {name!r} and no folder of that name with {CONFIG_FILE} and {WEIGHTS_FILE}; "
            f"there are base, "
            f"{', '.join(sorted(folders))}"
        )
    return folder


def _name(adapter: "LoadedAdapter | None") -> str:
    return BASE if adapter is None else adapter.name


def _offline(settings: Settings) -> Settings:
    """Nobody watches these answers grow: prompts are taken in large pieces."""
    step = max(PROMPT_TOKENS_A_STEP, settings.max_num_batched_tokens)
    return settings.model_copy(
        update={"max_num_batched_tokens": step, "max_prefill_tokens_while_decoding": step}
    )
