"""What every trial of a study stands on: the task, the loaded model, the methods, forecasts, what may be spent.

>>> ground = prepare(task, request)
>>> ground.forecaster.seconds(ground.terms.work_limit)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunewise.adapted import NO_MODEL, AdaptedModel, Constraint, ModelRef, loaded, reference
from tunewise.cost import ModelShape
from tunewise.errors import BudgetError, CandidateError, DataError, SettingError
from tunewise.figures import counted
from tunewise.methods import get, obstacle, registered
from tunewise.prompt import Prompt
from tunewise.study.attempts import Attempts
from tunewise.study.budget import Terms, least_trials, settle
from tunewise.study.folding import NO_FOLDS, Folding, folding_of, most_finalists
from tunewise.study.forecast import Forecaster, TokenStatistics
from tunewise.study.rates import WITHOUT_MODEL, checked_rates
from tunewise.study.refits import Refits
from tunewise.study.stored import Request
from tunewise.task import Choices, Task, TaskSpec, Text


@dataclass(frozen=True, eq=False)
class Ground:
    """What every trial of a study stands on."""

    task: Task
    base: AdaptedModel
    methods: tuple[Any, ...]
    forecaster: Forecaster
    terms: Terms
    notes: tuple[str, ...]


def attempts_of(folder: Path, request: Request, ground: Ground) -> Attempts:
    """What runs trials of a study in this process."""
    return Attempts(
        folder=folder,
        task=ground.task,
        base=ground.base,
        seed=request.seed,
        forecaster=ground.forecaster,
        model_name=request.model,
    )


def refits_of(folder: Path, request: Request, ground: Ground) -> Refits:
    """What fits its finalists to other rows, in this process."""
    return Refits(folder, ground.task, ground.base, request.seed, ground.forecaster)


def memory_mb(ground: Ground) -> dict[str, float]:
    """Forecast peak of a trial of each method."""
    if ground.base.base == NO_MODEL:
        return {}
    footprint = loaded(ground.base.base).footprint
    return {
        method.name: ground.forecaster.memory_mb(method.work, 16, footprint.parameters, footprint.itemsize)
        for method in ground.methods
    }


def choose_methods(names: Sequence[str] | None, spec: TaskSpec) -> tuple[list[Any], list[str]]:
    """Method classes to compare, and why those left out do not apply.

    Raises:
        SettingError: a name is unknown, or a method that was asked for does not apply.
    """
    wanted = list(registered().values()) if names is None else [get(name) for name in dict.fromkeys(names)]
    chosen, notes = [], []
    for method in wanted:
        reason = obstacle(method, spec)
        if reason is None:
            chosen.append(method)
        elif names is None:
            notes.append(f"{method.name}: left out, {reason}.")
        else:
            raise SettingError(f"method {method.name!r} does not apply here: {reason}.")
    order = list(registered().values())
    return sorted(chosen, key=order.index), notes


def base_model(spec: TaskSpec, model: ModelRef) -> AdaptedModel:
    """The base model with the task's plain prompt: what every method starts from."""
    constraint = Constraint() if isinstance(spec.answer, Choices) else None
    return AdaptedModel(spec, model, Prompt(spec.instruction), constraint)


def prepare(
    task: Task, request: Request, *, rates: Mapping[str, float] | None = None, expected: str | None = None
) -> Ground:
    """Load the model where one is needed, count tokens, convert the budget; nothing is written.

    Args:
        task: with rows in all three splits, or in folds.
        request: what is asked.
        rates: those the study was started with; measured or taken from the cache otherwise.
        expected: checksum that the model must have.

    Raises:
        RequestError: the request cannot be met.
    """
    for name, rows in (("validation", task.validation), ("test", task.test)):
        if not len(rows) and not task.folds:
            raise DataError(f"the {name} split has no rows; a comparison needs some. Give --{name}.")
    methods, _ = choose_methods(request.methods, task.spec)
    if request.model:
        base, forecaster, more = _with_model(task, request, rates, expected)
    else:
        base, forecaster, more = _without_model(task, request)
    trials = least_trials(task.spec, base.base, methods, forecaster)
    terms = settle(request.budget, forecaster, methods, trials, folding(task, base, methods, forecaster))
    kept = tuple(method for method in methods if method.name not in terms.dropped)
    dropped = [f"{name}: left out, the budget does not hold it and its test." for name in terms.dropped]
    return Ground(task, base, kept, forecaster, terms, (*request.notes, *more, *dropped))


def folding(task: Task, base: AdaptedModel, methods: Sequence[Any], forecaster: Forecaster) -> Folding:
    """What the finalists among `methods` would take in the other folds of `task`; nothing where it has none."""
    if not task.folds:
        return NO_FOLDS
    return folding_of(task.spec, base.base, methods, forecaster, len(task.folds), most_finalists(task))


def prepare_in_folds(task: Task, in_folds: Task, request: Request) -> Ground:
    """`prepare`, with the task in folds where its rows are few; where folds only choose, if the budget holds them.

    Args:
        task: as it was read.
        in_folds: the same as `folded` made of it.
        request: what is asked.

    Raises:
        RequestError: the request cannot be met.
    """
    if in_folds is task or in_folds.tested_in_folds:
        return prepare(in_folds, request)
    try:
        ground = prepare(in_folds, request)
        if ground.terms.holds_folds:
            return ground
    except BudgetError:  # the first fold is larger than a validation split
        pass
    rows = counted(len(task.validation), "validation row")
    note = (
        f"The budget is too small to choose in folds; {rows} choose, and chance with them. Give a larger --budget."
    )
    ground = prepare(task, request)
    return replace(ground, notes=(*ground.notes, note))


def _with_model(
    task: Task, request: Request, rates: Mapping[str, float] | None, expected: str | None
) -> tuple[AdaptedModel, Forecaster, list[str]]:
    """The loaded base model with the task's prompt, forecasts for it, and what the reader should know."""
    model = reference(request.model)
    if expected is not None and model.sha256 != expected:
        raise CandidateError(
            f"the model {request.model!r} has checksum {model.sha256[:12]}…, expected {expected[:12]}…: "
            "it has changed since the run began. Restore it, or start a new run."
        )
    base = base_model(task.spec, model)
    notes = _check_lengths(task, base, truncate=request.truncate)
    base = replace(base, prompt=replace(base.prompt, truncate=request.truncate))
    tokens = TokenStatistics.of(base, task.train)
    if rates is None:
        rates, note = checked_rates(loaded(model)) if request.budget.unit == "seconds" else ({}, None)
        notes += [note] if note else []
    return base, _forecaster(task, loaded(model).shape, tokens, rates), notes


def _without_model(task: Task, request: Request) -> tuple[AdaptedModel, Forecaster, list[str]]:
    """The same where no method needs a language model: all that is counted are the seconds of fits and files."""
    rates = WITHOUT_MODEL if request.budget.unit == "seconds" else {}
    least = ModelShape(layers=1, hidden=1, intermediate=1, heads=1, kv_heads=1, head_size=1, vocabulary=1)
    tokens = TokenStatistics(prefix=0, suffix=1.0, answer=1.0, nodes=0, turn=0.0, longest=1, median=1.0)
    return base_model(task.spec, NO_MODEL), _forecaster(task, least, tokens, rates), []


def _forecaster(task: Task, shape: ModelShape, tokens: TokenStatistics, rates: Mapping[str, float]) -> Forecaster:
    answer = task.spec.answer
    return Forecaster(
        shape=shape,
        tokens=tokens,
        rates=rates,
        n_train=len(task.train),
        n_validation=len(task.validation),
        n_test=len(task.test),
        text_tokens=answer.max_tokens if isinstance(answer, Text) else None,
    )


def _check_lengths(task: Task, base: AdaptedModel, *, truncate: bool) -> list[str]:
    """Refuse inputs longer than the context, or tell how many will be cut where that was asked for."""
    notes: list[str] = []
    for name, rows in task.splits.items():
        long = base.check_lengths(rows.inputs)
        if not long:
            continue
        are = "is" if len(long) == 1 else "are"
        if truncate:
            notes.append(
                f"{counted(len(long), f'{name} input')} {are} longer than the model's context and {are} cut."
            )
            continue
        renderer = base.renderer()
        first = rows.examples[long[0]]
        raise DataError(
            f"{len(long)} of {counted(len(rows), f'{name} input')} {are} longer than the model's context of "
            f"{renderer.model.context:,} tokens (the first is row {first.row}, "
            f"{len(renderer.tokens([first.inputs])[0]):,} tokens with its prompt). "
            "Shorten them, or cut them with --truncate."
        )
    return notes
