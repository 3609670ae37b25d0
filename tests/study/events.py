"""What a run folder records, as tests ask for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunewise.study.journal import read_events


def events_of(folder: Path) -> list[dict[str, Any]]:
    """The whole journal."""
    return read_events(folder / "trials.jsonl")


def of_kind(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Its events of one kind."""
    return [event for event in events_of(folder) if event["event"] == kind]


def lines_of(folder: Path, trial: str, split: str = "test") -> list[dict[str, Any]]:
    """What a trial answered to the rows of a split."""
    text = (folder / "predictions" / f"{trial}-{split}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def answers_of(folder: Path, trial: str) -> list[tuple[Any, Any]]:
    """Row by row, what it answered to the test."""
    return [(line["row"], line["prediction"]) for line in lines_of(folder, trial)]
