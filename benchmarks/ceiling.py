"""How much of the machine's matrix-product rate Tunewise turns into work, in scoring and in training.

Work is what the engine counts (`tunewise.cost`): the products that a pass needs, in floating-point operations.
The ceiling is the rate of one large matrix product in the same dtype, measured in the same process right before
and right after, the faster of the two. Activations, norms, masks and Python are in the time, not in the count.

    .venv-peers/bin/python benchmarks/ceiling.py --repeats 5
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import harness
import workloads
from harness import Bench, Run, Side

SIZES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
"""Sides of the square matrices multiplied, by device; the faster counts."""
PROBE_SECONDS = 0.5
TRAINED = {"lora": 5e-4, "full": 1e-4, "soft-prompt": 2e-2}


def prepare(job: Mapping[str, Any]) -> Run:
    """TREC questions, with the plain prompt."""
    from tunewise.prompt import Prompt

    task = workloads.trec(job["rows"], job["questions"])
    folder = workloads.model_folder(job["model"])
    workloads.write_prepared(job, workloads.pack_task(task, Prompt(task.spec.instruction), folder))
    return {"rows": len(task.train), "questions": len(task.test)}


def run_scoring(job: Mapping[str, Any]) -> Run:
    """Six labels after every question."""
    prepared = workloads.read_prepared(job)
    adapted = workloads.adapted_model(prepared)
    model = adapted.renderer().model
    inputs = [fields for fields, _ in prepared["test"]]
    return _share(model, lambda: adapted.raw_scores(inputs))


def run_training(job: Mapping[str, Any]) -> Run:
    """One epoch of a method through the same prompt."""
    import tunewise as tw

    prepared = workloads.read_prepared(job)
    task = workloads.unpack_task(prepared)
    start = workloads.adapted_model(prepared)
    method = job["settings"]["method"]
    given: dict[str, Any] = {"epochs": 1, "batch_size": 16, "learning_rate": TRAINED[method]}
    return _share(start.renderer().model, lambda: tw.fit(task, method=method, start=start, **given))


def _share(model: Any, work: Callable[[], Any]) -> Run:
    """Operations a second of `work`, as a share of what the machine multiplies."""
    before = _matrix_rate(model)
    counted = dict(model.meter)
    begun = time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    done = {kind: value - counted.get(kind, 0) for kind, value in model.meter.items()}
    ceiling = max(before, _matrix_rate(model))
    total = sum(done.values())
    return {
        "share": total / seconds / ceiling,
        "seconds": seconds,
        "operations": {kind: value for kind, value in done.items() if value},
        "gflops": total / seconds / 1e9,
        "ceiling_gflops": ceiling / 1e9,
        **harness.memory_figures(),
    }


def _matrix_rate(model: Any) -> float:
    """The fastest of many products of two square matrices, in operations a second."""
    import torch

    from tunewise.engine.hardware import product_rate

    rates = []
    for size in SIZES[model.device.type]:
        a, b = (torch.randn(size, size, device=model.device).to(model.dtype) for _ in range(2))
        rates.append(product_rate(a, b, PROBE_SECONDS))
    return max(rates)


def _share_text(side: Side, found: Mapping[str, Any]) -> str:
    shares = found["share"]
    return f"{shares.median:.0%} ({shares.low:.0%}–{shares.high:.0%})"


def main() -> None:
    """Read the flags and run."""
    flags = harness.arguments(__doc__).parse_args()
    bench = Bench.of(__file__, "ceiling", flags)
    sides = [Side("scoring", "run_scoring")]
    sides += [Side(f"training, {method}", "run_training", {"method": method}) for method in TRAINED]
    rows, questions = (32, 64) if flags.quick else (256, 500)
    with bench.prepared({"model": flags.model, "rows": rows, "questions": questions}) as made:
        runs = bench.run(sides, harness.rounds(flags), made.job, "share")
    summary = harness.compared(sides, runs, dict.fromkeys(("share", "gflops", "ceiling_gflops")))
    cells = {
        "share of the ceiling": _share_text,
        "GFLOP/s": harness.shown("gflops", 0),
        "ceiling GFLOP/s": harness.shown("ceiling_gflops", 0),
    }
    harness.print_table(sides, summary, cells, title="work")
    bench.write(sides, runs, workload=made.facts, summary=summary)


if __name__ == "__main__":
    harness.run_script(main, prepare, run_scoring, run_training)
