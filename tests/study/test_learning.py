"""Learning curves of a run: what is fitted, what a budget leaves out, and what follows from the answers."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import colour_task
from tunewise import api
from tunewise.errors import CandidateError, SettingError
from tunewise.recommend.learning import Learning, Learnt
from tunewise.statistics.curves import Crossing, Expected
from tunewise.study.learning import sizes_of

pytestmark = pytest.mark.usefixtures("float32")
PLAIN = ["majority", "tfidf-logistic", "nearest-example"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of methods that need no language model."""
    folder = tmp_path_factory.mktemp("study") / "run"
    api.compare(colour_task(64), methods=PLAIN, budget="40trials", out=folder)
    return folder


@pytest.fixture
def run(plain: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(plain, tmp_path / "run"))


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "curve.jsonl").read_text().splitlines()]


def test_sizes_double_up_to_all_rows_and_are_five_at_least() -> None:
    assert sizes_of(256) == (8, 16, 32, 64, 128, 256)
    assert sizes_of(300) == (8, 16, 32, 64, 128, 300)
    assert sizes_of(64) == (8, 13, 23, 38, 64)
    assert sizes_of(32) == (8, 11, 16, 23, 32)
    assert all(len(set(sizes_of(rows))) == len(sizes_of(rows)) >= 5 for rows in range(32, 700))
    with pytest.raises(SettingError, match="at least 32 training rows; found 31"):
        sizes_of(31)


def test_every_learner_is_fitted_at_each_size_in_three_draws(run: Path) -> None:
    study = api.curve(run, budget="100trials")
    learners = {"tfidf-logistic", "nearest-example"}
    points = {(line["method"], line["size"], line["draw"]) for line in lines_of(run) if "outputs" in line}
    assert points == {(name, size, draw) for name in learners for size in sizes_of(64) for draw in range(3)}
    told = study.recommendation.learning
    assert set(told["candidates"]) == learners
    assert set(told["constant"]) == {"majority"}
    assert told["unmeasured"] == []
    again = json.loads((run / "recommendation.json").read_text())["learning"]
    assert again == json.loads(json.dumps(told))
    for one in told["candidates"].values():
        assert one["twice"]["low"] <= one["twice"]["value"] <= one["twice"]["high"]
    assert "What more labels are worth" in (run / "report.html").read_text()


def test_all_rows_in_the_first_draw_are_the_answers_of_the_study_itself(run: Path) -> None:
    api.curve(run, budget="100trials")
    for line in lines_of(run):
        if line["size"] == 64 and line["draw"] == 0:
            path = run / "predictions" / f"{line['method']}-1-test.jsonl"
            stored = [json.loads(one)["prediction"] for one in path.read_text().splitlines()]
            assert (line["outputs"], line["work"]) == (stored, 0.0)


def test_nothing_is_measured_twice_and_a_small_budget_goes_on_later(run: Path) -> None:
    events: list[dict[str, Any]] = []
    api.curve(run, budget="16trials", on_event=events.append)
    told = [event["text"] for event in events if event["event"] == "message"]
    assert any("no learning curve yet, it takes 14trials more" in text for text in told)
    first = (run / "curve.jsonl").read_text()
    assert len({line["method"] for line in lines_of(run) if "outputs" in line}) == 1
    assert len(api.recommend(run).learning["unmeasured"]) == 1
    api.curve(run, budget="16trials")
    assert (run / "curve.jsonl").read_text().startswith(first)
    assert api.recommend(run).learning["unmeasured"] == []
    whole = (run / "curve.jsonl").read_text()
    api.curve(run, budget="1trials")
    assert (run / "curve.jsonl").read_text() == whole


def test_a_torn_line_is_measured_again(run: Path) -> None:
    api.curve(run, budget="100trials")
    whole = (run / "curve.jsonl").read_text()
    (run / "curve.jsonl").write_text(whole[:-30])
    assert len(api.recommend(run).learning["unmeasured"]) == 1
    api.curve(run, budget="100trials")
    lines = [{**line, "seconds": 0} for line in lines_of(run)]
    assert lines == [{**json.loads(line), "seconds": 0} for line in whole.splitlines()]


def test_a_budget_that_holds_no_curve_begins_with_that_of_the_pick(run: Path) -> None:
    events: list[dict[str, Any]] = []
    study = api.curve(run, budget="3trials", on_event=events.append)
    measured = [line for line in lines_of(run) if "outputs" in line]
    assert {line["method"] for line in measured} == {study.recommendation.pick}
    assert len(measured) == 3
    told = [event["text"] for event in events if event["event"] == "message"]
    assert any("the budget ended before its learning curve was whole; `tunewise curve` goes on" in t for t in told)


def test_answers_to_other_rows_are_damage(run: Path) -> None:
    api.curve(run, budget="100trials")
    lines = lines_of(run)
    next(line for line in lines if "outputs" in line)["outputs"].pop()
    (run / "curve.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(CandidateError, match=r"curve.jsonl, line \d+: found 39 answers.*measures it again"):
        api.recommend(run)


def test_an_unfinished_run_has_no_curves_yet(run: Path) -> None:
    lines = (run / "trials.jsonl").read_text().splitlines(keepends=True)
    (run / "trials.jsonl").write_text("".join(line for line in lines if '"tested"' not in line))
    with pytest.raises(CandidateError, match="not finished yet; finish it with: tunewise resume"):
        api.curve(run)


def test_compare_measures_curves_where_they_are_asked_for_and_resume_ends_them(tmp_path: Path) -> None:
    task, run = colour_task(64), tmp_path / "run"
    api.compare(task, methods=PLAIN, budget="40trials", curve=True, curve_budget="100trials", out=run)
    whole = (run / "curve.jsonl").read_text()
    assert json.loads((run / "run.json").read_text())["curve"] == "100trials"
    (run / "curve.jsonl").unlink()
    study = api.resume(run)
    assert len((run / "curve.jsonl").read_text().splitlines()) == len(whole.splitlines())
    assert study.recommendation.learning["candidates"]


def test_too_few_rows_for_curves_are_seen_before_anything_is_done(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="at least 32 training rows; found 20"):
        api.compare(colour_task(20), methods=PLAIN, budget="9trials", curve=True, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_each_candidate_saves_beside_each_is_told(run: Path) -> None:
    study = api.curve(run, budget="100trials")
    told = study.recommendation.learning["candidates"]
    ours, theirs = (
        told[one]["saves"].get(other)
        for one, other in (("tfidf-logistic", "nearest-example"), ("nearest-example", "tfidf-logistic"))
    )
    assert (ours is None) == (theirs is None)
    if ours is not None:
        assert ours["labels"] == pytest.approx(-theirs["labels"])
        assert ours["ci"] == pytest.approx([-end for end in reversed(theirs["ci"])])
    assert "Training rows saved beside" not in (run / "report.html").read_text(), "of two one column says it"


def test_an_advantage_without_an_interval_is_not_told(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves that share scores by chance, which most resamples do not."""
    api.curve(run, budget="100trials")
    module = sys.modules[Learning.__module__]
    monkeypatch.setattr(module, "data_advantage", lambda *_: 12.0)
    for interval in (None, (5.0, 20.0)):
        monkeypatch.setattr(module, "data_advantage_interval", lambda *_, resamples, ends=interval: ends)
        found = api.recommend(run)
        told = found.learning["candidates"]
        (other,) = set(told) - {found.pick}
        assert (told[other]["advantage"] is None) == (told[other]["advantage_ci"] is None) == (interval is None)
        assert bool(told[other]["saves"]) == (interval is not None)


@pytest.mark.parametrize(
    ("crossing", "level", "says"),
    [
        (None, 0.04, "Not within reach: lora and full do not come level within 512 training rows"),
        (None, 0.2, "Whether lora and full come level within 512 training rows"),
        (Crossing(400.0, 300.0, None), 0.04, "Whether lora and full come level within 512 training rows"),
        (Crossing(100.0, 80.0, 120.0), 0.04, "Whether lora and full come level within 512 training rows"),
        (Crossing(400.0, 300.0, None), 0.6, "Whether lora and full come level within 512 training rows"),
        (Crossing(400.0, 300.0, 500.0), 0.9, "full comes level with lora at about 400 (300 to 500) training rows"),
    ],
)
def test_of_each_pair_of_curves_something_is_said(crossing: Crossing | None, level: float, says: str) -> None:
    twice = Expected(0.9, 0.8, 1.0)
    full = Learnt("full", "fine-tuning", {256: (0.7, 0.7, 0.7)}, twice, overtakes=crossing, level=level)
    lora = Learnt("lora", "fine-tuning", {256: (0.8, 0.8, 0.8)}, twice)
    torn = Learnt("soft-prompt", "prompt tuning", {256: (0.8,)})
    found = Learning(256, 100, {"lora": lora, "full": full, "soft-prompt": torn}, {}, ("soft-prompt",), {})
    (said,) = found.sentences("lora")
    assert says in said


def test_nothing_is_said_of_a_pick_without_a_curve() -> None:
    twice = Expected(0.9, 0.8, 1.0)
    lora = Learnt("lora", "fine-tuning", {256: (0.8, 0.8, 0.8)}, twice)
    found = Learning(256, 100, {"lora": lora}, {"zero-shot": 0.9}, (), {})
    assert not list(found.sentences("zero-shot"))


def test_tuned_methods_and_chains_have_curves_too(tiny_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    methods = ["zero-shot", "few-shot", "lora", "prompt-then-lora"]
    api.compare(colour_task(), model=str(tiny_folder), methods=methods, budget="12trials", out=run)
    study = api.curve(run, budget="60trials")
    told = study.recommendation.learning
    assert set(told["candidates"]) == {"few-shot", "lora", "prompt-then-lora"}
    assert set(told["constant"]) == {"zero-shot"}
    beside = any(one["saves"] for one in told["candidates"].values())
    assert ("Training rows saved beside" in (run / "report.html").read_text()) == beside
    assert all(line["work"] > 0 for line in lines_of(run) if line["size"] == 8)
    events: list[dict[str, Any]] = []
    (run / "curve.jsonl").unlink()
    api.curve(run, budget="1s", on_event=events.append)
    assert any("it takes" in event["text"] and "s more" in event["text"] for event in events if "text" in event)
