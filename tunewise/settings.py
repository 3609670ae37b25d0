"""What a comparison is told: every setting once, with its help, its checks, and where its value came from.

Settings come from three places, the later winning: the defaults below, `tunewise.toml` in the working
directory (flat keys named like the flags), and the flags. Each field's description is the help of its flag.

>>> resolved = resolve({"budget": "40trials"}, file=None)
>>> resolved.settings.budget, resolved.origins["budget"], resolved.origins["seed"]
('40trials', 'flag', 'default')
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tunewise.errors import SettingError, unknown
from tunewise.task import KINDS

FILE_NAME = "tunewise.toml"

Unit = Literal["seconds", "trials", "flop"]
_BUDGET = re.compile(r"(?P<number>\d+(?:\.\d+)?(?:e\+?\d+)?)\s*(?P<unit>[a-z]+)", re.IGNORECASE)
_TIME = re.compile(r"(?:(\d+)\s*h)?\s*(?:(\d+)\s*m)?\s*(?:(\d+)\s*s)?", re.IGNORECASE)
_UNITS: dict[str, tuple[Unit, int]] = {
    "s": ("seconds", 1),
    "m": ("seconds", 60),
    "h": ("seconds", 3600),
    "trial": ("trials", 1),
    "trials": ("trials", 1),
    "flop": ("flop", 1),
    "flops": ("flop", 1),
}


@dataclass(frozen=True)
class Budget:
    """How much a study may spend."""

    text: str
    """As it was given, for example `10m`."""
    unit: Unit
    limit: float
    """Seconds, a whole number of trials, or counted floating-point operations."""

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read `90s`, `10m`, `1.5h`, `5m30s`, `40trials` or `3e14flop`.

        Raises:
            SettingError: `text` is none of these, or not a positive amount.
        """
        unit, limit = _amount(text.strip())
        if unit is None or limit <= 0 or not math.isfinite(limit) or (unit == "trials" and limit % 1):
            raise SettingError(f'budget: found "{text}"; expected {_expected("budget")}.')
        return cls(text.strip(), unit, limit)


def _amount(text: str) -> tuple[Unit | None, float]:
    """The unit and the amount that `text` names; (None, 0) when it names none."""
    together = _TIME.fullmatch(text)
    if together:
        hours, minutes, seconds = (float(part or 0) for part in together.groups())
        return "seconds", 3600 * hours + 60 * minutes + seconds
    found = _BUDGET.fullmatch(text)
    unit, factor = _UNITS.get(found["unit"].lower(), (None, 0)) if found else (None, 0)
    return unit, float(found["number"]) * factor if found else 0.0


def _setting(default: Any, help: str, metavar: str, expected: str) -> Any:
    """A field with its help, the placeholder of its flag, and what an error message says was expected."""
    return Field(default, description=help, json_schema_extra={"metavar": metavar, "expected": expected})


class ReadingSettings(BaseModel):
    """How the data are read; passed on by name to the reader, which knows the defaults of what is None."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: tuple[str, ...] = _setting(
        (),
        "Input column; repeat it for several. Guessed when there is one sensible choice.",
        "COL",
        "column names",
    )
    target: str | None = _setting(
        None, "Column to predict. Guessed when there is one sensible choice.", "COL", "a column name"
    )
    group: str | None = _setting(
        None, "Column whose equal values stay in one split, for example a customer.", "COL", "a column name"
    )
    time: str | None = _setting(
        None,
        "Column with dates or numbers: the newest rows are the test, those before them validation.",
        "COL",
        "a column name",
    )
    instruction: str | None = _setting(None, "What the model is told to do.", "TEXT", "a text")
    labels: Path | None = _setting(
        None,
        "File that maps data values to the words the model sees (0 → description).",
        "FILE",
        "a file name",
    )
    kind: str | None = _setting(
        None,
        f"What kind of task: {' or '.join(KINDS)}. Guessed from the targets.",
        "KIND",
        f"{' or '.join(KINDS)}",
    )
    metric: str | None = _setting(
        None, "What is measured; by default accuracy or chrF, by kind.", "METRIC", "the name of a metric"
    )
    test: Path | None = _setting(None, "File with the test rows, kept as it is.", "FILE", "a file name")
    validation: float | int | Path | None = _setting(
        None,
        "Validation rows: a share (0.2), a count (200), a file, or 0 for none.",
        "V",
        "a share below 1 (0.2), a count (200), a file, or 0",
    )
    train_rows: int | None = _setting(
        None, "Use at most this many training rows.", "N", "a whole number greater than 0"
    )
    drop_incomplete: bool = _setting(
        False, "Leave out rows whose target is empty or missing.", "", "true or false"
    )


class Settings(ReadingSettings):
    """Every setting of a comparison."""

    model: tuple[str, ...] = _setting(
        ("smollm2-135m",),
        "Base model: a name of `tunewise models`, a folder or a GGUF file.",
        "NAME",
        "names of models",
    )
    methods: tuple[str, ...] | None = _setting(
        None,
        "Methods to compare, with commas between them. All that apply, by default.",
        "A,B,…",
        "names of methods with commas between them",
    )
    budget: str = _setting(
        "10m",
        "What may be spent: time (90s, 10m, 1h30m), trials (40trials) or counted work (3e14flop).",
        "BUDGET",
        "a time (90s, 10m, 1h30m), a number of trials (40trials) or counted work (3e14flop), greater than 0",
    )
    margin: float = _setting(
        2.0,
        "Points of score that a cheaper candidate may lose and still be picked.",
        "POINTS",
        "a number of points from 0 to 100",
    )
    seed: int = _setting(0, "Seed of splits, trials and training.", "N", "a whole number, 0 or greater")
    truncate: bool = _setting(
        False,
        "Shorten inputs that are longer than the model's context, instead of refusing them.",
        "",
        "true or false",
    )
    curve: bool = _setting(
        False,
        "Measure learning curves of the finalists afterwards: what more labels are worth.",
        "",
        "true or false",
    )
    curve_budget: str = _setting(
        "20m",
        "What the learning curves may take beside the budget, written as that.",
        "BUDGET",
        "a time (90s, 10m, 1h30m), a number of trials (40trials) or counted work (3e14flop), greater than 0",
    )
    jobs: int = _setting(
        1,
        "Trials at a time, each in a process of its own with its share of the cores.",
        "N",
        "a whole number, 1 or greater",
    )
    out: Path | None = _setting(
        None,
        "New folder for the results; by default runs/ and the name of the data.",
        "FOLDER",
        "a folder name",
    )

    @field_validator("input", "model", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("methods", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        names = tuple(name.strip() for name in value.split(","))
        if not all(names):
            raise ValueError("an empty name")
        return names

    @field_validator("validation", mode="before")
    @classmethod
    def _share_count_or_file(cls, value: Any) -> Any:
        if isinstance(value, str):
            number = _number(value)
            value = Path(value) if number is None else number
        share = isinstance(value, float)
        if isinstance(value, bool) or (
            isinstance(value, float | int) and not 0 <= value < (1 if share else math.inf)
        ):
            raise ValueError("not a share or count")
        return value

    @field_validator("train_rows", "seed", "margin", "jobs", mode="before")
    @classmethod
    def _no_truth_value(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError("true and false are no numbers")
        return value

    @field_validator("train_rows", "seed", "margin", "jobs")
    @classmethod
    def _in_range(cls, value: float | None, info: Any) -> float | None:
        low = 1 if info.field_name in ("train_rows", "jobs") else 0
        high = 100 if info.field_name == "margin" else math.inf
        if value is not None and not low <= value <= high:
            raise ValueError("out of range")
        return value

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, value: str | None) -> str | None:
        if value is not None and value not in KINDS:
            raise unknown("kind", value, KINDS)
        return value

    @field_validator("budget", "curve_budget")
    @classmethod
    def _understood(cls, value: str) -> str:
        try:
            return Budget.parse(value).text
        except SettingError as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True)
class Resolved:
    """Settings with where each value came from."""

    settings: Settings
    origins: Mapping[str, str]
    """`default`, `tunewise.toml` or `flag`, for every setting."""

    def reading(self) -> dict[str, Any]:
        """The reader's arguments that were given, by name."""
        given = {name: getattr(self.settings, name) for name in ReadingSettings.model_fields}
        return {name: value for name, value in given.items() if self.origins[name] != "default"}

    def record(self) -> dict[str, dict[str, Any]]:
        """What `run.json` stores: for every setting its value, as plain JSON, and where it came from."""
        values = self.settings.model_dump(mode="json")
        return {name: {"value": value, "from": self.origins[name]} for name, value in values.items()}


def resolve(flags: Mapping[str, Any], *, file: Path | None = Path(FILE_NAME)) -> Resolved:
    """Defaults, then the settings in `file` (None, or a file that is not there: none), then `flags`.

    Raises:
        SettingError: a key is unknown, or a value is not what its setting expects.
    """
    from_file = {} if file is None else read_file(file)
    origins = {name: "default" for name in Settings.model_fields}
    origins |= {name: FILE_NAME for name in from_file} | {name: "flag" for name in flags}
    try:
        settings = Settings.model_validate({**from_file, **flags})
    except ValidationError as error:
        raise _refusal(error, origins) from None
    return Resolved(settings, origins)


def read_file(path: Path) -> dict[str, Any]:
    """The settings in a `tunewise.toml`, with `_` for `-` in their names; empty when there is no such file.

    Raises:
        SettingError: the file is not TOML, or holds a key that is no setting.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise SettingError(f"{path.name} cannot be read as TOML: {error}. Correct it, or move it away.") from None
    settings: dict[str, Any] = {}
    for key, value in raw.items():
        name = key.replace("-", "_")
        if name not in Settings.model_fields:
            raise SettingError(f"{path.name}: {unknown('setting', key, Settings.model_fields)}")
        if name in settings:
            raise SettingError(f'{path.name}: "{name}" is given twice, with "-" and with "_". Keep one.')
        settings[name] = value
    return settings


def flag(name: str) -> str:
    """The flag of the setting `name`: `--train-rows` for `train_rows`."""
    return "--" + name.replace("_", "-")


def metavar(name: str) -> str:
    """The placeholder of the setting's value in the help."""
    return str(_extra(name)["metavar"])


def _expected(name: str) -> str:
    return str(_extra(name)["expected"])


def _extra(name: str) -> dict[str, Any]:
    extra = Settings.model_fields[name].json_schema_extra
    return extra if isinstance(extra, dict) else {}


def _number(text: str) -> float | int | None:
    """The number that `text` spells, whole when it is written without a point, or None."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _refusal(error: ValidationError, origins: Mapping[str, str]) -> SettingError:
    """The first fault that validation found, in the words of the settings."""
    fault = error.errors()[0]
    name = str(fault["loc"][0])
    where = flag(name) if origins[name] == "flag" else f"{FILE_NAME}, {name}"
    found = fault["input"]
    shown = f'"{found}"' if isinstance(found, str) else str(found)
    return SettingError(f"{where}: found {shown}; expected {_expected(name)}.")
