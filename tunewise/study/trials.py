"""Trials as the study runs them: metered, scored, recorded, paused and continued.

>>> outcome = StudyTrial(...).run(start, task)
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewise.adapted import NO_MODEL, AdaptedModel, Predictor, loaded
from tunewise.engine import peaks
from tunewise.errors import TrialError
from tunewise.methods.base import Verdict
from tunewise.study.evaluation import Evaluation, evaluate
from tunewise.task import Dataset
from tunewise.whole import replacing

STATE = "state.safetensors"
KEEP_SECONDS, KEEP_RATIO = 15.0, 20.0
"""Between states kept against interruptions: at least so long, and so many times what keeping one took."""


def standing_of(folder: Path) -> dict[str, Any]:
    """How the trial in `folder` stood when its state was last kept; empty without one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / STATE, framework="pt") as file:
            found: dict[str, Any] = json.loads((file.metadata() or {}).get("standing", "{}"))
            return found
    except (OSError, SafetensorError):
        return {}


@dataclass(frozen=True)
class KeptTensors(Mapping[str, Any]):
    """Tensors of a kept state by name, each read when asked for: a file stays mapped as long as one lives."""

    path: Path
    names: tuple[str, ...]

    def __getitem__(self, name: str) -> Any:
        from safetensors import safe_open

        if name not in self.names:
            raise KeyError(name)
        with safe_open(self.path, framework="pt") as file:
            return file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Checked:
    """A candidate that was scored on validation."""

    step: int
    verdict: Verdict
    evaluation: Evaluation | None


@dataclass
class MeteredTrial:
    """What a method is handed: compute that is counted, candidates that are scored, state that is kept."""

    seed: int
    folder: Path
    validation: Dataset
    weigh: Callable[[str, float], float] = lambda kind, flop: flop
    """Turns counted operations of a kind into work."""
    on_check: Callable[[Checked, float | None], None] = lambda checked, epoch: None
    on_progress: Callable[[int, int, float | None], None] = lambda step, steps, loss: None
    standing: Callable[[Checked | None], Mapping[str, Any]] = lambda best: {}
    """What is kept with a state: how the trial stands, from the best candidate so far, if there is one."""
    must_end: Callable[[], bool] = lambda: False
    """The clock's hard stop."""
    pause_at: int | None = None
    """Step at which a rung is reached."""
    stop_at: int | None = None
    """Step at which a trial without validation ends: the last candidate is then its best. None without one."""
    work_limit: float | None = None
    keeps: bool = False
    """Whether a state is kept now and then, beside that of a rung."""
    step: int = 0
    """Of the last check."""
    best: Checked | None = None
    losses: list[float] = field(default_factory=list)
    paused: bool = False
    ended_by_clock: bool = False
    ended_by_work: bool = False
    _steps: int | None = None
    """To the end of the fit; None where the method does not tell."""
    _counted: dict[str, float] = field(default_factory=dict)
    _meter_before: dict[str, float] = field(default_factory=dict)
    _model: Any = None
    _due: bool = False
    _kept_at: float = field(default_factory=time.monotonic)
    _keeping_seconds: float = 0.0

    def watch(self, start: Predictor) -> None:
        """Count what the model under `start` does from now on."""
        if isinstance(start, AdaptedModel) and start.base != NO_MODEL:
            self._model = loaded(start.base)
            self._meter_before = dict(self._model.meter)

    def count_anew(self, start: Predictor) -> None:
        """Forget what was counted so far: an earlier process counted it."""
        self._counted = {}
        self.watch(start)

    @property
    def ends_at(self) -> int | None:
        """Step of the rung, or that at which the trial ends; None where the method decides."""
        return min((step for step in (self.pause_at, self.stop_at) if step is not None), default=None)

    @property
    def cut_short(self) -> bool:
        """Whether the clock or the work that it may take ended it with steps to go, as far as the method tells."""
        missing = self._steps is None or self.step < self._steps
        return missing and (self.ended_by_clock or self.ended_by_work)

    @property
    def work(self) -> float:
        """Work counted so far in this trial."""
        total = sum(self.weigh(kind, flop) for kind, flop in self._counted.items())
        if self._model is not None:
            for kind, flop in self._model.meter.items():
                total += self.weigh(kind, flop - self._meter_before.get(kind, 0.0))
        return total

    def spend(self, kind: str, flop: float) -> None:
        """Count work that the engine does not count by itself."""
        self._counted[kind] = self._counted.get(kind, 0.0) + flop

    def check(self, step: int, candidate: Predictor, *, epoch: float | None = None) -> Verdict:
        """Score `candidate` on validation; whether to stop is the study's to say.

        Raises:
            TrialError: what the model gives the targets is not a number, so that chance would answer.
        """
        evaluation = evaluate(candidate, self.validation) if len(self.validation) else None
        if evaluation is not None and math.isnan(evaluation.log_loss or 0.0):
            raise TrialError(
                f"the scores of validation rows became NaN at step {step}; where it is trained, a smaller "
                "learning rate may help."
            )
        self.paused = self.pause_at is not None and step >= self.pause_at
        self.ended_by_work = self.work_limit is not None and self.work > self.work_limit
        self.ended_by_clock = self.must_end()
        reached = self.stop_at is not None and step >= self.stop_at
        stop = self.paused or reached or self.ended_by_work or self.ended_by_clock
        self.step = step
        self._due = self.paused or (self.keeps and not stop and self._is_time_to_keep())
        value, loss = (evaluation.score, evaluation.log_loss) if evaluation else (None, None)
        checked = Checked(step, Verdict(value, stop, loss, self._due), evaluation)
        if self.best is None or checked.verdict.better_than(self.best.verdict):
            self.best = checked
        self.on_check(checked, epoch)
        return checked.verdict

    def progress(self, step: int, steps: int, loss: float | None = None) -> bool:
        """Note how far the fit is; true when the clock ends it."""
        if loss is not None:
            self.losses.append(loss)
        self._steps = steps
        self.on_progress(step, steps, loss)
        self.ended_by_clock = self.must_end()
        return self.ended_by_clock

    def wants_state(self) -> bool:
        """Whether it is time to keep a state between two checks, or before the first."""
        self._due = self.keeps and self._is_time_to_keep()
        return self._due

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Keep `state` on disk: `tensors` as safetensors, the rest as JSON, with how the trial stands.

        Only where the verdict said so, or it was wanted: a trial that ends needs no state, and must not spoil the
        one that it would be resumed from.
        """
        if not self._due:
            return
        from safetensors.torch import save_file

        begun = time.monotonic()
        standing = json.dumps({**self.standing(self.best), "time": round(time.time(), 3)})
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state["tensors"].items()}
        values = {name: value for name, value in state.items() if name != "tensors"}
        self.folder.mkdir(parents=True, exist_ok=True)
        # One file: tensors and values of different moments can never stand side by side.
        with replacing(self.folder / STATE) as partial:
            save_file(tensors, partial, metadata={"values": json.dumps(values), "standing": standing})
        self._kept_at = time.monotonic()
        self._keeping_seconds = self._kept_at - begun

    def _is_time_to_keep(self) -> bool:
        """Keeping takes a twentieth of the time at most."""
        return time.monotonic() - self._kept_at > max(KEEP_SECONDS, KEEP_RATIO * self._keeping_seconds)

    def state(self) -> dict[str, Any] | None:
        """The state kept last, or None; its tensors are read as they are asked for."""
        from safetensors import safe_open

        if not (self.folder / STATE).exists():
            return None
        with safe_open(self.folder / STATE, framework="pt") as file:
            values = json.loads(file.metadata()["values"])
            return {**values, "tensors": KeptTensors(self.folder / STATE, tuple(file.keys()))}


@dataclass(frozen=True)
class Fitted:
    """A method fitted once, outside a study, with exactly the hyper-parameters given."""

    adapted: Predictor
    seconds: float
    """The fit alone; loading the model is not in it."""
    peak_rss_mb: float
    losses: list[float]
    """Training loss of each step."""
    validation_score: float | None
    peak_gpu_mb: float | None = None
    """Most memory that tensors held on a GPU; None without one."""


def fit_once(method: Any, start: Predictor, train: Dataset, validation: Dataset, seed: int) -> Fitted:
    """Fit `method` on `train`; without validation rows the last step is kept."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        trial = MeteredTrial(seed, Path(folder), validation)
        trial.watch(start)
        peaks.reset()
        begun = time.perf_counter()
        adapted = method.fit(start, train, validation, trial)
        seconds = time.perf_counter() - begun
    score = trial.best.verdict.value if trial.best else None
    return Fitted(adapted, seconds, peaks.resident_mb(), trial.losses, score, peaks.gpu_mb())
