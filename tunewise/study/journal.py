"""The append-only record of a study: one line an event, flushed as it happens.

>>> with Journal(folder / "trials.jsonl") as journal:
...     journal.write("started", "lora-1", method="lora")
>>> read_events(folder / "trials.jsonl")[-1]["event"]
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewise.errors import CandidateError, WorkError, ending_all
from tunewise.run_files import NOT_AGAIN, read_lines

Event = dict[str, Any]
ENDED = frozenset({"finished", "pruned", "failed", "out_of_budget"})


def read_events(path: Path) -> list[Event]:
    """All events of a journal; a torn last line, as a killed process leaves it, is left out.

    Raises:
        CandidateError: another line than the last is damaged.
    """
    events: list[Event] = []
    for line in read_lines(path, torn_end=True):
        if not {"event", "trial"} <= line.values.keys():
            raise CandidateError(
                f"{line.where}: found {list(line.values)}, expected an event and its trial. {NOT_AGAIN}"
            )
        events.append(dict(line.values))
    return events


def repeats_of(events: Iterable[Event]) -> dict[str, str]:
    """Trials that repeat another with a seed of their own, and which."""
    return {
        event["trial"]: event["repeats"] for event in events if event["event"] == "started" and "repeats" in event
    }


def finished_repeats(events: Iterable[Event]) -> list[str]:
    """The repeats that finished, in order."""
    events = list(events)
    repeats = repeats_of(events)
    return [event["trial"] for event in events if event["event"] == "finished" and event["trial"] in repeats]


def mend(path: Path) -> None:
    """Cut a torn last line off, so that the next event starts on a line of its own."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


@dataclass
class Journal:
    """The one writer of a study's journal."""

    path: Path
    on_event: Callable[[Event], None] | None = None
    """Told of every event after it stands on disk."""
    elapsed_before: float = 0.0
    """Seconds that earlier processes spent on this study."""
    _started: float = field(default_factory=time.perf_counter)

    @property
    def elapsed(self) -> float:
        """Seconds spent on the study so far, in all its processes."""
        return self.elapsed_before + time.perf_counter() - self._started

    def write(self, event: str, trial: str | None, **fields: Any) -> Event:
        """Append an event, flush it, and pass it on.

        Raises:
            Ending: it cannot be written, as on a full disk; with a `WorkError`.
        """
        line: Event = {
            "event": event,
            "trial": trial,
            "time": round(time.time(), 3),
            "elapsed": round(self.elapsed, 3),
            **fields,
        }
        with ending_all():
            self._append(json.dumps(line, ensure_ascii=False) + "\n")
        self.tell(line)
        return line

    def tell(self, event: Mapping[str, Any]) -> None:
        """Pass on something that is worth showing but not recording."""
        if self.on_event is not None:
            self.on_event(dict(event))

    def _append(self, line: str) -> None:
        """The whole line or nothing of it."""
        whole = self.path.stat().st_size if self.path.exists() else 0
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            with contextlib.suppress(OSError):  # else it is cut off on resuming
                os.truncate(self.path, whole)
            raise WorkError(
                f"{self.path} cannot be written: {error.strerror}. Nothing on record is lost: make room, or "
                f"see to the folder's permissions, and go on with: tunewise resume {self.path.parent}"
            ) from error
