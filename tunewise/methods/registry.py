"""Finds the methods that exist: every file of this folder, and what other packages announce."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from tunewise.adapted import Predictor
from tunewise.candidates import check_seal, load_adapted, read_description
from tunewise.errors import CandidateError, unknown
from tunewise.methods.base import FAMILIES, OFFERED
from tunewise.task import TaskSpec

ENTRY_POINT = "tunewise.methods"


@cache
def registered() -> dict[str, Any]:
    """Every method class by name, in the order of families, then of cost of a first try, then of names."""
    found: dict[str, Any] = {}
    package = importlib.import_module("tunewise.methods")
    for module in pkgutil.iter_modules(package.__path__):
        loaded = importlib.import_module(f"tunewise.methods.{module.name}")
        for item in vars(loaded).values():
            if _is_method(item) and item.__module__ == loaded.__name__:
                found[item.name] = item
    for point in entry_points(group=ENTRY_POINT):
        item = point.load()
        found[item.name] = item
    order = sorted(found.values(), key=lambda item: (FAMILIES.index(item.family), item.order, item.name))
    return {item.name: item for item in order}


def names() -> list[str]:
    """Names of all methods, in the order they are tried."""
    return list(registered())


def get(name: str) -> Any:
    """The method class called `name`; raises SettingError with the nearest name for an unknown one."""
    if name not in registered():
        raise unknown("method", name, names())
    return registered()[name]


def obstacle(method: Any, spec: TaskSpec, offered: frozenset[str] = OFFERED) -> str | None:
    """Why `method` cannot be used for this task, on a model that offers `offered`; None when it can."""
    lacking = sorted(method.needs - offered)
    if lacking:
        return f"it needs {' and '.join(lacking)}, which the model does not offer"
    reason: str | None = method.applies(spec, None)
    return reason


def load_predictor(folder: Path) -> Predictor:
    """Load whatever predictor was saved in `folder`.

    Raises:
        CandidateError: the folder is missing, damaged, or of a type no method here knows.
    """
    if not folder.is_dir():
        raise CandidateError(f"{folder} is not a folder; expected a saved candidate or a run.")
    data = read_description(folder)
    check_seal(folder)
    if data["type"] == "adapted":
        return load_adapted(folder)
    for method in registered().values():
        predictor = getattr(method, "predictor", None)
        if predictor is not None and predictor.kind == data["type"]:
            loaded: Predictor = predictor.load(folder, TaskSpec.from_json(data["spec"]))
            return loaded
    raise CandidateError(
        f"{folder} holds a predictor of type {data['type']!r}, which no installed method knows. "
        "Install the package that made it."
    )


def _is_method(item: Any) -> bool:
    return isinstance(item, type) and dataclasses.is_dataclass(item) and hasattr(item, "family")
