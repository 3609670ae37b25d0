"""What `data` names → an open table: a path, a name of the catalog, `hf:org/name`, or rows in memory.

A file that exists wins over a name of the catalog. What comes with a catalog entry (columns, words for labels,
an official test split) is kept as `Hints`, which explicit arguments override.

>>> is_catalog_name("trec"), is_catalog_name("trec.csv"), is_catalog_name("data/trec")
(True, False, False)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunewise.errors import DataError, FetchError, nearest
from tunewise.reading.tables import SUFFIXES, Table, from_file, from_memory

HUB = "hf:"


@dataclass(frozen=True)
class Hints:
    """What the data say of themselves; explicit arguments override each."""

    input: tuple[str, ...] = ()
    target: str | None = None
    instruction: str | None = None
    labels: Mapping[str, str] | None = None
    kind: str | None = None
    metric: str | None = None


@dataclass(frozen=True)
class Opened:
    """Rows, with the splits and hints that came with them."""

    table: Table
    name: str
    """Short name for the task."""
    test: Table | None = None
    validation: Table | None = None
    hints: Hints = field(default_factory=Hints)
    credits: Mapping[str, str] = field(default_factory=dict)
    """Catalog name, licence and attribution, where there are any."""


def open_data(data: Any) -> Opened:
    """Open `data`: a path, a catalog name, `hf:org/name`, or rows in memory.

    Raises:
        DataError: there is no such file, or it cannot be read as a table.
        SettingError: the name is not in the catalog.
        FetchError: the data must be fetched and cannot be.
    """
    if isinstance(data, str) and not os.path.exists(data):
        if data.startswith(HUB):
            return _from_hub(data.removeprefix(HUB))
        if is_catalog_name(data):
            return _from_catalog(data)
    if isinstance(data, Mapping) and "train" in data:
        return _from_splits(data, "task", "the splits")
    table = open_table(data)
    return Opened(table, table.path.stem if table.path else "task")


def open_table(data: Any) -> Table:
    """Open a path or rows in memory, without splits; raises DataError when that cannot be done."""
    if isinstance(data, str) and data.startswith(HUB) and not os.path.exists(data):
        return _from_hub(data.removeprefix(HUB)).table
    if isinstance(data, str | os.PathLike):
        return _open_file(Path(data).expanduser(), str(data))
    table = from_memory(data)
    if table is None:
        raise DataError(
            f"found data of the type {type(data).__name__}; expected a path, a name of `tunewise data`, "
            "a pandas data frame, a list of dicts, or a datasets.Dataset."
        )
    return table


def is_catalog_name(text: str) -> bool:
    """Whether `text` could be a name of the catalog: no folder, no suffix."""
    return bool(text.strip()) and not Path(text).suffix and not any(mark in text for mark in "/\\~:")


def _open_file(path: Path, name: str) -> Table:
    if os.path.isdir(path):
        files = sorted(file.name for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        found = f"It holds {', '.join(files[:5])}." if files else "It holds no data file."
        raise DataError(f"{name}: found a folder; expected a file ({', '.join(SUFFIXES)}). {found}")
    if not os.path.exists(path):  # unlike Path.exists, false for a name that is too long
        raise _missing(path, name)
    return from_file(path, name)


def _missing(path: Path, name: str) -> DataError:
    if not os.path.isdir(path.parent):
        return DataError(f"{name}: no such file: there is no folder {path.parent}. Check the path.")
    try:
        beside = [file.name for file in path.parent.iterdir() if file.is_file()]
    except OSError:
        beside = []
    guess = nearest(path.name, beside)
    if guess:
        return DataError(f'{name}: no such file. Did you mean "{path.parent / guess}"?')
    return DataError(
        f"{name}: no such file; expected a path to a data file ({', '.join(SUFFIXES)}), "
        "or a name listed by `tunewise data`."
    )


def _from_catalog(name: str) -> Opened:
    from tunewise import catalog

    if name not in catalog.data_names():
        files = [file for suffix in SUFFIXES if os.path.isfile(file := name + suffix)]
        if files:
            raise DataError(f'{name}: no such file or data set. Did you mean "{files[0]}"?')
        catalog.data(name)  # raises, and names the nearest data set
    fetched = catalog.fetch_data(name)
    entry = fetched.entry
    licence = f"{entry.licence} ({entry.licence_url})"
    return Opened(
        table=from_file(fetched.path, name),
        name=name,
        test=from_file(fetched.test_path, f"{name} (test)") if fetched.test_path else None,
        hints=Hints(entry.inputs, entry.target, entry.instruction, entry.labels, entry.kind, entry.metric),
        credits={"catalog": name, "licence": licence, "attribution": entry.attribution},
    )


def _from_hub(name: str) -> Opened:
    """`org/name` or `org/name:configuration` on the Hugging Face Hub."""
    import datasets
    from huggingface_hub.errors import HfHubHTTPError

    # The bases are OSError and the error root of whichever HTTP client the hub's package uses.
    failures: tuple[type[Exception], ...] = (ValueError, *HfHubHTTPError.__bases__)
    repository, _, configuration = name.partition(":")
    try:
        found = datasets.load_dataset(repository, configuration or None)
    except failures as error:
        reason = str(error).strip().splitlines()
        raise FetchError(
            f"{HUB}{name}: cannot be fetched from the Hugging Face Hub"
            f"{f' ({reason[0][:200]})' if reason else ''}. Check the name and the network; or fetch the rows on "
            "another machine, write them to a CSV, JSON Lines or Parquet file, and give that file; or choose a "
            "data set listed by `tunewise data`."
        ) from error
    return _from_splits(found, repository.rsplit("/", 1)[-1], f"{HUB}{name}")


def _from_splits(splits: Mapping[Any, Any], name: str, origin: str) -> Opened:
    """A mapping of split names to rows, as `datasets.load_dataset` gives it."""
    if "train" not in splits and len(splits) != 1:
        raise DataError(f"{origin}: found the splits {', '.join(map(str, splits))}; expected one named train.")
    tables = {str(split): replace(open_table(rows), name=f"{origin} ({split})") for split, rows in splits.items()}
    usable = {split: table for split, table in tables.items() if not _targets_withheld(table)}
    table = tables["train"] if "train" in tables else next(iter(tables.values()))
    return Opened(table, name, usable.get("test"), usable.get("validation"))


def _targets_withheld(table: Table) -> bool:
    """Whether a coded column holds nothing but -1: how hub data sets hide the targets of a contest's test."""
    return any(all(cell == -1 for cell in table.cells[column]) for column in table.value_names)
