"""What the functions of `tunewise.api` are given, checked and turned into a task and a request.

>>> names_of("lora, full")
['lora', 'full']
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewise.errors import SettingError, unknown
from tunewise.settings import Budget
from tunewise.task import Task

if TYPE_CHECKING:
    from tunewise.study.stored import Request


def task_of(task: Any, seed: int, reading: Mapping[str, Any], known: Iterable[str]) -> Task:
    """The task itself, or what `Task.read` makes of it with the arguments in `reading`.

    Raises:
        SettingError: an argument is unknown (`known` are those that the caller takes), or a Task needs none.
    """
    from tunewise.reading import read

    of_reading = [name for name in inspect.signature(read).parameters if name not in ("data", "seed")]
    for name in reading:
        if name not in of_reading:
            raise unknown("setting", name, [*of_reading, *known])
    if not isinstance(task, Task):
        given = {name: value for name, value in reading.items() if value is not None}
        return Task.read(task, seed=seed, **given)
    if any(value is not None for value in reading.values()):
        raise SettingError(f"{', '.join(reading)}: these belong to Task.read; a Task was given already.")
    return task


def request_of(
    model: str | Sequence[str],
    methods: Sequence[str] | str | None,
    budget: str,
    margin: float,
    seed: int,
    truncate: bool,
    curve: str | None = None,
    jobs: int = 1,
) -> Request:
    """The request that these arguments make, before the data are known; raises SettingError for a wrong one."""
    from tunewise.methods import get
    from tunewise.study.stored import Request

    models = [model] if isinstance(model, str) else list(model)
    if len(models) != 1:
        raise SettingError(f"found {len(models)} models; one base model is compared at a time. Give one --model.")
    names = names_of(methods) or ()
    for name in names:  # wrong ones are refused before any data are read
        start = get(name).starts_from
        if start not in (None, *names):
            raise SettingError(
                f"method {name!r} starts from the best of {start!r}, which is not among those compared; "
                f"expected both. Add {start}."
            )
    check_jobs(jobs)
    if not 0 <= margin <= 100:
        raise SettingError(f"margin: found {margin:g}; expected points of score between 0 and 100.")
    return Request(
        models[0],
        (),
        Budget.parse(budget),
        float(margin),
        int(seed),
        truncate,
        curve=Budget.parse(curve) if curve else None,
        jobs=jobs,
    )


def check_jobs(jobs: Any) -> None:
    """Raise SettingError for an impossible number of trials at a time."""
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise SettingError(f"jobs: found {jobs!r}; expected a whole number, 1 or greater.")


def with_methods(request: Request, methods: Sequence[str] | str | None, task: Task) -> Request:
    """`request` with the methods that are compared on `task`, and notes on those that do not apply.

    Where none of them needs a language model, the request names none, and none is fetched or loaded.
    """
    from dataclasses import replace

    from tunewise.study.ground import choose_methods

    chosen, notes = choose_methods(names_of(methods), task.spec)
    needs_model = any(method.work is not None for method in chosen)
    return replace(
        request,
        model=request.model if needs_model else "",
        methods=tuple(method.name for method in chosen),
        notes=tuple(notes),
    )


def names_of(methods: Sequence[str] | str | None) -> list[str] | None:
    """Names of methods, from a list or from one text with commas; None for all that apply."""
    if methods is None:
        return None
    parts = methods.split(",") if isinstance(methods, str) else methods
    return [part.strip() for part in parts if part.strip()]


def check_parameters(method: Any, parameters: Mapping[str, Any]) -> None:
    """Raise SettingError for a hyper-parameter that `method` does not have, or whose value is impossible."""
    known = inspect.signature(method).parameters
    for name, value in parameters.items():
        if name not in known:
            raise unknown(f"hyper-parameter of {method.name}", name, known)
        expected = _expected(known[name].default, value)
        if expected:
            raise SettingError(f"{name} of {method.name}: found {value!r}; expected {expected}.")


def as_settings(request: Request, folder: Path) -> dict[str, Any]:
    """The settings for `run.json`, where the command line did not give them with where each came from."""
    values = {
        "model": request.model,
        "methods": list(request.methods),
        "budget": request.budget.text,
        "margin": request.margin,
        "seed": request.seed,
        "truncate": request.truncate,
        "curve": request.curve is not None,
        "jobs": request.jobs,
        **({"curve_budget": request.curve.text} if request.curve else {}),
        "out": str(folder),
    }
    return {name: {"value": value, "from": "api"} for name, value in values.items()}


def _expected(default: Any, value: Any) -> str | None:
    """What was expected instead of `value`, told from the default; None where it is possible."""
    if isinstance(default, int) and (type(value) is not int or value < min(1, default)):
        return f"a whole number, {min(1, default)} or greater"
    if isinstance(default, float) and not (isinstance(value, int | float) and 0 <= value < math.inf):
        return "a number, 0 or greater"
    if isinstance(default, tuple) and not (isinstance(value, tuple | list) and value):
        return "a list of values"
    return None
