"""What is imported is declared, what is declared is imported, and every declared package is pinned."""

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = {
    "charset_normalizer": "charset-normalizer",
    "rouge_score": "rouge-score",
    "sklearn": "scikit-learn",
    "huggingface_hub": "huggingface-hub",
}
"""Modules that are named otherwise than the package that brings them."""

NOT_IMPORTED = {
    "peft": "reads the adapters that are saved; the report shows how",
}
"""Declared packages that no module imports, each with its reason."""


def project() -> dict[str, list[str]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        found = tomllib.load(file)["project"]
    return {"run": found["dependencies"], "dev": found["optional-dependencies"]["dev"]}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", requirement)[0].lower() for requirement in requirements}


def imported() -> dict[str, str]:
    """Package → a module that imports it."""
    found = {}
    for path in sorted((ROOT / "tunewise").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            else:
                continue
            for module in modules:
                top = module.split(".")[0]
                if top not in sys.stdlib_module_names and top != "tunewise":
                    found[DISTRIBUTIONS.get(top, top)] = str(path.relative_to(ROOT))
    return found


def test_what_is_imported_is_declared() -> None:
    declared = names(project()["run"])
    assert {name: where for name, where in imported().items() if name not in declared} == {}


def test_what_is_declared_is_imported() -> None:
    assert names(project()["run"]) - set(imported()) - set(NOT_IMPORTED) == set()


def test_every_declared_package_is_pinned_to_one_plain_release() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    pinned = {pin.split("==")[0].lower().replace("_", "-") for pin in pins}
    assert len(pinned) == len(pins)
    declared = names([*project()["run"], *project()["dev"]])
    assert {name.replace("_", "-") for name in declared} <= pinned
