"""Where trials run: in this process one at a time, or in processes of their own, side by side.

An executor is handed trials that do not depend on each other, tells whether there is room for one more, and gives
back what became of them as they end. Events of trials that run elsewhere travel to the one writer of the journal,
as lines of JSON. What a trial finds does not depend on where it runs, given the same number of threads.

>>> executor = Processes(run_folder, jobs=2)
>>> executor.submit(proposal, recorded=[], needs=Needs(memory_mb=900))
>>> executor.wait(sink).status
'finished'
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from tunewise.engine import memory
from tunewise.errors import WorkError
from tunewise.methods import get
from tunewise.study.attempts import Attempts, Sink
from tunewise.study.journal import Event
from tunewise.study.policy import Outcome, Proposal, method_of

POLL_SECONDS = 0.5
"""Between looks at the clock while trials run elsewhere."""
LAST_WORDS = 2_000
"""Characters of what a process said before it ended, that its trial's failure tells."""


@dataclass(frozen=True)
class Needs:
    """What a trial takes while it runs, beside its share of the cores."""

    memory_mb: float = 0.0
    gpu: bool = False


class Watched(Sink, Protocol):
    """Who keeps the journal and looks at the clock."""

    def is_late(self) -> bool:
        """Whether all trials must end at their next step."""
        ...


class Executor(Protocol):
    """Runs trials somewhere."""

    def has_room(self, needs: Needs) -> bool:
        """Whether one more trial may be submitted now; always while none runs."""
        ...

    def submit(self, proposal: Proposal, recorded: Sequence[Event], needs: Needs) -> None:
        """Start a trial, or go on with it; `recorded` are its events so far."""
        ...

    def wait(self, sink: Watched) -> Outcome:
        """What became of the first of the trials that ends; the events of all of them go to `sink`."""
        ...

    def cancel(self) -> None:
        """Ask all trials to end at their next step, with what they have."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


@dataclass
class Here:
    """One at a time, in this process."""

    attempts: Attempts
    _submitted: list[tuple[Proposal, Sequence[Event]]] = field(default_factory=list)

    def has_room(self, needs: Needs) -> bool:
        """For one."""
        return not self._submitted

    def submit(self, proposal: Proposal, recorded: Sequence[Event], needs: Needs) -> None:
        """It runs when it is waited for."""
        self._submitted.append((proposal, recorded))

    def wait(self, sink: Watched) -> Outcome:
        """Run it."""
        proposal, recorded = self._submitted.pop()
        return self.attempts.run(proposal, list(recorded))

    def cancel(self) -> None:
        """The trial looks at the clock itself."""

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class Processes:
    """Several at a time, each in a process that is kept for the next one."""

    folder: Path
    """Of the run, from which the processes read what the trials stand on."""
    jobs: int
    gpus: int = 0
    model_name: str = ""
    """Of the base model, for the record of a trial whose process died before it could start."""
    _idle: list[_Child] = field(default_factory=list)
    _busy: dict[str, tuple[_Child, Needs]] = field(default_factory=dict)
    _messages: queue.Queue[tuple[_Child, dict[str, Any] | None]] = field(default_factory=queue.Queue)
    _cancelled: bool = False

    def has_room(self, needs: Needs) -> bool:
        """For as many as there are jobs, as their forecast memory fits, one on each GPU."""
        if not self._busy:
            return True
        taken = [own for _, own in self._busy.values()]
        fits = sum(own.memory_mb for own in taken) + needs.memory_mb <= memory.limit() / 1e6
        free = not needs.gpu or sum(own.gpu for own in taken) < self.gpus
        return len(taken) < self.jobs and fits and free

    def submit(self, proposal: Proposal, recorded: Sequence[Event], needs: Needs) -> None:
        """In a process that is idle, else in a new one."""
        child = self._idle.pop() if self._idle else _Child(self.folder, self.jobs, self._messages)
        self._busy[proposal.trial] = (child, needs)
        child.send({"run": packed(proposal), "recorded": list(recorded), "late": self._cancelled})

    def wait(self, sink: Watched) -> Outcome:
        """The first that ends; a process that dies fails its trial."""
        while True:
            if not self._cancelled and sink.is_late():
                self.cancel()
            try:
                child, message = self._messages.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if message is None:
                trial = next((name for name, (own, _) in self._busy.items() if own is child), None)
                if trial is None:  # it ended after its work was done
                    continue
                del self._busy[trial]
                names = {"method": method_of(trial), "model": self.model_name}
                sink.write("failed", trial, reason=child.last_words(), error="WorkError", work=0.0, **names)
                child.close()
                return Outcome(trial, "failed")
            if "write" in message:
                sink.write(message["write"], message["trial"], **message["fields"])
            elif "tell" in message:
                sink.tell(message["tell"])
            else:
                outcome = Outcome(**message["outcome"])
                self._idle.append(self._busy.pop(outcome.trial)[0])
                return outcome

    def cancel(self) -> None:
        """Tell every process."""
        self._cancelled = True
        for child, _ in self._busy.values():
            child.send({"stop": True})

    def close(self) -> None:
        """End the processes: they go when nobody speaks to them any more."""
        for child in (*self._idle, *(own for own, _ in self._busy.values())):
            child.close()
        self._idle, self._busy = [], {}


class _Child:
    """A process that runs trials, one after the other."""

    def __init__(
        self, folder: Path, jobs: int, messages: queue.Queue[tuple[_Child, dict[str, Any] | None]]
    ) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        threads = max(1, _cores() // jobs)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            memory.VARIABLE: f"{int(memory.limit() / 1e6 / jobs)}MB",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tunewise.study.child", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=environment,
            text=True,
            encoding="utf-8",
        )
        self._listener = threading.Thread(target=self._listen, args=(messages,), daemon=True)
        self._listener.start()

    def send(self, message: Mapping[str, Any]) -> None:
        """One line; a process that is gone is noticed by who listens to it."""
        with contextlib.suppress(OSError):
            stream = self._stream()
            stream.write(json.dumps(message) + "\n")
            stream.flush()

    def last_words(self) -> str:
        """Why it ended, as far as it said so."""
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace")[-LAST_WORDS:].strip().splitlines()
        how = f"by signal {-code}, perhaps for lack of memory" if code < 0 else f"with exit code {code}"
        return f"its process ended {how}" + (f": {lines[-1]}" if lines else "")

    def close(self) -> None:
        """Stop speaking to it, and wait until it is gone."""
        with contextlib.suppress(OSError):
            self._stream().close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        self._said.close()

    def _stream(self) -> IO[str]:
        if self._process.stdin is None:
            raise WorkError("a process for trials has no standard input.")
        return self._process.stdin

    def _listen(self, messages: queue.Queue[tuple[_Child, dict[str, Any] | None]]) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                messages.put((self, json.loads(line)))
        messages.put((self, None))


def packed(proposal: Proposal) -> dict[str, Any]:
    """A proposal as plain values."""
    return {**vars(proposal), "method": proposal.method.name, "parameters": dict(proposal.parameters)}


def unpacked(values: Mapping[str, Any]) -> Proposal:
    """The inverse of `packed`."""
    return Proposal(**{**values, "method": get(values["method"])})


def executor_of(folder: Path, attempts: Attempts, jobs: int) -> Executor:
    """What runs so many trials at a time."""
    if jobs == 1:
        return Here(attempts)
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Processes(folder, jobs, gpus, attempts.model_name)


def most_jobs() -> int:
    """Trials that may run side by side here: each needs a core."""
    return _cores()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
