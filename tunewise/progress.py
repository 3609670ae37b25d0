"""What is seen while the work is going on: a live view on a terminal, one plain line per event elsewhere.

Everything goes to standard error. Events are the journal's lines (docs/run-folder.md) and two live ones, `phase`
and `progress`. A baseline is told in one line: it takes a moment and has no steps.

>>> line({"event": "finished", "trial": "lora-2", "value": 0.85, "step": 48, "seconds": 31.0})
'lora-2: finished, validation 0.850 at step 48, 0:31'
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from tunewise import figures
from tunewise.errors import as_raised, ending_all

if TYPE_CHECKING:
    from rich.console import RenderableType

Event = Mapping[str, Any]
Tell = Callable[[dict[str, Any]], None]
SECONDS_BETWEEN_STEPS = 10.0
"""Off a terminal, steps of a running trial are told no more often than this."""
BAR_WIDTH = 30


class Progress(Protocol):
    """Shows events between entering and leaving."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, event: dict[str, Any]) -> None:
        """Take one event."""


def told(on_event: Tell) -> Callable[[str], None]:
    """Takes plain sentences, as fetching gives them, and shows each as a phase."""
    return lambda text: on_event({"event": "phase", "trial": None, "text": text})


def progress() -> Progress:
    """The live view when standard error is a terminal that can redraw lines, else plain lines."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    return Live(console) if console.is_terminal and not console.is_dumb_terminal else Plain()


@contextlib.contextmanager
def watched(on_event: Tell | None, shown: bool | None) -> Iterator[Tell]:
    """What to tell events to: `on_event`, and progress where it is `shown`.

    With None it is shown to whoever sits before a terminal or a notebook, unless `on_event` takes its place. An
    error in showing, such as a broken pipe, leaves the block as it was raised, whatever work it meets.
    """
    if shown is None:
        shown = on_event is None and _is_attended()
    with contextlib.ExitStack() as stack, as_raised():
        takers = [on_event] if on_event is not None else []
        if shown:
            takers.append(stack.enter_context(progress()))
        yield lambda event: _pass_on(event, takers)


def _pass_on(event: dict[str, Any], takers: Sequence[Tell]) -> None:
    with ending_all():
        for take in takers:
            take(event)


def _is_attended() -> bool:
    ipython = sys.modules.get("IPython")  # whoever runs in a notebook has imported it
    shell = ipython.get_ipython() if ipython is not None else None
    return sys.stderr.isatty() or type(shell).__name__ == "ZMQInteractiveShell"


def _result(event: Event, word: str) -> str:
    value = f", validation {figures.score(event['value'])}" if event.get("value") is not None else ""
    reason = f": {figures.clean(event['reason'])}" if event.get("reason") else ""
    return f"{event['trial']}: {word}{value}{reason}"


def _started(event: Event) -> str:
    told = figures.parameters(event.get("parameters"))
    forecast = event.get("forecast_seconds")
    expected = f" (about {figures.duration(forecast)})" if forecast is not None else ""
    return f"{event['trial']}: started{', ' + told if told else ''}{expected}"


def _step(event: Event) -> str:
    steps = f"/{event['steps']}" if event.get("steps") else ""
    return f"{event['trial']}: step {event.get('step')}{steps}"


def _reported(event: Event) -> str:
    best = ", best so far" if event.get("best") else ""
    return f"{_step(event)}, validation {figures.score(event.get('value'))}{best}"


def _finished(event: Event) -> str:
    step = f" at step {event['step']}" if event.get("step") is not None else ""
    took = f", {figures.duration(event['seconds'])}" if event.get("seconds") is not None else ""
    return f"{_result(event, 'finished')}{step}{took}"


_LINES: dict[str, Callable[[Event], str]] = {
    "phase": lambda event: figures.clean(event["text"]),
    "message": lambda event: figures.clean(event["text"]),
    "started": _started,
    "progress": lambda event: _reported(event) if event.get("value") is not None else _step(event),
    "reported": _reported,
    "paused": lambda event: _result(event, f"paused at step {event.get('step')}"),
    "finished": _finished,
    "pruned": lambda event: _result(event, "stopped early"),
    "failed": lambda event: _result(event, "failed"),
    "out_of_budget": lambda event: _result(event, "out of budget"),
    "tested": lambda event: f"{event['trial']}: tested, score {figures.score(event.get('score'))}",
}


def line(event: Event) -> str | None:
    """The event in one line of plain text; None for an event that is not for the eye."""
    words = _LINES.get(str(event.get("event")))
    return words(event) if words else None


@dataclass
class Board:
    """What is known at this moment."""

    phase: str = ""
    trial: str = ""
    method: str = ""
    parameters: str = ""
    step: int | None = None
    steps: int | None = None
    value: float | None = None
    best: dict[str, float] = field(default_factory=dict)
    """Highest validation score per method."""
    used_seconds: float = 0.0
    budget_seconds: float | None = None
    used_share: float | None = None
    _methods: dict[str, str] = field(default_factory=dict)
    _baselines: set[str] = field(default_factory=set)

    def update(self, event: Event) -> None:
        """Take the event in."""
        name, trial = event.get("event"), event.get("trial")
        if name == "phase":
            self.phase, self.trial = figures.clean(event["text"]), ""
            self.step = self.steps = self.value = None
        elif name == "started":
            self.trial, self.method = str(trial), str(event.get("method", ""))
            self.parameters = figures.parameters(event.get("parameters"))
            self.step = self.steps = self.value = None
            self._methods[self.trial] = self.method
            if event.get("family") == "baseline":
                self._baselines.add(self.trial)
        elif name in ("progress", "reported") and trial == self.trial:
            self.step = event.get("step", self.step)
            self.steps = event.get("steps", self.steps)
        self._score(event)
        self.used_seconds = event.get("used_seconds", event.get("elapsed", self.used_seconds))
        self.budget_seconds = event.get("budget_seconds", self.budget_seconds)
        self.used_share = event.get("used_share", self.used_share)

    def _score(self, event: Event) -> None:
        value, trial = event.get("value"), event.get("trial")
        if value is None:
            return
        if trial == self.trial:
            self.value = float(value)
        method = self._methods.get(str(trial))
        if method and event.get("event") in ("reported", "finished"):
            self.best[method] = max(float(value), self.best.get(method, float(value)))

    def line(self, event: Event) -> str | None:
        """The event in one line; None where there is nothing to say. Of a baseline only the outcome is said."""
        if event.get("trial") not in self._baselines:
            return line(event)
        if event.get("event") in ("started", "progress", "reported"):
            return None
        return line({name: value for name, value in event.items() if name != "step"})

    def budget(self, since: float = 0.0) -> str:
        """The budget as a bar with the time used, `since` seconds after the last event; or nothing."""
        used = self.used_seconds + since
        share = used / self.budget_seconds if self.budget_seconds else self.used_share
        if share is None:
            return ""
        filled = round(BAR_WIDTH * min(1.0, max(0.0, share)))
        of = f" of {figures.duration(self.budget_seconds)}" if self.budget_seconds else ""
        bar = "━" * filled + "╌" * (BAR_WIDTH - filled)
        return f"{bar} {share:4.0%}  {figures.duration(used)}{of}"


class Plain:
    """One line per event; nothing that a log file could not hold."""

    def __init__(self) -> None:
        self._board = Board()
        self._told = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, event: dict[str, Any]) -> None:
        """Write the event's line, with the time used where it is known."""
        self._board.update(event)
        now = time.monotonic()
        if event.get("event") == "progress" and now - self._told < SECONDS_BETWEEN_STEPS:
            return
        text = self._board.line(event)
        if text is not None:
            self._told = now
            used = f"[{figures.duration(self._board.used_seconds)}] " if self._board.used_seconds else ""
            print(used + text, file=sys.stderr, flush=True)


class Live:
    """Outcomes scroll by; below them stay the running trial, the best scores so far, and the budget."""

    def __init__(self, console: Any) -> None:
        from rich.live import Live as RichLive
        from rich.spinner import Spinner

        self._console = console
        self._board = Board()
        self._told = time.monotonic()
        self._spinner = Spinner("dots")
        self._live = RichLive(
            console=console,
            get_renderable=self._view,
            refresh_per_second=4,
            redirect_stdout=False,
            transient=True,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """Take the event in; an outcome is also written above the view, to stay."""
        self._board.update(event)
        self._told = time.monotonic()
        text = self._board.line(event)
        if text is not None and event["event"] not in ("progress", "reported", "started", "paused"):
            self._console.print(text, style="dim" if event["event"] == "phase" else None)

    def _view(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        board = self._board
        self._spinner.update(text=Text(f"{board.trial}  {board.parameters}" if board.trial else board.phase))
        lines: list[RenderableType] = [self._spinner]
        if board.step is not None or board.value is not None:
            steps = f"/{board.steps}" if board.steps else ""
            lines.append(Text(f"  step {board.step}{steps}   score so far {figures.score(board.value)}"))
        if board.best:
            ranked = sorted(board.best.items(), key=lambda item: -item[1])
            lines.append(Text("  best  " + "   ".join(f"{name} {value:.3f}" for name, value in ranked)))
        if budget := board.budget(time.monotonic() - self._told):
            lines.append(Text("  " + budget))
        return Group(*lines)
