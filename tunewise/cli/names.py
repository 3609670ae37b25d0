"""Names of all methods and metrics, read from their source: importing them would load what they compute with.

The files say them as they do for the registry: a method is a class with a `name` and a `family`, a metric one with
a `name` and a `kind`. Methods of other packages are known by their entry points alone.

>>> metric_names()["classification"]
['accuracy', 'macro_f1', 'mcc']
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ELSEWHERE = "of other packages"


def method_names() -> dict[str, list[str]]:
    """Family → names of its methods, in the order that they are tried."""
    found = [values for _, values in _classes(ROOT / "methods") if {"name", "family"} <= values.keys()]
    families = _families()
    found.sort(key=lambda values: (families.index(values["family"]), values.get("order", 0), values["name"]))
    names = {family: [one["name"] for one in found if one["family"] == family] for family in families}
    others = sorted(point.name for point in entry_points(group="tunewise.methods"))
    return {family: listed for family, listed in (names | {ELSEWHERE: others}).items() if listed}


def metric_names() -> dict[str, list[str]]:
    """Kind of task → names of its metrics, the usual ones first."""
    found: dict[str, list[str]] = {}
    for file, values in _classes(ROOT / "metrics"):
        if "name" in values:
            found.setdefault(file.stem, []).append(values["name"])
    return found


def _families() -> list[str]:
    tree = ast.parse((ROOT / "methods" / "base.py").read_text(encoding="utf-8"))
    assigned = (node for node in tree.body if isinstance(node, ast.Assign))
    value = next(node.value for node in assigned if ast.unparse(node.targets[0]) == "FAMILIES")
    return list(ast.literal_eval(value))


def _classes(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every class in the files of `folder`, with the constants that its body sets."""
    for file in sorted(folder.glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                yield file, {name: value for name, value in _constants(node)}


def _constants(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.value, ast.Constant):
            yield ast.unparse(line.target), line.value.value
