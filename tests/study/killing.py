"""A study in a process of its own, killed at a moment that its journal tells."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tunewise.errors import CandidateError
from tunewise.study.journal import read_events

PATIENCE = 120.0
"""Seconds after which it is killed wherever it is."""
SCRIPT = """
import sys
sys.path.insert(0, {root!r})
import torch
torch.set_num_threads(1)
from pathlib import Path
from tests.tiny import colour_task
from tunewise import api
folder, model = Path({folder!r}), {model!r}
{setting_up}
if folder.exists():
    api.resume(folder)
else:
    api.compare({compared}, model=model, out=folder)
"""


def peek(folder: Path) -> list[dict[str, Any]]:
    """The events so far, of a journal that may just be written."""
    try:
        return read_events(folder / "trials.jsonl")
    except CandidateError:
        return []


def script_of(folder: Path, model: Path, compared: str, setting_up: str = "") -> str:
    """A script that begins a study in `folder`, with the arguments `compared`, or goes on with it."""
    root = str(Path(__file__).parents[2])
    return SCRIPT.format(root=root, folder=str(folder), model=str(model), compared=compared, setting_up=setting_up)


def run_and_kill(script: str, folder: Path, event: str, count: int) -> None:
    """Run a script, and kill it as soon as its study has recorded so many events of a kind."""
    process = subprocess.Popen([sys.executable, "-c", script], env=dict(os.environ))
    try:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and process.poll() is None:
            if sum(one["event"] == event for one in peek(folder)) >= count:
                break
            time.sleep(0.002)
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
