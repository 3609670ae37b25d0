"""The scripts behind the claims about claims: they run, and their bars bite."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "evidence"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    yield importlib.import_module(request.param)
    for name in ("bars", request.param):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("script", ["claims", "intervals", "searching", "curves"], indirect=True)
def test_a_script_measures_what_it_names(script: ModuleType) -> None:
    found = script.measure(quick=True)
    assert len({bar.what for bar in found}) == len(found)
    assert any(bar.wanted for bar in found)
    assert script.bars.table(found).count("\n") == len(found)


@pytest.mark.parametrize("script", ["claims"], indirect=True)
def test_a_rule_without_a_test_would_miss_its_bar(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "announced", lambda *_: ("superior", 0))
    assert not script.equal_finalists(2, 5).holds
    assert script.bars.table([script.equal_finalists(2, 5)]).endswith("MISSED")


@pytest.mark.parametrize("script", ["claims"], indirect=True)
def test_a_planted_gap_has_the_size_and_the_discordance_asked_for(script: ModuleType) -> None:
    rng = script.np.random.default_rng(0)
    first, *others = script.one_better(rng, 3, 200_000)
    for other in others:
        assert first.mean() - other.mean() == pytest.approx(script.GAP, abs=0.004)
        assert (first != other).mean() == pytest.approx(script.DISCORDANCE, abs=0.004)
    one, other = script.equal(rng, 2, 200_000)
    assert one.mean() - other.mean() == pytest.approx(0.0, abs=0.004)
    assert (one != other).mean() == pytest.approx(script.DISCORDANCE, abs=0.004)


@pytest.mark.parametrize("script", ["intervals"], indirect=True)
def test_an_interval_that_is_too_narrow_misses_its_bar(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = script.wilson
    monkeypatch.setattr(script, "wilson", lambda right, rows: whole(right, rows, 0.8))
    assert not any(script.coverage(0.8, rows, 2_000).holds for rows in (30, 100, 300))
