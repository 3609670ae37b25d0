"""Settings: budgets, where values come from, and what nonsense gets."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewise.errors import SettingError
from tunewise.settings import Budget, ReadingSettings, Settings, flag, metavar, resolve


@pytest.mark.parametrize(
    ("text", "unit", "limit"),
    [
        ("90s", "seconds", 90),
        ("10m", "seconds", 600),
        ("1.5h", "seconds", 5400),
        (" 10 M ", "seconds", 600),
        ("5m30s", "seconds", 330),
        ("1h 2m 3s", "seconds", 3723),
        ("1h30s", "seconds", 3630),
        ("40trials", "trials", 40),
        ("1 trial", "trials", 1),
        ("3e14flop", "flop", 3e14),
        ("2.5e+15flops", "flop", 2.5e15),
    ],
)
def test_budgets_are_read(text: str, unit: str, limit: float) -> None:
    assert Budget.parse(text) == Budget(text.strip(), unit, limit)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "m",
        "ten minutes",
        "0m",
        "-5m",
        "1.5trials",
        "0.0h",
        "10 parsecs",
        "1e999flop",
        "10m5",
        "30s5m",
        "0h0s",
        "9" * 400 + "s",
    ],
)
def test_a_nonsense_budget_is_refused_with_examples(text: str) -> None:
    with pytest.raises(SettingError, match=r"10m.*40trials.*3e14flop"):
        Budget.parse(text)


@given(st.text(max_size=12))
def test_a_budget_is_read_or_refused_but_never_crashes(text: str) -> None:
    try:
        limit = Budget.parse(text).limit
    except SettingError:
        return
    assert 0 < limit < math.inf


def written(folder: Path, text: str) -> Path:
    path = folder / "tunewise.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = written(tmp_path, 'budget = "5m"\nseed = 3\ntrain-rows = 64\n')
    resolved = resolve({"seed": "7"}, file=path)
    assert (resolved.settings.budget, resolved.settings.seed, resolved.settings.train_rows) == ("5m", 7, 64)
    assert resolved.settings.margin == 2.0
    record = resolved.record()
    assert record["budget"] == {"value": "5m", "from": "tunewise.toml"}
    assert record["seed"] == {"value": 7, "from": "flag"}
    assert record["train_rows"] == {"value": 64, "from": "tunewise.toml"}
    assert record["margin"] == {"value": 2.0, "from": "default"}
    assert set(record) == set(Settings.model_fields)


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert resolve({}, file=tmp_path / "tunewise.toml").settings == Settings()


def test_the_reader_gets_only_what_was_given(tmp_path: Path) -> None:
    resolved = resolve({"input": ["a", "b"], "validation": "0.2", "budget": "9m"}, file=None)
    assert resolved.reading() == {"input": ("a", "b"), "validation": 0.2}


@pytest.mark.parametrize(
    ("given_value", "value"),
    [("0.25", 0.25), ("200", 200), ("0", 0), (0.25, 0.25), (0, 0), ("held_out.csv", Path("held_out.csv"))],
)
def test_validation_is_a_share_a_count_or_a_file(given_value: Any, value: Any) -> None:
    found = resolve({"validation": given_value}, file=None).settings.validation
    assert found == value
    assert type(found) is type(value) or isinstance(value, Path)


def test_lists_may_be_written_as_one_text(tmp_path: Path) -> None:
    path = written(tmp_path, 'methods = "lora, full"\nmodel = "a"\ninput = ["first, second", "third"]\n')
    settings = resolve({}, file=path).settings
    assert (settings.methods, settings.model) == (("lora", "full"), ("a",))
    assert settings.input == ("first, second", "third")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"seed": "abc"}, r'--seed: found "abc"; expected a whole number'),
        ({"seed": "-1"}, r'--seed: found "-1"; expected a whole number, 0 or greater'),
        ({"train_rows": "0"}, r'--train-rows: found "0"; expected a whole number greater than 0'),
        ({"margin": "101"}, r'--margin: found "101"; expected a number of points'),
        ({"margin": "nan"}, r'--margin: found "nan"'),
        ({"validation": "1.5"}, r'--validation: found "1.5"; expected a share below 1'),
        ({"validation": "nan"}, r"--validation: found"),
        ({"methods": "lora,,full"}, r"--methods: found .*; expected names of methods"),
        ({"kind": "classificaton"}, r'unknown kind "classificaton"\. Did you mean "classification"\?'),
        ({"budget": "soon"}, r'--budget: found "soon"; expected a time'),
    ],
)
def test_a_wrong_value_is_named_with_its_flag(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        resolve(flags, file=None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian_rows = 3", r'tunewise\.toml: unknown setting "trian_rows"\. Did you mean "train_rows"\?'),
        ("[compare]\nseed = 1", r'unknown setting "compare"'),
        ("seed = ", r"tunewise\.toml cannot be read as TOML: Invalid value"),
        ("seed = true", r"tunewise\.toml, seed: found True; expected a whole number"),
        ("validation = true", r"tunewise\.toml, validation: found True"),
        ("train-rows = 1\ntrain_rows = 2", "given twice"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        resolve({}, file=written(tmp_path, text))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tunewise.toml").write_bytes(b"seed = \xff")
    with pytest.raises(SettingError, match="cannot be read"):
        resolve({}, file=tmp_path / "tunewise.toml")


def test_every_setting_explains_itself() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert flag(name).startswith("--")
        assert metavar(name) or field.annotation is bool


def test_reading_settings_are_the_first_of_all_settings() -> None:
    assert list(Settings.model_fields)[: len(ReadingSettings.model_fields)] == list(ReadingSettings.model_fields)
