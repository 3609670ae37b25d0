"""Rates: attention told from the rest, kept, and measured again when the machine has changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tunewise.cost import KINDS, STEPS
from tunewise.engine.hardware import renew_rates
from tunewise.engine.loading import load
from tunewise.engine.model import LanguageModel
from tunewise.study import rates

TRUE = {"score": 3e11, "attention": 5e10, "generate": 6e10, "train-lora": 1e11, "train-soft-prompt": 2e11}
TRUE["train-full"] = 1.5e11
TRUE |= dict.fromkeys(STEPS, 1e5)


@pytest.fixture
def model(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LanguageModel:
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path))
    return load(tiny_folder)


def test_measuring_finds_the_rates_that_the_times_come_from(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(model: LanguageModel, work: Any, **_: int) -> Any:
        before = dict(model.meter)
        work()
        done = {kind: count - before.get(kind, 0) for kind, count in model.meter.items()}
        done = {kind: count for kind, count in done.items() if count}
        return rates._Timed(done, sum(count / TRUE[kind] for kind, count in done.items()))

    monkeypatch.setattr(rates, "_seconds", timed)
    found = rates._measure(model)
    assert list(found) == [*KINDS, *STEPS]
    for kind, rate in TRUE.items():
        assert found[kind] == pytest.approx(rates.SUSTAINED * rate, rel=1e-6), kind


def test_a_moment_in_which_something_else_ran_makes_no_method_dear(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = 2 * rates.REPEATS
    real, seen = rates._seconds, []

    def timed(model: LanguageModel, work: Any, **_: int) -> Any:
        found = real(model, work, repeats=1)
        true = sum(count / TRUE[kind] for kind, count in found.work.items())
        seen.append("train-full" in found.work)
        return rates._Timed(found.work, true * (50 if seen[-1] and sum(seen) <= slow else 1))

    monkeypatch.setattr(rates, "_seconds", timed)
    found = rates._measure(model)
    for kind, rate in TRUE.items():
        assert found[kind] == pytest.approx(rates.SUSTAINED * rate, rel=1e-6), kind
    assert sum(seen) == slow + 2


def test_rates_of_another_speed_are_measured_again(model: LanguageModel) -> None:
    measured = rates.rates_of(model)
    assert rates.rates_of(model) == measured
    renew_rates(rates._key(model), lambda: {kind: 100 * rate for kind, rate in measured.items()})
    again, note = rates.checked_rates(model)
    assert note is not None
    assert "measured again" in note
    assert again["score"] < 20 * measured["score"]
    assert rates.rates_of(model) == again
