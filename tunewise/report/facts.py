"""What the data look like, and with which settings and versions the run was made.

The profile's keys are those that reading writes; a key this page does not know is skipped, one with another
shape too, so that a page is built from older and newer runs alike.

>>> [group.name for group in settings(run)]  # doctest: +SKIP
['Settings', 'Versions', 'Machine', 'Base model', 'Budget and seed']
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tunewise.figures import counted
from tunewise.report import charts
from tunewise.report.answers import word
from tunewise.report.records import Run
from tunewise.report.words import count, percent, plain, setting
from tunewise.run_files import Fields

SPLITS = ("train", "validation", "test")
FINDINGS = {
    "incomplete": "Incomplete rows, left out",
    "duplicates": "Repeated rows, left out",
    "near_duplicates": "Near-duplicate rows, kept in one split",
    "conflicts": "Inputs with conflicting targets",
    "leaks": "Rows also in a given test or validation file, left out",
    "validation_leaks": "Validation rows also in the test file, left out",
    "test_duplicates": "Repeated rows of the test file, kept",
    "groups": "Groups",
}
"""What the page calls the counts of `tunewise.reading.Profile`."""
MOST_BARS = 30


@dataclass(frozen=True)
class Bar:
    """A label and how often it occurs."""

    name: str
    count: str
    share: str
    bar: Markup


@dataclass(frozen=True)
class Table:
    """A small table of figures."""

    name: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Profile:
    """What reading found in the data."""

    source: tuple[tuple[str, str], ...]
    splits: tuple[tuple[str, str], ...]
    balance: tuple[Bar, ...]
    balance_note: str
    findings: tuple[tuple[str, str], ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One setting, version or fact about the machine."""

    name: str
    value: str
    origin: str = ""


@dataclass(frozen=True)
class Group:
    """Entries of one kind."""

    name: str
    entries: tuple[Entry, ...]


def profile(run: Run) -> Profile:
    """The data's profile, from `task.json`."""
    found = run.task.section("profile").values
    splits = run.task.section("splits")
    sizes = tuple((name, count(len(splits.items(name)))) for name in SPLITS if name in splits.values)
    if "folds" in run.task.values:
        screening, *others = (len(fold) for fold in run.task.items("folds") if isinstance(fold, list))
        test = [(name, size) for name, size in sizes if name == "test" and size != "0"]
        sizes = (
            ("first fold's", count(screening)),
            (f"{len(others)} other folds'", count(sum(others))),
            *test,
        )
    bars, note = _balance(run, found)
    return Profile(
        source=_source(run),
        splits=sizes,
        balance=bars,
        balance_note=note,
        findings=tuple(
            (name, plain(size)) for key, name in FINDINGS.items() if (size := _number(found.get(key))) is not None
        ),
        tables=_lengths(found.get("lengths")),
        notes=tuple(text for text in _list(found.get("warnings")) if isinstance(text, str)),
    )


def _source(run: Run) -> tuple[tuple[str, str], ...]:
    spec, source = run.spec, run.task.section("source")
    known = [
        ("Data", source.text("path") if isinstance(source.values.get("path", ""), str) else ""),
        ("Kind", spec.kind),
        ("Input", ", ".join(spec.inputs)),
        ("Target", source.text("target") if isinstance(source.values.get("target", ""), str) else ""),
        ("Groups", spec.group or ""),
        ("Instruction", spec.instruction),
    ]
    return tuple((name, value) for name, value in known if value)


def _balance(run: Run, found: Mapping[str, Any]) -> tuple[tuple[Bar, ...], str]:
    """Bars of the labels, over all splits together."""
    counts: dict[str, float] = {}
    for split in _mapping(found.get("labels")).values():
        for label, number in _mapping(split).items():
            rows = _number(number)
            if rows is not None and rows > 0:
                counts[label] = counts.get(label, 0.0) + rows
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    total, most = sum(counts.values()), max(counts.values(), default=0.0)
    bars = tuple(
        Bar(
            word(run, label),
            count(number),
            percent(number / total),
            charts.share_bar(number / most, f"label-{index}", f"{word(run, label)}: {count(number)} rows"),
        )
        for index, (label, number) in enumerate(ranked[:MOST_BARS], 1)
        if total
    )
    left = len(ranked) - len(bars)
    return bars, f"and {counted(left, 'rarer label')}" if left else ""


def _lengths(value: Any) -> tuple[Table, ...]:
    """Lengths as a table: one row for the inputs, one for the targets, one column for each figure."""
    found = {name: _mapping(row) for name, row in _mapping(value).items()}
    columns = tuple(
        dict.fromkeys(column for row in found.values() for column in row if _number(row[column]) is not None)
    )
    rows = tuple((name, *(plain(_number(row.get(column))) for column in columns)) for name, row in found.items())
    return (Table("Lengths in characters", ("", *columns), rows),) if columns else ()


def _number(value: Any) -> float | None:
    """A finite number, or None for anything else: a profile is shown as far as it can be read."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def settings(run: Run) -> tuple[Group, ...]:
    """Settings with where each value came from, then versions, machine, base model and budget."""
    info = run.info
    given = info.section("settings")
    entries = tuple(_setting(given, name) for name in given.values)
    budget = {key: value for key, value in info.section("budget").values.items() if key != "rates"}
    groups = (
        Group("Settings", entries),
        Group("Versions", _entries(info.section("versions").values)),
        Group("Machine", _entries(info.section("hardware").values)),
        Group("Base model", _entries(info.section("model").values)),
        Group(
            "Budget and seed",
            _entries(budget | {"seed": info.values.get("seed"), "margin": info.values.get("margin")}),
        ),
    )
    return tuple(group for group in groups if group.entries)


def _setting(given: Fields, name: str) -> Entry:
    one = given.section(name)
    return Entry(name, setting(one.values.get("value")), one.text("from"))


def _entries(values: Mapping[str, Any]) -> tuple[Entry, ...]:
    flat = {key: value for key, value in values.items() if not isinstance(value, dict) and value is not None}
    return tuple(Entry(key.replace("_", " "), _shown(key, value)) for key, value in flat.items())


def _shown(key: str, value: Any) -> str:
    number = _number(value)
    if number is None or key == "seed":
        return setting(value)
    return f"{number:.3g}" if abs(number) >= 1e12 else plain(number)
