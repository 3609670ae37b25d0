"""Imports run one way: every import of every module, inside functions too, against the order of the rooms."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tunewise"

TIERS = (
    ("errors", "figures", "whole"),
    ("task", "settings"),
    (
        "metrics",
        "statistics",
        "cost",
        "rule",
        "reading",
        "catalog",
        "preparing",
        "fetching",
        "convert",
        "model_folders",
        "run_files",
    ),
    ("engine",),
    ("prompt", "adapted", "candidates", "run_folders"),
    ("methods",),
    ("study",),
    ("recommend", "report"),
    ("arguments", "progress"),
    ("api",),
    ("cli",),
    ("__main__",),
)
"""A room may import from the tiers above its own line, from itself, and, where no circle comes of it, from
rooms of its own line."""

ALLOWED = {
    ("adapted", "candidates"): "AdaptedModel.save: the two are one room in two files",
    ("task", "reading"): "Task.read is the front door of reading; imported when it is called",
    ("recommend", "tunewise"): "Recommendation.load hands over to tunewise.load; imported when it is called",
}
"""Imports against the order, each with its reason."""

TIER = {room: number for number, rooms in enumerate(TIERS) for room in rooms}


@dataclass(frozen=True)
class Import:
    """One import statement of the package's own modules."""

    where: str
    room: str
    imported: str
    for_types: bool


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, source: str) -> Iterator[Import]:
    tree = ast.parse(source)
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for target in targets(node, path):
            where = f"{path.relative_to(PACKAGE.parent)}:{node.lineno}"
            yield Import(where, room_of(path), target, id(node) in for_types)


def targets(node: ast.Import | ast.ImportFrom, path: Path) -> list[str]:
    """The rooms that a statement imports; `tunewise` is the public surface itself."""
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    else:
        module = node.module or ""
        if node.level:
            parents = path.relative_to(PACKAGE.parent).with_suffix("").parts[: -node.level]
            module = ".".join([*parents, *([module] if module else [])])
        modules = [f"tunewise.{alias.name}" for alias in node.names] if module == "tunewise" else [module]
        modules = [name for name in modules if name != "tunewise.__version__"]
    own = [module.split(".") for module in modules if module.split(".")[0] == "tunewise"]
    return [parts[1] if len(parts) > 1 and parts[1] in TIER else "tunewise" for parts in own]


def violations(found: list[Import]) -> list[str]:
    wrong = []
    for one in found:
        inside = one.imported == one.room or (one.room, one.imported) in ALLOWED or one.for_types
        if not inside and TIER.get(one.imported, len(TIERS)) > TIER.get(one.room, len(TIERS)):
            wrong.append(f"{one.where}: {one.room} imports {one.imported}")
    return wrong


@pytest.fixture(scope="module")
def found() -> list[Import]:
    modules = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem != "__init__")
    return [one for path in modules for one in imports(path, path.read_text(encoding="utf-8"))]


def test_every_room_has_its_place() -> None:
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert sorted(rooms - set(TIER)) == [], "give each new room a tier in TIERS"
    assert sorted(set(TIER) - rooms) == [], "TIERS names rooms that are gone"


def test_imports_run_one_way(found: list[Import]) -> None:
    assert violations(found) == []


def test_no_circle_within_a_tier(found: list[Import]) -> None:
    edges = {(one.room, one.imported) for one in found if one.room != one.imported and not one.for_types}
    edges -= set(ALLOWED)
    beside = {(a, b) for a, b in edges if TIER.get(a) == TIER.get(b)}
    reached = set(beside)
    while more := {(a, d) for a, b in reached for c, d in beside if b == c} - reached:
        reached |= more
    assert sorted(a for a, b in reached if a == b) == []


def test_every_exception_is_still_needed(found: list[Import]) -> None:
    used = {(one.room, one.imported) for one in found if not one.for_types}
    assert set(ALLOWED) <= used


@pytest.mark.parametrize(
    "source",
    [
        "from tunewise.study import race",
        "import tunewise.study.race",
        "from tunewise import study",
        "from ..study import race",
        "import tunewise",
        "def fit():\n    from tunewise.study import race",
    ],
)
def test_an_import_against_the_order_is_seen(source: str) -> None:
    path = PACKAGE / "methods" / "lora.py"
    assert len(violations(list(imports(path, source)))) == 1


def test_an_import_along_the_order_passes() -> None:
    path = PACKAGE / "methods" / "lora.py"
    source = "from tunewise.engine import forward\nfrom tunewise.errors import TrialError\nimport torch"
    assert [one.imported for one in imports(path, source)] == ["engine", "errors"]
    assert violations(list(imports(path, source))) == []
