"""A stand-in for `tunewise.api`, what it answers by default, and a way to call the command line on it."""

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from tunewise.adapted import Prediction
from tunewise.cli.app import app
from tunewise.recommend import Compared, Recommendation
from tunewise.task import Choices, Dataset, Example, Task, TaskSpec

COLUMNS = (
    "candidate",
    "method",
    "family",
    "score",
    "ci_low",
    "ci_high",
    "fit_seconds",
    "ms_per_example",
    "artifact_mb",
    "status",
)
LEADERBOARD = [
    dict(zip(COLUMNS, line.split(","), strict=True))
    for line in (
        "lora,lora,fine-tuning,0.852,0.82,0.88,74.2,41.23,19.5,finished",
        "prompt-then-lora,prompt-then-lora,hybrid,0.846,0.81,0.875,61,41.5,19.5,finished",
        "majority,majority,baseline,0.188,0.155,0.224,0.01,0.002,0.001,finished",
        ",full,fine-tuning,,,,,,,out_of_budget",
    )
]
RECOMMENDATION = Recommendation(
    pick="lora",
    status="non-inferior",
    score=0.852,
    ci=(0.82, 0.88),
    reasons=("lora answers 426 of 500 test rows rightly [0.852].",),
    tied_with=("prompt-then-lora",),
    runner_up="prompt-then-lora",
    difference=Compared(0.006, (-0.02, 0.03), 0.7),
    margin=2.0,
    warnings=("Intervals cover this trained model, not the method.",),
    reference="lora",
    nominee="lora",
    metric="accuracy",
    n_test=500,
    differences={"prompt-then-lora": Compared(-0.006, (-0.03, 0.02), 0.7, 0.01)},
    smallest_margin_shown=1.4,
    rows_needed=None,
    next_commands=("tunewise predict r --text 'your text'", "tunewise report r"),
    conditions=("Below about 13,000 requests a month with 1 set-up, few-shot would be the pick: it costs less.",),
    costs={
        name: {
            "setup": {"labels": 256.0, "work": setup, "seconds": 61.0, "peak_mb": 1100.0},
            "per_1000_requests": {
                "work": 8.1e12,
                "milliseconds": 41_230.0,
                "prompt_tokens": 18_000.0,
                "cached_tokens": None,
            },
            "serving_mb": 790.0,
        }
        for name, setup in (("lora", 3.1e14), ("prompt-then-lora", 2.6e14), ("majority", 0.0))
    },
    break_even_requests={"prompt-then-lora": 41_234.0, "majority": None},
    front=("lora", "majority"),
    demand={"requests": 100_000.0, "updates": 2.0},
)
SPEC = TaskSpec("classification", ("text",), Choices(("a", "b"), ("a", "b")), "Classify.", "accuracy")
ROWS = Dataset((Example(0, {"text": "one"}, "a"),))
TASK = Task(
    SPEC, ROWS, ROWS, ROWS, "tickets", {"target": "intent", "guessed": {"input": ["text"], "target": "intent"}}
)


def study(folder: Path) -> types.SimpleNamespace:
    """What `compare` and `resume` give."""
    return types.SimpleNamespace(folder=folder, task=TASK, leaderboard=LEADERBOARD, recommendation=RECOMMENDATION)


class FakeApi(types.ModuleType):
    """Records what it is asked; tells `events`; answers what stands in `answers`."""

    def __init__(self) -> None:
        super().__init__("tunewise.api")
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.events: list[dict[str, Any]] = []
        self.answers: dict[str, Any] = {
            "compare": lambda data, **named: study(named["out"]),
            "spec_of": lambda path: SPEC,
            "resume": lambda folder, **named: study(folder),
            "recommend": RECOMMENDATION,
            "predict": lambda path, inputs, **named: [
                Prediction("a", {"a": -0.1, "b": -2.3}, 0.9047312) for _ in inputs
            ],
        }

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*given: Any, **named: Any) -> Any:
            self.calls.append((name, given, named))
            for event in self.events:
                named["on_event"](event)
            answer = self.answers[name]
            if isinstance(answer, BaseException):
                raise answer
            return answer(*given, **named) if callable(answer) else answer

        return call

    def only_call(self) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
        """The one call that was made, beside asking for a spec: its name, arguments and keyword arguments."""
        (call,) = [call for call in self.calls if call[0] != "spec_of"]
        return call


def run(*arguments: str, stdin: str | None = None) -> Result:
    """The command line, called in this process."""
    return CliRunner().invoke(app, list(arguments), input=stdin)
