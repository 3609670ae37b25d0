"""One study killed twenty times at random moments, each time resumed: what is lost, what is done again.

The study runs once in one go, then again with the same budget of counted operations, its process killed (SIGKILL)
at moments drawn over the whole study. It must end with the same pick, no finished trial repeated or lost. A state
is kept at the first check after an interval, so at most that and the way to the next check is done again.

    python benchmarks/evidence/kills.py            # about ten minutes, with the default model
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bars
from bars import Bar

from tunewise.study.journal import read_events
from tunewise.study.trials import KEEP_SECONDS

KILLS = 20
LATEST = 2.0
"""Seconds at most between the event that a kill waits for and the kill."""
STUDY = (
    *("trec", "--train-rows", "96", "--validation", "60", "--budget", "4e13flop"),
    *("--methods", "majority,tfidf-logistic,zero-shot,few-shot,lora,prompt-then-lora"),
)
Event = Mapping[str, Any]


def process_of(folder: Path) -> subprocess.Popen[bytes]:
    """A process that begins the study in `folder`, or goes on with it."""
    begun = (folder / "run.json").exists()
    command = ["resume", str(folder)] if begun else ["compare", *STUDY, "--out", str(folder)]
    return subprocess.Popen(
        [sys.executable, "-m", "tunewise", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def events_of(folder: Path) -> Sequence[Event]:
    """The journal so far."""
    return read_events(folder / "trials.jsonl")


def killed(folder: Path, kills: int, events: int, seed: int) -> list[float]:
    """Run the study with so many kills, each after a number of events and a moment; when each met a process."""
    draw = random.Random(seed)
    met = []
    for place in sorted(draw.sample(range(1, events), kills)):
        process = process_of(folder)
        while process.poll() is None and len(events_of(folder)) < place:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, LATEST))
        if process.poll() is None:
            met.append(time.time())
        process.send_signal(signal.SIGKILL)
        process.wait()
    while process_of(folder).wait() != 0:
        raise SystemExit(f"the study in {folder} does not end when it is resumed")
    return met


def outcomes(folder: Path) -> dict[str, Any]:
    """How each trial ended: its score, its step and its work."""
    ends = [event for event in events_of(folder) if event["event"] in ("finished", "pruned", "failed")]
    return {event["trial"]: [event["event"], event.get("value"), event.get("step")] for event in ends}


def lost(folder: Path, kills: Sequence[float]) -> tuple[list[float], float]:
    """Of each kill within a trial, the seconds back to where it went on; and the longest between two checks."""
    found, gap = [], 0.0
    events = events_of(folder)
    for one, other in itertools.pairwise(events):
        within = not any(one["time"] < kill < other["time"] for kill in kills)
        if other["event"] == "reported" and within:
            gap = max(gap, other["time"] - one["time"])
    for kill in kills:
        before = [event for event in events if event["time"] < kill]
        running = before[-1]["trial"] if before else None
        after = [event for event in events if event["time"] > kill and event["trial"] == running]
        again = next((event for event in after if event["event"] in ("started", "continued")), None)
        if again is not None and before[-1]["event"] in ("started", "continued", "reported"):
            begun = max(event["time"] for event in before if event["event"] in ("started", "continued"))
            # What was kept in an earlier process was not worked for in this one.
            found.append(kill - max(begun, again.get("kept_at", begun)))
    return found, gap


def measure(quick: bool) -> list[Bar]:
    """All bars."""
    kills = 3 if quick else KILLS
    with TemporaryDirectory() as name:
        whole, torn = Path(name, "whole"), Path(name, "torn")
        if process_of(whole).wait() != 0:
            raise SystemExit("the study does not end in one go")
        met = killed(torn, kills, len(events_of(whole)), seed=0)
        picks = [json.loads((folder / "recommendation.json").read_text())["pick"] for folder in (whole, torn)]
        expected, found = outcomes(whole), outcomes(torn)
        ends = [event["trial"] for event in events_of(torn) if event["event"] == "finished"]
        again, gap = lost(torn, met)
    longest = max(again, default=0.0)
    print(f"{len(met)} of {kills} kills met a running study; picks {picks[0]} and {picks[1]}")
    print(f"{len(again)} within a trial: {longest:.0f} s done again at most; checks at most {gap:.0f} s apart")
    gone = [trial for trial in expected if trial not in found]
    return [
        Bar("kills that met a running study", len(met) / kills, least=0.9, count=kills),
        Bar("the pick is that of the study in one go", float(picks[0] == picks[1]), least=1.0),
        Bar("trials that ended otherwise", _share(expected, found), most=1e-9, count=len(expected)),
        Bar("trials lost", len(gone) / len(expected), most=1e-9, count=len(expected)),
        Bar("trials that finished twice", 1 - len(set(ends)) / len(ends), most=1e-9, count=len(ends)),
        Bar(
            "longest work done again, as a share of an interval between kept states and two checks",
            longest / (KEEP_SECONDS + 2 * gap),
            most=1.0,
            count=len(again),
        ),
    ]


def _share(expected: Mapping[str, Any], found: Mapping[str, Any]) -> float:
    return sum(found.get(trial) != ended for trial, ended in expected.items()) / len(expected)


if __name__ == "__main__":
    bars.run("kills", __doc__, measure)
