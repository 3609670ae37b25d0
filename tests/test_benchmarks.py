"""The arithmetic behind the side-by-side benchmarks; the peers themselves are not needed."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import harness
from benchmarks.harness import Bench, BenchError, Spread, columns, ratios, schedule, spread

WORKER = """
import sys
sys.path.insert(0, {folder!r})
from harness import serve

def add(job):
    if job["settings"].get("fails"):
        raise ValueError("on purpose")
    return {{"sum": job["base"] + job["settings"]["more"] + job["seed"]}}

assert serve({{"add": add}})
"""


def test_a_spread_is_median_smallest_and_largest() -> None:
    assert spread([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0, 3)
    assert spread([3.0, 1.0, 10.0, 4.0]).median == 3.5
    assert spread([3.0, 1.0, 10.0]).text(1) == "3.0 (1.0–10.0)"
    assert spread([3.0]).text(1) == "3.0"


def test_a_ratio_is_of_medians_and_its_range_round_by_round() -> None:
    found = ratios([10.0, 20.0, 30.0], [2.0, 5.0, 3.0])
    assert found == Spread(20.0 / 3.0, 4.0, 10.0, 3)


def test_a_slow_peer_is_compared_in_the_rounds_it_ran() -> None:
    found = ratios([10.0, 20.0, 30.0], [2.0])
    assert found == Spread(5.0, 5.0, 5.0, 1)


def test_every_round_starts_with_another_side() -> None:
    order = schedule([3, 3, 3])
    assert [side for _, side in order] == [0, 1, 2, 1, 2, 0, 2, 0, 1]
    assert [number for number, _ in order] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_side_with_fewer_repeats_leaves_out_the_last_rounds() -> None:
    order = schedule([5, 2])
    assert Counter(side for _, side in order) == {0: 5, 1: 2}
    assert {number for number, side in order if side == 1} == {0, 1}


def test_a_table_has_a_head_and_columns_of_one_width() -> None:
    assert columns([["side", "s"], ["a", "1.25"]]).splitlines() == ["side  s", "----  ----", "a     1.25"]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    script = tmp_path / "script.py"
    script.write_text(WORKER.format(folder=str(Path(harness.__file__).parent)))
    return Bench(str(script), "sums", quick=True)


def test_repetitions_run_in_processes_of_their_own(bench: Bench) -> None:
    sides = [harness.Side("one", "add", {"more": 1}), harness.Side("two", "add", {"more": 2}, repeats=1)]
    runs = bench.run(sides, 2, {"base": 10}, "sum")
    assert [run["sum"] for run in runs["one"]] == [11, 12]
    assert [run["sum"] for run in runs["two"]] == [12]
    assert all(run["process_seconds"] > 0 for side in runs.values() for run in side)


def test_the_fastest_setting_is_taken_and_one_that_fails_is_passed_over(bench: Bench) -> None:
    options = [harness.Side("peer", "add", {"more": more, "fails": more == 3}) for more in (1, 2, 3)]
    assert bench.fastest(options, {"base": 0}, "sum").settings["more"] == 2


def test_a_failure_says_what_the_process_said(bench: Bench) -> None:
    with pytest.raises(BenchError, match="on purpose"):
        bench.call("add", {"base": 0, "seed": 0, "settings": {"fails": True}})


def test_memory_is_measured() -> None:
    harness.reset_peak()
    found = harness.memory_figures()
    assert 0 < found["peak_mb"] <= found["process_peak_mb"]
    assert sys.modules["benchmarks.harness"] is harness
