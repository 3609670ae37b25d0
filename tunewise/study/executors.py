"""Where trials and fits run: in this process one at a time, or in processes of their own, side by side.

An executor is handed what does not depend on each other, tells whether there is room for one more, and gives back
what became of it as it ends. Events of what runs elsewhere travel to the one writer of the journal, as lines of
JSON. What a trial finds does not depend on where it runs, given the same number of threads.

>>> executor = Processes(run_folder, jobs=2)
>>> executor.submit(proposal, Needs(memory_mb=900, cores=2))
>>> executor.wait(sink).status
'finished'
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import psutil

from tunewise.engine import memory
from tunewise.errors import WorkError
from tunewise.figures import counted
from tunewise.methods import get
from tunewise.study.attempts import Attempts, Sink
from tunewise.study.journal import Event
from tunewise.study.proposals import Outcome, Proposal
from tunewise.study.refits import Refit, packed_refit, unpacked_refit

POLL_SECONDS = 0.5
"""Between looks at the clock while trials run elsewhere."""
LAST_WORDS = 2_000
"""Characters of what a process said before it ended, that its trial's failure tells."""
Asked = Proposal | Refit
One = TypeVar("One", Proposal, Refit)


@dataclass(frozen=True)
class Needs:
    """What a trial or a fit takes while it runs."""

    memory_mb: float = 0.0
    """By its forecast."""
    cores: int = 1
    """Threads that it computes with: results depend on how many."""
    gpus: int = 0


class Watched(Sink, Protocol):
    """Who keeps the journal and looks at the clock."""

    def is_late(self) -> bool:
        """Whether all trials must end at their next step."""
        ...

    def lost(self, asked: Any, reason: str) -> Outcome:
        """What becomes of what was submitted, when its process is gone."""
        ...


class Executor(Protocol):
    """Runs trials and fits somewhere."""

    jobs: int
    """At a time, at most."""
    cores: int
    """That those running share."""

    def has_room(self, needs: Needs) -> bool:
        """Whether one more may be submitted now; always while none runs."""
        ...

    def submit(self, asked: Asked, needs: Needs, recorded: Sequence[Event] = ()) -> None:
        """Start it, or go on with it; of a trial `recorded` are its events so far."""
        ...

    def wait(self, sink: Watched) -> Outcome:
        """What became of the first that ends; the events of all of them go to `sink`."""
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

    run: Callable[[Any, Sequence[Event]], Outcome]
    """Runs one, given its events so far."""
    jobs: int = 1
    cores: int = 1
    _submitted: list[tuple[Asked, Sequence[Event]]] = field(default_factory=list)

    def has_room(self, needs: Needs) -> bool:
        """For one."""
        return not self._submitted

    def submit(self, asked: Asked, needs: Needs, recorded: Sequence[Event] = ()) -> None:
        """It runs when it is waited for."""
        self._submitted.append((asked, recorded))

    def wait(self, sink: Watched) -> Outcome:
        """Run it."""
        return self.run(*self._submitted.pop())

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
    cores: int = 1
    """Of the machine, that those running share."""
    _idle: list[_Child] = field(default_factory=list)
    _busy: dict[str, _Running] = field(default_factory=dict)
    _messages: queue.Queue[tuple[_Child, dict[str, Any] | None]] = field(default_factory=queue.Queue)
    _cancelled: bool = False

    def has_room(self, needs: Needs) -> bool:
        """For as many as there are jobs, as cores and forecast memory allow beside what this process takes."""
        if not self._busy:
            return True
        wanted = [needs, *(running.needs for running in self._busy.values())]
        held = 0.0 if needs.gpus else psutil.Process().memory_info().rss / 1e6
        fits = sum(one.memory_mb for one in wanted) + held <= memory.limit() / 1e6
        return len(wanted) <= self.jobs and sum(one.cores for one in wanted) <= max(self.cores, self.jobs) and fits

    def submit(self, asked: Asked, needs: Needs, recorded: Sequence[Event] = ()) -> None:
        """In a process that is idle, else in a new one.

        Raises:
            WorkError: the machine gives none.
        """
        while self._idle and self._idle[-1].is_gone:
            self._idle.pop().close()
        child = self._idle.pop() if self._idle else self._new(on_gpu=bool(needs.gpus))
        self._busy[asked.key] = _Running(child, asked, needs)
        wanted = {"run": packed(asked), "recorded": list(recorded), "threads": needs.cores}
        child.send({**wanted, "late": self._cancelled})

    def wait(self, sink: Watched) -> Outcome:
        """The first that ends; a process that dies fails its trial.

        Raises:
            WorkError: a process ended before it could run anything.
        """
        while True:
            if not self._cancelled and sink.is_late():
                self.cancel()
            try:
                child, message = self._messages.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            if message is None:
                child.close()
                key = next((name for name, running in self._busy.items() if running.child is child), None)
                if key is None:  # it was idle
                    self._idle = [one for one in self._idle if one is not child]
                    continue
                if not child.is_ready:
                    raise self._cannot(child.last_words)
                return sink.lost(self._busy.pop(key).asked, child.last_words)
            if "ready" in message:
                child.is_ready = True
            elif "write" in message:
                sink.write(message["write"], message["trial"], **message["fields"])
            elif "tell" in message:
                sink.tell(message["tell"])
            else:
                outcome = Outcome(**message["outcome"])
                self._idle.append(self._busy.pop(outcome.trial).child)
                return outcome

    def cancel(self) -> None:
        """Tell every process."""
        self._cancelled = True
        for running in self._busy.values():
            running.child.send({"stop": True})

    def close(self) -> None:
        """End the processes: they go when nobody speaks to them any more."""
        for child in (*self._idle, *(running.child for running in self._busy.values())):
            child.close()
        self._idle, self._busy = [], {}

    def _new(self, *, on_gpu: bool) -> _Child:
        taken = {running.child.number for running in self._busy.values()}
        number = next(one for one in itertools.count() if one not in taken)
        try:
            return _Child(self.folder, number, self._messages, on_gpu=on_gpu)
        except OSError as error:
            raise self._cannot(f"no process can be started ({error.strerror})") from error

    def _cannot(self, why: str) -> WorkError:
        return WorkError(
            f"trials cannot run side by side here: {why}. What is done is kept; go on one at a time with: "
            f"tunewise resume {self.folder} --jobs 1"
        )


@dataclass(frozen=True)
class _Running:
    """What runs elsewhere."""

    child: _Child
    asked: Asked
    needs: Needs


class _Child:
    """A process that runs trials, one after the other."""

    def __init__(
        self,
        folder: Path,
        number: int,
        messages: queue.Queue[tuple[_Child, dict[str, Any] | None]],
        *,
        on_gpu: bool = False,
    ) -> None:
        self.number = number
        """Among those that run at the same time; that of its GPU, where it has one."""
        self.is_ready = False
        self.last_words = ""
        """Why it ended, as far as it said so."""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        # What this process imports, the other one does; but nothing from the folder that it happens to run in.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        if on_gpu:
            environment["CUDA_VISIBLE_DEVICES"] = _gpu(number)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "tunewise.study.child", str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                env=environment,
                text=True,
                encoding="utf-8",
                errors="replace",
            )
        except OSError:
            self._said.close()
            raise
        self._listener = threading.Thread(target=self._listen, args=(messages,), daemon=True)
        self._listener.start()

    @property
    def is_gone(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def send(self, message: Mapping[str, Any]) -> None:
        """One line; a process that is gone is noticed by who listens to it."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """Stop speaking to it, and wait until it is gone."""
        if self._said.closed:
            return
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._listener.join()
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace")[-LAST_WORDS:].strip().splitlines()
        self._said.close()
        how = f"by signal {-code}, perhaps for lack of memory" if code < 0 else f"with exit code {code}"
        self.last_words = f"its process ended {how}" + (f": {lines[-1]}" if lines else "")

    def _listen(self, messages: queue.Queue[tuple[_Child, dict[str, Any] | None]]) -> None:
        assert self._process.stdout is not None
        try:
            with self._process.stdout as lines:
                for line in lines:
                    with contextlib.suppress(json.JSONDecodeError):  # torn, as a process that dies leaves it
                        messages.put((self, json.loads(line)))
        finally:
            messages.put((self, None))


def packed(asked: Asked) -> dict[str, Any]:
    """A trial or a fit as plain values."""
    if isinstance(asked, Refit):
        return {"refit": packed_refit(asked)}
    return {"trial": {**vars(asked), "method": asked.method.name, "parameters": dict(asked.parameters)}}


def unpacked(values: Mapping[str, Any]) -> Asked:
    """The inverse of `packed`."""
    if "refit" in values:
        return unpacked_refit(values["refit"])
    return Proposal(**{**values["trial"], "method": get(values["trial"]["method"])})


def side_by_side(
    executor: Executor,
    asked: Iterable[One],
    goes: Callable[[One], bool],
    needs: Callable[[One], Needs],
    sink: Watched,
    recorded: Callable[[One], Sequence[Event]] = lambda one: (),
) -> Iterator[tuple[One, Outcome]]:
    """Run what does not depend on each other, in this order, and give each with its outcome as it ends.

    Args:
        executor: where.
        asked: trials or fits.
        goes: asked of each when there is room for it: whether it runs at all.
        needs: what each takes.
        sink: where events go.
        recorded: events of a trial so far.
    """
    left, running = deque(asked), dict[str, One]()
    while left or running:
        while left and executor.has_room(needs(left[0])):
            one = left.popleft()
            if goes(one):
                running[one.key] = one
                executor.submit(one, needs(one), recorded(one))
        if running:
            outcome = executor.wait(sink)
            yield running.pop(outcome.trial), outcome


def executor_of(folder: Path, attempts: Attempts, jobs: int) -> tuple[Executor, str | None]:
    """What runs so many trials at a time; and a note where these are fewer than were asked for."""
    if jobs == 1:
        return Here(attempts.run), None
    import torch

    most, what = _cores(), "core"
    if attempts.uses_gpu:
        most, what = torch.cuda.device_count(), "GPU"
    note = None
    if jobs > most:
        note = f"--jobs {jobs}: {counted(most, 'trial')} at a time, as this machine has {counted(most, what)}."
        jobs = most
    if jobs == 1:
        return Here(attempts.run), note
    return Processes(folder, jobs, torch.get_num_threads()), note


def _gpu(number: int) -> str:
    """What CUDA calls the GPU with this number among those that this process may use."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return allowed.split(",")[number].strip() if allowed else str(number)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
