"""What Tunewise does for its users, one function each; the command line only parses and prints.

>>> import tunewise as tw
>>> task = tw.Task.read("tickets.csv", input="text", target="intent")
>>> study = tw.compare(task, budget="10m", out="runs/tickets")
>>> study.recommendation.load().predict(["my card was charged twice"])
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewise.arguments import as_settings, check_jobs, check_parameters, request_of, task_of, with_methods
from tunewise.errors import CandidateError, SettingError
from tunewise.figures import counted
from tunewise.progress import told, watched
from tunewise.run_folders import RUNS, RunRecord, free, held, read_leaderboard, records
from tunewise.task import Dataset, Input, Task, TaskSpec

if TYPE_CHECKING:
    from tunewise.adapted import Prediction, Predictor
    from tunewise.recommend import Recommendation
    from tunewise.settings import Budget
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
    curve: bool = False,
    curve_budget: str = "20m",
    jobs: int = 1,
    settings: Mapping[str, Any] | None = None,
    command: Sequence[str] | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
    **reading: Any,
) -> Study:
    """Run every way of adapting `model` to `task` within `budget`, and recommend one.

    Args:
        task: a `Task`, or anything that `Task.read` takes, with its arguments in `reading`.
        model: a catalog name, a local folder, a GGUF file, or a name on the Hugging Face Hub.
        methods: names of the methods to compare; by default all that apply.
        budget: `10m`, `1h30m`, `40trials` or `3e14flop`.
        margin: points of score that a cheaper candidate may lie behind and still be picked.
        seed: decides splits, initial weights and the order of rows.
        out: the run folder; `runs/NAME` by default.
        truncate: cut inputs that are longer than the model's context, instead of refusing them.
        curve: measure learning curves of the finalists afterwards, as `tunewise.curve` does.
        curve_budget: what they may take beside `budget`.
        jobs: trials at a time, each in a process of its own with its share of the cores; as memory allows.
        settings: resolved settings with where each came from, for `run.json`.
        command: the command line, for `run.json`.
        progress: show on standard error what is going on. By default it is shown on a terminal and in a notebook,
            and not where `on_event` is given.
        on_event: told of every event as it happens.
        **reading: arguments of `Task.read`.

    Raises:
        RequestError: the request is wrong; nothing was written.
        WorkError: not one trial finished.
    """
    from tunewise.reading.folds import folded
    from tunewise.study.contest import Contest, check_out
    from tunewise.study.ground import prepare_in_folds
    from tunewise.study.learning import check_curves

    request = request_of(model, methods, budget, margin, seed, truncate, curve_budget if curve else None, jobs)
    if out is not None:
        check_out(Path(out))
    with watched(on_event, progress) as tell:
        phase = told(tell)
        if not isinstance(task, Task):
            phase("reading the data, fetching them first where needed")
        task = task_of(task, seed, reading, inspect.signature(compare).parameters)
        in_folds = folded(task)
        # Whether folds choose, the budget decides; these hold either way.
        certain = [text for text in _warnings(in_folds) if in_folds.tested_in_folds or text in _warnings(task)]
        _warn(certain, tell)
        request = with_methods(request, methods, task)
        if request.curve:
            check_curves(in_folds)
        folder = free(RUNS / task.name) if out is None else Path(out)
        if ".." in folder.parts:  # whatever stands before it need not exist
            folder = folder.resolve()
        check_out(folder)
        if request.model:
            phase("preparing: the model, token counts, and, once on a machine, its speed")
        ground = prepare_in_folds(task, in_folds, request)
        _warn([text for text in _warnings(ground.task) if text not in certain], tell)
        if request.curve:
            check_curves(ground.task)
        record = {"command": list(command or []), "settings": dict(settings or as_settings(request, folder))}
        contest = Contest.begin(folder, request, ground, record, tell)
        with held(folder):
            contest.run()
            return _finish(folder, ground.task, request.curve, tell)


def _warnings(task: Task) -> tuple[str, ...]:
    """What reading warns of."""
    return task.profile.warnings if task.profile else ()


def _warn(texts: Iterable[str], tell: Callable[[dict[str, Any]], None]) -> None:
    for text in texts:
        tell({"event": "message", "trial": None, "text": text})


def resume(
    folder: str | Path,
    *,
    jobs: int | None = None,
    progress: bool | None = None,
    on_event: OnEvent | None = None,
) -> Study:
    """Go on with an interrupted run; what its journal records is not done twice.

    Of a run that is finished already, only what is derived from its records is written again.

    Args:
        folder: the run folder.
        jobs: trials at a time from here on; as many as the run was begun with by default.
        progress: as in `compare`.
        on_event: told of every event as it happens.

    Raises:
        SettingError: `jobs` is no number of trials.
        CandidateError: `folder` is no run, a damaged one, or of a version that would run other trials.
    """
    from tunewise.study.contest import Contest
    from tunewise.study.files import write_leaderboard
    from tunewise.study.stored import finished_events, read_stored

    if jobs is not None:
        check_jobs(jobs)
    folder = Path(folder)
    with watched(on_event, progress) as tell:
        phase = told(tell)
        stored = read_stored(folder)
        with held(folder):
            ended = finished_events(folder)
            if ended is not None:
                follows = "nothing is left to do. Its result:" if stored.request.curve is None else "its result:"
                phase(f"{folder} is finished already: {follows}")
                write_leaderboard(folder, ended)
            else:
                if stored.request.model:
                    phase("preparing: the model and token counts")
                Contest.again(stored, tell, jobs or stored.request.jobs).run()
            return _finish(folder, stored.task, stored.request.curve, tell)


def curve(
    folder: str | Path,
    *,
    budget: str = "20m",
    progress: bool | None = None,
    on_event: OnEvent | None = None,
) -> Study:
    """Measure what more labels are worth: the finalists of a finished run, made again from fewer training rows.

    Three draws of 8, 16, 32 … rows and of all of them, each fitted with the settings that the run found. The run's
    recommendation and page are written again with what follows. What was measured before is kept, so a larger
    budget goes on where a smaller one ended.

    Args:
        folder: a run that is finished.
        budget: `10m`, `1h30m`, `40trials` or `3e14flop`.
        progress: as in `compare`.
        on_event: told of every event as it happens.

    Raises:
        CandidateError: the run is not finished, or damaged.
        SettingError: it has too few training rows.
    """
    from tunewise.settings import Budget
    from tunewise.study.learning import survey
    from tunewise.study.stored import read_stored

    folder = Path(folder)
    allowed = Budget.parse(budget)
    with watched(on_event, progress) as tell:
        stored = read_stored(folder)
        with held(folder):
            survey(folder, stored, allowed, tell)
            return _conclude(folder, stored.task)


def plan(
    task: Any,
    *,
    model: str | Sequence[str] = DEFAULT_MODEL,
    methods: Sequence[str] | str | None = None,
    budget: str = "10m",
    margin: float = 2.0,
    seed: int = 0,
    truncate: bool = False,
    requests_per_month: float | None = None,
    updates_per_month: float | None = None,
    real_time: bool = False,
    **reading: Any,
) -> Plan:
    """What the data look like, which trials would run, and what each would take; nothing is spent or written.

    `requests_per_month`, `updates_per_month` and `real_time`, as in `recommend`, are for its advice.
    """
    from tunewise.reading.folds import folded
    from tunewise.recommend import Wishes
    from tunewise.study.ground import prepare_in_folds
    from tunewise.study.plan import plan_of

    request = request_of(model, methods, budget, margin, seed, truncate)
    wishes = Wishes.of(requests=requests_per_month, updates=updates_per_month, real_time=real_time)
    task = task_of(task, seed, reading, inspect.signature(plan).parameters)
    ground = prepare_in_folds(task, folded(task), with_methods(request, methods, task))
    return plan_of(ground, wishes.demand, real_time=real_time)


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
    from tunewise.adapted import NO_MODEL, loaded, reference
    from tunewise.methods import get
    from tunewise.study.ground import base_model, choose_methods
    from tunewise.study.trials import fit_once

    found = get(method)
    choose_methods([method], task.spec)
    check_parameters(found, parameters)
    if start is None:
        start = base_model(task.spec, NO_MODEL if found.work is None else reference(model))
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
    from tunewise.methods import load_predictor

    return load_predictor(_candidate(Path(path)))


def spec_of(path: str | Path) -> TaskSpec:
    """The task that a saved candidate, or the pick of a run, was made for; no model is loaded.

    Raises:
        CandidateError: nothing that can be loaded is there.
    """
    from tunewise.candidates import read_description

    return TaskSpec.from_json(read_description(_candidate(Path(path)))["spec"])


def predict(path: str | Path, inputs: Sequence[Input], *, on_event: OnEvent | None = None) -> list[Prediction]:
    """Predictions of a saved candidate, or of a run's pick, in the order of `inputs`.

    Raises:
        CandidateError: nothing that can be loaded is there.
        DataError: an input lacks a column; this is seen before a model is loaded. Or it does not fit the model.
    """
    spec_of(path).rows(inputs)
    predictor = load(path)
    if on_event is not None:
        told(on_event)(f"predicting {counted(len(inputs), 'input')}")
    return predictor.predict(inputs)


def recommend(
    folder: str | Path,
    *,
    margin: float | None = None,
    requests_per_month: float | None = None,
    updates_per_month: float | None = None,
    max_ms: float | None = None,
    max_memory: str | float | None = None,
    real_time: bool = False,
    price_per_hour: float | None = None,
) -> Recommendation:
    """The recommendation of a run, derived again from its files; nothing is computed anew, nothing is written.

    Args:
        folder: a run that is finished.
        margin: points of score that a lower cost may be worth; those of the run by default.
        requests_per_month: requests that costs are counted for; 100,000 by default.
        updates_per_month: how often the candidate is made again for so many requests; once by default.
        max_ms: leave out finalists that take longer for a request, as measured in the test.
        max_memory: leave out finalists that need more to answer, as `1GB` or in bytes.
        real_time: leave out finalists whose instruction cannot change with each request.
        price_per_hour: of the machine, in any currency; costs are then told in it as well.

    Raises:
        SettingError: a wish is no number, or no finalist does what is wished for.
        CandidateError: the run is not finished, or damaged.
    """
    from tunewise.figures import bytes_of
    from tunewise.recommend import Wishes
    from tunewise.recommend import recommend as derive

    memory = bytes_of(max_memory, "max memory") if isinstance(max_memory, str) else max_memory
    wishes = Wishes.of(
        requests=requests_per_month,
        updates=updates_per_month,
        max_ms=max_ms,
        max_memory_mb=None if memory is None else memory / 1e6,
        real_time=real_time,
        price_per_hour=price_per_hour,
    )
    return derive(Path(folder), margin=margin, wishes=wishes)


def report(folder: str | Path) -> Path:
    """Build the page of a run again from its files alone; its path."""
    from tunewise.report import build

    return build(Path(folder))


def runs(root: str | Path = RUNS) -> list[RunRecord]:
    """The run folders under `root`, newest first; folders that are no runs are passed over."""
    return records(Path(root))


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


def _candidate(folder: Path) -> Path:
    """The candidate's folder that `folder` is, or that the verdict of the run in it names."""
    from tunewise.candidates import CANDIDATE
    from tunewise.run_files import read_json

    if not folder.is_dir():
        raise CandidateError(f"{folder} is not a folder; expected a run, or a candidate in a run's candidates/.")
    if (folder / CANDIDATE).exists():
        return folder
    if (folder / "run.json").exists():
        verdict = read_json(folder / "recommendation.json")
        if verdict is None:
            raise CandidateError(f"{folder} has no verdict yet; finish it with: tunewise resume {folder}")
        return folder / "candidates" / verdict.needed("pick")
    inside = sorted(path.parent.name for path in folder.glob(f"*/{CANDIDATE}"))
    hint = f" It holds the candidates {', '.join(inside)}: name one of them." if inside else ""
    raise CandidateError(f"{folder} is neither a run (no run.json) nor a candidate (no {CANDIDATE}).{hint}")


def _finish(folder: Path, task: Task, curve: Budget | None, tell: OnEvent) -> Study:
    """Write what follows from the records of a run; measure its learning curves, where they were asked for."""
    study = _conclude(folder, task)
    if curve is None:
        return study
    from tunewise.study.learning import survey
    from tunewise.study.stored import read_stored

    survey(folder, read_stored(folder), curve, tell, in_all=True)
    return _conclude(folder, task)


def _conclude(folder: Path, task: Task) -> Study:
    from tunewise.candidates import read_json, write_json
    from tunewise.study.history import remember

    verdict = recommend(folder)
    write_json(folder / "recommendation.json", verdict.to_json())
    report(folder)
    leaderboard = read_leaderboard(folder)
    remember(read_json(folder / "run.json"), task, leaderboard)
    return Study(folder, task, leaderboard, verdict)
