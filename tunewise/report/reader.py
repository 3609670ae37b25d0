"""Reads a run folder into records; what is damaged is refused with what to do about it.

`run.json` and `task.json` make a folder a run folder; without them there is nothing to report. An interrupted run
has no leaderboard yet, and its page says so; a file that should be there by the journal, and is not, is damage.

>>> read_run(Path("runs/tickets")).recommendation.pick  # doctest: +SKIP
'lora'
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunewise.errors import CandidateError
from tunewise.report.journal import fold
from tunewise.report.records import (
    PLAIN_NAME,
    Answered,
    Band,
    Cost,
    Difference,
    Finalist,
    Learning,
    LearningCurve,
    Recommendation,
    Run,
)
from tunewise.run_files import (
    DERIVED,
    PREDICTIONS,
    Fields,
    Interval,
    mending,
    predictions_of,
    read_json,
    read_lines,
    read_table,
)
from tunewise.task import Choices, TaskSpec

FORMAT = 1


def read_run(folder: Path) -> Run:
    """The records of the run in `folder`; raises CandidateError when it is not a run folder, or damaged."""
    if not folder.is_dir():
        raise CandidateError(
            f"{folder}: no such folder; expected a run folder such as runs/NAME. Try `tunewise runs`."
        )
    info, task = _head(folder, "run.json"), _head(folder, "task.json")
    journal = folder / "trials.jsonl"
    events = list(read_lines(journal, torn_end=True))
    trials, messages = fold(events)
    finalists = _finalists(folder)
    recommendation = _recommendation(folder)
    _check_whole(folder, events)
    name = recommendation.pick if recommendation else ""
    trial = next((row.trial for row in finalists or () if name and row.candidate == name), "")
    return Run(
        folder=folder,
        info=info,
        task=task,
        spec=_spec(task),
        trials=trials if journal.exists() else None,
        messages=messages,
        finalists=finalists,
        recommendation=recommendation,
        answers=_answers(folder, trial),
    )


def _check_whole(folder: Path, events: Sequence[Fields]) -> None:
    """Raise CandidateError for a file that the journal tells of and that is missing or damaged."""
    predictions = folder / PREDICTIONS
    written = [name for name in DERIVED if (folder / name).exists()]
    if not (folder / "trials.jsonl").exists() and (written or any(predictions.glob("*.jsonl"))):
        raise CandidateError(f"trials.jsonl is missing, but trials were run. {mending('trials.jsonl')}")
    repeats = {event.text("trial") for event in events if event.text("repeats")}
    awaited: set[str] = set()
    """Finalists by method, and trials with another seed, whose end is not told yet."""
    chosen = tested = False
    for event in events:
        kind, trial = event.needed("event"), event.text("trial")
        ours = trial if trial in repeats else trial.rpartition("-")[0]
        if kind in ("screened", "nominated"):
            chosen = True
            before = awaited if kind == "screened" else awaited & repeats
            awaited = before | {str(name) for name in event.items("finalists")}
        elif kind == "finished" and trial in repeats:
            awaited.add(ours)
        elif kind in ("tested", "failed", "pruned"):
            awaited.discard(ours)
        if kind == "tested" and trial not in repeats:  # what another seed answered is evidence that may be missed
            tested = True
            _check_tested(predictions, trial, event)
    missing = [name for name in DERIVED if name not in written]
    if chosen and tested and not awaited and missing:  # where all of them failed, nothing is written
        raise CandidateError(
            f"{missing[0]} is missing, but trials.jsonl says that all finalists were tested. {mending(missing[0])}"
        )


def _check_tested(predictions: Path, trial: str, event: Fields) -> None:
    if not PLAIN_NAME.fullmatch(trial):
        raise event.wrong("trial", "the name of a trial")
    path = predictions / f"{trial}-test.jsonl"
    if not path.exists():
        raise CandidateError(
            f"predictions/{path.name} is missing, but {event.where} says that {trial} was tested. Restore it "
            "from a copy, or run `tunewise resume`, which has the candidate answer again."
        )
    if not [_answered(line) for line in read_lines(path)]:
        raise CandidateError(f"predictions/{path.name}: found no predictions. {mending('predictions/')}")


def _head(folder: Path, name: str) -> Fields:
    fields = read_json(folder / name)
    if fields is None:
        raise CandidateError(
            f"{folder}: not a run folder, {name} is missing. Expected a folder that `tunewise compare` wrote."
        )
    if fields.count("format") != FORMAT:
        raise CandidateError(
            f"{folder / name}: format {fields.values.get('format')!r}; this version reads format {FORMAT}. "
            "Build the page with the version of Tunewise that wrote the run."
        )
    return fields


def _spec(task: Fields) -> TaskSpec:
    try:
        spec = TaskSpec.from_json(task.section("spec").values)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CandidateError(f"{task.where}, spec: cannot be read ({error!r}). {mending(task.where)}") from None
    answer = (*spec.answer.labels, *spec.answer.words) if isinstance(spec.answer, Choices) else spec.answer.stop
    texts = (spec.kind, spec.instruction, spec.metric, spec.group or "", *spec.inputs, *answer)
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if wrong is not None:
        raise CandidateError(f"{task.where}, spec: found {wrong!r}, expected text. {mending(task.where)}")
    return spec


def _finalists(folder: Path) -> tuple[Finalist, ...] | None:
    rows = read_table(folder / "leaderboard.csv", ("candidate", "method", "score", "status"))
    return None if rows is None else tuple(_finalist(row) for row in rows)


def _finalist(row: Fields) -> Finalist:
    low, high = row.number("ci_low"), row.number("ci_high")
    return Finalist(
        candidate=row.needed("candidate"),
        method=row.text("method"),
        family=row.text("family"),
        model=row.text("model"),
        trial=row.text("trial"),
        score=row.number("score"),
        interval=None if low is None or high is None else Interval(low, high),
        validation_score=row.number("validation_score"),
        fit_seconds=row.number("fit_seconds"),
        ms_per_example=row.number("ms_per_example"),
        prompt_tokens=row.number("prompt_tokens"),
        trainable_parameters=row.count("trainable_parameters"),
        artifact_mb=row.number("artifact_mb"),
        valid_rate=row.number("valid_rate"),
        status=row.text("status"),
    )


def _recommendation(folder: Path) -> Recommendation | None:
    fields = read_json(folder / "recommendation.json")
    if fields is None:
        return None
    others = fields.section("differences")
    found = {name: _difference(others, name) for name in others.values}
    return Recommendation(
        pick=fields.text("pick"),
        status=fields.text("status"),
        score=fields.number("score"),
        interval=fields.interval("ci"),
        reasons=fields.texts("reasons"),
        warnings=fields.texts("warnings"),
        tied_with=fields.texts("tied_with"),
        runner_up=fields.text("runner_up"),
        difference=_difference(fields, "difference"),
        differences={name: value for name, value in found.items() if value is not None},
        margin=fields.number("margin"),
        metric=fields.text("metric"),
        n_test=fields.count("n_test"),
        folds=fields.count("folds") or 0,
        smallest_margin_shown=fields.number("smallest_margin_shown"),
        nominee=fields.text("nominee"),
        next_commands=fields.texts("next_commands"),
        sources=fields.texts("sources"),
        conditions=fields.texts("conditions"),
        costs={name: _cost(fields, name) for name in fields.section("costs").values},
        front=fields.texts("front"),
        updates=fields.section("demand").number("updates"),
        learning=_learning(fields.section("learning")),
    )


def _learning(fields: Fields) -> Learning | None:
    labels = fields.count("labels")
    candidates = fields.section("candidates")
    curves = tuple(_curve(name, candidates.section(name)) for name in candidates.values)
    curves = tuple(curve for curve in curves if curve.scores)
    if not labels or not curves:
        return None
    constant = fields.section("constant")
    known = {name: constant.number(name) for name in constant.values}
    return Learning(
        labels=labels,
        validation=fields.count("validation") or 0,
        curves=curves,
        constant={name: value for name, value in known.items() if value is not None},
        unmeasured=fields.texts("unmeasured"),
        failed={name: fields.section("failed").text(name) for name in fields.section("failed").values},
    )


def _curve(name: str, own: Fields) -> LearningCurve:
    scores: dict[int, tuple[float, ...]] = {}
    sizes = own.section("scores")
    for size in sizes.values:
        drawn = Fields(
            f"{sizes.where}, {size}", {str(place): value for place, value in enumerate(sizes.items(size))}
        )
        found = tuple(value for place in drawn.values if (value := drawn.number(place)) is not None)
        if not size.isdecimal() or not int(size) or not found:
            raise sizes.wrong(size, "scores, by a number of rows")
        scores[int(size)] = found
    return LearningCurve(
        name=name,
        family=own.text("family"),
        scores=scores,
        twice=_band(own.section("twice")),
        four_times=_band(own.section("four_times")),
        advantage=own.number("advantage"),
        advantage_interval=own.interval("advantage_ci"),
        saves=_saves(own.section("saves")),
    )


def _saves(beside: Fields) -> dict[str, Band]:
    found = {}
    for name in beside.values:
        own = beside.section(name)
        labels = own.number("labels")
        if labels is not None:
            found[name] = Band(labels, own.interval("ci"))
    return found


def _band(own: Fields) -> Band | None:
    value, low, high = own.number("value"), own.number("low"), own.number("high")
    if value is None:
        return None
    return Band(value, None if low is None or high is None else Interval(low, high))


def _cost(fields: Fields, name: str) -> Cost:
    own = fields.section("costs").section(name)
    setup, each = own.section("setup"), own.section("per_1000_requests")
    return Cost(
        labels=setup.number("labels"),
        setup_work=setup.number("work"),
        setup_seconds=setup.number("seconds"),
        setup_mb=setup.number("peak_mb"),
        work=each.number("work"),
        milliseconds=each.number("milliseconds"),
        prompt_tokens=each.number("prompt_tokens"),
        cached_tokens=each.number("cached_tokens"),
        serving_mb=own.number("serving_mb"),
        even_at=fields.section("break_even_requests").number(name),
    )


def _difference(fields: Fields, key: str) -> Difference | None:
    own = fields.section(key)
    value = own.number("value")
    return None if value is None else Difference(value, own.interval("ci"), own.number("p"))


def _answers(folder: Path, trial: str) -> tuple[Answered, ...] | None:
    # A trial id is a file name here: one with a separator would read outside the run folder.
    path = predictions_of(folder, trial)
    if not PLAIN_NAME.fullmatch(trial) or not path.exists():
        return None
    return tuple(_answered(line) for line in read_lines(path))


def _answered(line: Fields) -> Answered:
    row = line.count("row")
    if row is None:
        raise line.wrong("row", "a row number")
    values: dict[str, Any] = {
        "target": line.text("target"),
        "prediction": line.text("prediction"),
        "probability": line.number("probability"),
        "valid": line.flag("valid", default=True),
    }
    return Answered(row, line.text("source", "data"), **values)
