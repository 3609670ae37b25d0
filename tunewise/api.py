"""What Tunewise does for its users, one function each; the command line only parses and prints.

>>> import tunewise as tw
>>> task = tw.Task.read("tickets.csv", input="text", target="intent")
>>> study = tw.compare(task, budget="10m", out="runs/tickets")
>>> study.recommendation.load().predict(["my card was charged twice"])
"""

from __future__ import annotations

import csv
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewise.errors import CandidateError, SettingError, TunewiseError
from tunewise.settings import Budget
from tunewise.task import Dataset, Input, Task

if TYPE_CHECKING:
    from tunewise.adapted import Prediction, Predictor
    from tunewise.recommend import Recommendation
    from tunewise.study.contest import Ground, Request
    from tunewise.study.evaluation import Evaluation
    from tunewise.study.plan import Plan
    from tunewise.study.trials import Fitted

OnEvent = Callable[[dict[str, Any]], None]
DEFAULT_MODEL = "smollm2-135m"


@dataclass(frozen=True, eq=False)
class Study:
    """A finished comparison in its run folder."""

    folder: Path
    task: Task
    leaderboard: list[dict[str, Any]]
    """Rows of `leaderboard.csv`, best first; figures as numbers, None where there is none."""
    recommendation: Recommendation


def compare(
    task: Any,
    *,
    model: str | Sequence[str] = DEFAULT_MODEL,
    methods: Sequence[str] | str | None = None,
    budget: str = "10m",
    margin: float = 2.0,
    seed: int = 0,
    out: str | Path | None = None,
    truncate: bool = False,
    settings: Mapping[str, Any] | None = None,
    command: Sequence[str] | None = None,
    on_event: OnEvent | None = None,
    **reading: Any,
) -> Study:
    """Run every way of adapting `model` to `task` within `budget`, and recommend one.

    Args:
        task: a `Task`, or anything that `Task.read` takes, with its arguments in `reading`.
        model: a catalog name, a local folder, a GGUF file, or a name on the Hugging Face Hub.
        methods: names of the methods to compare; by default all that apply.
        budget: `10m`, `40trials` or `3e14flop`.
        margin: points of score that a cheaper candidate may lie behind and still be picked.
        seed: decides splits, initial weights and the order of rows.
        out: the run folder; `runs/NAME` by default.
        truncate: cut inputs that are longer than the model's context, instead of refusing them.
        settings: resolved settings with where each came from, for `run.json`.
        command: the command line, for `run.json`.
        on_event: told of every event as it happens.
        **reading: arguments of `Task.read`.

    Raises:
        RequestError: the request is wrong; nothing was written.
        WorkError: not one trial finished.
    """
    from tunewise.study.contest import Contest, check_out, prepare

    request = _request(model, methods, budget, margin, seed, truncate)
    if out is not None:
        check_out(Path(out))
    if on_event is not None and not isinstance(task, Task):
        on_event({"event": "phase", "trial": None, "text": "reading the data, fetching them first where needed"})
    task = _task(task, seed, reading)
    request = _with_methods(request, methods, task)
    folder = Path(out) if out is not None else _free_folder(Path("runs") / task.name)
    check_out(folder)
    if on_event is not None:
        on_event(
            {
                "event": "phase",
                "trial": None,
                "text": "preparing: the model, token counts, and, once on a machine, its speed",
            }
        )
    ground = prepare(task, request)
    record = {"command": list(command or []), "settings": dict(settings or _as_settings(request, folder))}
    contest = Contest.begin(folder, request, ground, record, on_event)
    contest.run()
    return _conclude(folder, ground.task)


def resume(folder: str | Path, *, on_event: OnEvent | None = None) -> Study:
    """Go on with an interrupted run; what its journal records is not done twice.

    Raises:
        CandidateError: `folder` is no run, or a damaged one.
    """
    from tunewise.study.contest import Contest

    contest = Contest.again(Path(folder), on_event)
    contest.run()
    return _conclude(Path(folder), contest.ground.task)


def plan(
    task: Any,
    *,
    model: str | Sequence[str] = DEFAULT_MODEL,
    methods: Sequence[str] | str | None = None,
    budget: str = "10m",
    margin: float = 2.0,
    seed: int = 0,
    truncate: bool = False,
    **reading: Any,
) -> Plan:
    """What the data look like, which trials would run, and what each would take; nothing is spent or written."""
    from tunewise.adapted import loaded
    from tunewise.study.contest import prepare
    from tunewise.study.plan import plan_of
    from tunewise.study.rates import rates_of

    task = _task(task, seed, reading)
    request = _with_methods(_request(model, methods, budget, margin, seed, truncate), methods, task)
    ground: Ground = prepare(task, request)
    return plan_of(ground, rates_of(loaded(ground.base.base)))


def fit(
    task: Task,
    *,
    method: str,
    model: str = DEFAULT_MODEL,
    seed: int = 0,
    start: Predictor | None = None,
    **parameters: Any,
) -> Fitted:
    """Fit one method with exactly the hyper-parameters given, outside any study.

    Args:
        task: its validation rows choose the best step; without any, the last step is kept.
        method: name of the method.
        model: the base model; ignored when `start` is given.
        seed: decides initial weights and the order of rows.
        start: an adapted model to start from, instead of the base.
        **parameters: hyper-parameters of the method.

    Raises:
        SettingError: the method or a hyper-parameter is unknown, or it does not apply to the task.
        TrialError: the fit failed, for example with a loss that is not a number.
    """
    from tunewise.adapted import loaded, reference
    from tunewise.methods import get
    from tunewise.study.contest import base_model, choose_methods
    from tunewise.study.trials import fit_once

    found = get(method)
    choose_methods([method], task.spec)
    _check_parameters(found, parameters)
    if start is None:
        start = base_model(task.spec, reference(model))
        if found.work is not None:
            loaded(start.base)  # loading is not part of what is timed
    return fit_once(found(**parameters), start, task.train, task.validation, seed)


def evaluate(predictor: Predictor, dataset: Dataset) -> Evaluation:
    """Score `predictor` on `dataset`: score, interval, predictions, seconds.

    Raises:
        DataError: the data set is empty, or an input does not fit the model.
    """
    from tunewise.adapted import forget_scores
    from tunewise.study.evaluation import evaluate as run

    forget_scores()  # or the seconds would be those of a look-up
    if not isinstance(dataset, Dataset):
        raise SettingError(
            f"evaluate takes a Dataset, such as task.test; found {type(dataset).__name__}. "
            "Read rows with their targets by Task.read first."
        )
    return run(predictor, dataset)


def load(path: str | Path) -> Predictor:
    """Load a saved candidate, or the pick of a run.

    Raises:
        CandidateError: nothing that can be loaded is there.
    """
    from tunewise.candidates import CANDIDATE, read_json
    from tunewise.methods import load_predictor

    folder = Path(path)
    if not folder.is_dir():
        raise CandidateError(f"{folder} is not a folder; expected a run, or a candidate in a run's candidates/.")
    if (folder / CANDIDATE).exists():
        return load_predictor(folder)
    if (folder / "run.json").exists():
        if not (folder / "recommendation.json").exists():
            raise CandidateError(f"{folder} has no verdict yet; finish it with: tunewise resume {folder}")
        verdict = read_json(folder / "recommendation.json")
        if not isinstance(verdict, dict) or "pick" not in verdict:
            raise CandidateError(
                f"{folder / 'recommendation.json'} names no pick; make it again with: tunewise resume {folder}"
            )
        return load_predictor(folder / "candidates" / str(verdict["pick"]))
    inside = sorted(path.parent.name for path in folder.glob(f"*/{CANDIDATE}"))
    hint = f" It holds the candidates {', '.join(inside)}: name one of them." if inside else ""
    raise CandidateError(f"{folder} is neither a run (no run.json) nor a candidate (no {CANDIDATE}).{hint}")


def predict(path: str | Path, inputs: Sequence[Input], *, on_event: OnEvent | None = None) -> list[Prediction]:
    """Predictions of a saved candidate, or of a run's pick, in the order of `inputs`."""
    predictor = load(path)
    if on_event is not None:
        on_event({"event": "phase", "trial": None, "text": f"predicting {len(inputs)} inputs"})
    return predictor.predict(inputs)


def recommend(folder: str | Path, *, margin: float | None = None) -> Recommendation:
    """The recommendation of a run, derived again from its files."""
    from tunewise.recommend import recommend as derive

    return derive(Path(folder), margin=margin)


def report(folder: str | Path) -> Path:
    """Build the page of a run again from its files alone; its path."""
    from tunewise.report import build

    return build(Path(folder))


@dataclass(frozen=True)
class RunRecord:
    """A run folder at a glance."""

    name: str
    path: Path
    created: str
    status: str
    """`finished` or `unfinished`."""
    pick: str | None
    score: float | None


def runs(root: str | Path = "runs") -> list[RunRecord]:
    """The run folders under `root`, newest first; folders that are no runs are passed over."""
    from tunewise.candidates import read_json

    records = []
    for path in sorted(Path(root).glob("*/run.json")):
        try:
            run = read_json(path)
            verdict = path.with_name("recommendation.json")
            ended = read_json(verdict) if verdict.exists() else None
        except TunewiseError:
            continue
        records.append(
            RunRecord(
                name=path.parent.name,
                path=path.parent,
                created=str(run.get("created", "")),
                status="finished" if ended else "unfinished",
                pick=ended["pick"] if ended else None,
                score=ended["score"] if ended else None,
            )
        )
    return sorted(records, key=lambda record: record.created, reverse=True)


def models() -> list[Any]:
    """Entries of the model catalog."""
    from tunewise import catalog

    return [catalog.model(name) for name in catalog.model_names()]


def data() -> list[Any]:
    """Entries of the data catalog."""
    from tunewise import catalog

    return [catalog.data(name) for name in catalog.data_names()]


def pull_model(name: str, *, accept_terms: bool = False, on_progress: Callable[[str], None] | None = None) -> Path:
    """Fetch a model of the catalog into the cache; its folder."""
    from tunewise import catalog

    return catalog.fetch_model(name, accept_terms=accept_terms, on_progress=on_progress)


def pull_data(name: str, *, on_progress: Callable[[str], None] | None = None) -> Path:
    """Fetch a data set of the catalog into the cache; its file."""
    from tunewise import catalog

    return catalog.fetch_data(name, on_progress=on_progress).path


def _task(task: Any, seed: int, reading: Mapping[str, Any]) -> Task:
    from tunewise.errors import unknown
    from tunewise.reading import read

    known = [name for name in inspect.signature(read).parameters if name not in ("data", "seed")]
    for name in reading:
        if name not in known:
            raise unknown("setting", name, [*known, *inspect.signature(compare).parameters])
    if not isinstance(task, Task):
        given = {name: value for name, value in reading.items() if value is not None}
        return Task.read(task, seed=seed, **given)
    if any(value is not None for value in reading.values()):
        raise SettingError(f"{', '.join(reading)}: these belong to Task.read; a Task was given already.")
    return task


def _request(
    model: str | Sequence[str],
    methods: Sequence[str] | str | None,
    budget: str,
    margin: float,
    seed: int,
    truncate: bool,
) -> Request:
    from tunewise.methods import get
    from tunewise.study.contest import Request

    names = [model] if isinstance(model, str) else list(model)
    if len(names) != 1:
        raise SettingError(f"found {len(names)} models; one base model is compared at a time. Give one --model.")
    for name in _names(methods) or ():
        get(name)  # unknown names are refused before any data are read
    if not 0 <= margin <= 100:
        raise SettingError(f"margin: found {margin:g}; expected points of score between 0 and 100.")
    return Request(names[0], (), Budget.parse(budget), float(margin), int(seed), truncate)


def _with_methods(request: Request, methods: Sequence[str] | str | None, task: Task) -> Request:
    from dataclasses import replace

    from tunewise.study.contest import choose_methods

    chosen, notes = choose_methods(_names(methods), task.spec)
    return replace(request, methods=tuple(method.name for method in chosen), notes=tuple(notes))


def _names(methods: Sequence[str] | str | None) -> list[str] | None:
    if methods is None:
        return None
    parts = methods.split(",") if isinstance(methods, str) else methods
    return [part.strip() for part in parts if part.strip()]


def _check_parameters(method: Any, parameters: Mapping[str, Any]) -> None:
    from tunewise.errors import unknown

    known = inspect.signature(method).parameters
    for name, value in parameters.items():
        if name not in known:
            raise unknown(f"hyper-parameter of {method.name}", name, known)
        default = known[name].default
        wrong = None
        if isinstance(default, int) and (type(value) is not int or value < min(1, default)):
            wrong = f"a whole number, {min(1, default)} or greater"
        elif isinstance(default, float) and not (isinstance(value, int | float) and 0 <= value < math.inf):
            wrong = "a number, 0 or greater"
        elif isinstance(default, tuple) and not (isinstance(value, tuple | list) and value):
            wrong = "a list of values"
        if wrong:
            raise SettingError(f"{name} of {method.name}: found {value!r}; expected {wrong}.")


def _as_settings(request: Request, folder: Path) -> dict[str, Any]:
    values = {
        "model": request.model,
        "methods": list(request.methods),
        "budget": request.budget.text,
        "margin": request.margin,
        "seed": request.seed,
        "truncate": request.truncate,
        "out": str(folder),
    }
    return {name: {"value": value, "from": "api"} for name, value in values.items()}


def _free_folder(folder: Path) -> Path:
    """`folder`, or the first of `folder-2`, `folder-3` … that does not exist."""
    free, number = folder, 1
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def _conclude(folder: Path, task: Task) -> Study:
    from tunewise.candidates import write_json

    verdict = recommend(folder)
    write_json(folder / "recommendation.json", verdict.to_json())
    report(folder)
    with (folder / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        rows = [{name: _cell(name, text) for name, text in row.items()} for row in csv.DictReader(file)]
    return Study(folder, task, rows, verdict)


_TEXTS = frozenset({"candidate", "method", "family", "model", "trial", "status"})


def _cell(name: str, text: str) -> Any:
    if name in _TEXTS:
        return text
    if name == "metrics":
        return json.loads(text) if text else {}
    number = float(text) if text else None
    return int(number) if number is not None and name in ("seed", "n_train", "trainable_parameters") else number
