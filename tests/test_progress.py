"""Progress: plain lines elsewhere, a live view on a terminal."""

import os
import pty
import subprocess
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_process import ENVIRONMENT
from tunewise.progress import Board, _is_attended, progress, watched

EVENTS: Sequence[dict[str, Any]] = (
    {"event": "phase", "text": "reading\x1b[31m data"},
    {
        "event": "started",
        "trial": "lora-2",
        "method": "lora",
        "parameters": {"learning_rate": 5e-4, "epochs": 3},
        "forecast_seconds": 30,
        "elapsed": 60.0,
    },
    {
        "event": "progress",
        "trial": "lora-2",
        "step": 4,
        "steps": 48,
        "value": None,
        "used_seconds": 65.0,
        "budget_seconds": 600.0,
    },
    {"event": "reported", "trial": "lora-2", "step": 16, "value": 0.8, "best": True, "elapsed": 70.0},
    {"event": "finished", "trial": "lora-2", "step": 48, "value": 0.85, "seconds": 31.0, "elapsed": 96.0},
    {"event": "failed", "trial": "full-1", "reason": "the loss is not a number", "elapsed": 97.0},
    {"event": "something new", "trial": None},
)


def test_off_a_terminal_each_event_is_a_plain_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as on_event:
        for event in EVENTS:
            on_event(dict(event))
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        "reading [31m data",
        "[1:00] lora-2: started, learning_rate 0.0005, epochs 3 (about 0:30)",
        "[1:10] lora-2: step 16, validation 0.800, best so far",
        "[1:36] lora-2: finished, validation 0.850 at step 48, 0:31",
        "[1:37] full-1: failed: the loss is not a number",
    ]


BASELINE: Sequence[dict[str, Any]] = (
    {"event": "started", "trial": "majority-1", "method": "majority", "family": "baseline", "parameters": {}},
    {"event": "reported", "trial": "majority-1", "step": 1, "value": 0.2, "best": True},
    {"event": "finished", "trial": "majority-1", "step": 1, "value": 0.2, "seconds": 0.4, "elapsed": 1.0},
)


def test_a_baseline_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress() as on_event:
        for event in (*BASELINE, {"event": "failed", "trial": "majority-1", "reason": "no memory"}):
            on_event(dict(event))
    assert capsys.readouterr().err.splitlines() == [
        "[0:01] majority-1: finished, validation 0.200, 0:00",
        "[0:01] majority-1: failed: no memory",
    ]


PHASE = {"event": "phase", "text": "reading"}


@pytest.mark.parametrize(
    ("attended", "shown", "listener", "told"),
    [
        (False, None, False, ""),
        (True, None, False, "reading\n"),
        (True, False, False, ""),
        (False, True, False, "reading\n"),
        (True, None, True, ""),
        (True, True, True, "reading\n"),
    ],
)
def test_progress_is_shown_to_whoever_watches(
    attended: bool,
    shown: bool | None,
    listener: bool,
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tunewise.progress._is_attended", lambda: attended)
    taken: list[dict[str, Any]] = []
    with watched(taken.append if listener else None, shown) as tell:
        tell(PHASE)
    assert capsys.readouterr().err == told
    assert taken == ([PHASE] if listener else [])


def test_a_notebook_counts_as_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _is_attended()
    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert _is_attended()


def test_the_board_knows_the_running_trial_and_the_best() -> None:
    board = Board()
    for event in EVENTS[:4]:
        board.update(event)
    assert (board.trial, board.step, board.steps, board.value) == ("lora-2", 16, 48, 0.8)
    assert board.best == {"lora": 0.8}
    assert board.budget().endswith("12%  1:10 of 10:00")
    assert board.budget(since=20.0).endswith("15%  1:30 of 10:00")
    board.update(EVENTS[4])
    assert board.best == {"lora": 0.85}


def test_a_worse_step_leaves_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    board = Board()
    for event in EVENTS[:4]:
        board.update(event)
    board.update({"event": "reported", "trial": "lora-2", "step": 32, "value": 0.5})
    assert board.best == {"lora": 0.8}


@pytest.mark.parametrize("no_color", [False, True])
def test_on_a_terminal_the_view_is_redrawn(tmp_path: Path, no_color: bool) -> None:
    shown = on_a_terminal(tmp_path, no_color)
    assert "\x1b[2K" in shown
    assert "lora-2  learning_rate 0.0005, epochs 3" in shown
    assert "step 16/48   score so far 0.800" in shown
    assert "best  lora 0.800" in shown
    assert "of 10:00" in shown
    assert "full-1: failed: the loss is not a number" in shown
    assert "\x1b[31m" not in shown


def on_a_terminal(folder: Path, no_color: bool) -> str:
    """What the live view writes to a terminal of 80 columns."""
    script = folder / "show.py"
    script.write_text(
        "import sys, time\n"
        "from tunewise.progress import progress\n"
        f"with progress() as on_event:\n    for event in {list(EVENTS)!r}:\n"
        "        on_event(event)\n        time.sleep(0.3)\n"
    )
    ours, theirs = pty.openpty()
    environment = ENVIRONMENT | {"TERM": "xterm", "COLUMNS": "80"} | ({"NO_COLOR": "1"} if no_color else {})
    with subprocess.Popen([sys.executable, script], stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # how Linux tells that the other end was closed
            pass
        os.close(ours)
    assert process.returncode == 0
    return shown.decode()
