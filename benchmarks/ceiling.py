"""How much of the machine's matrix-product rate Tunewise turns into work, in scoring and in training.

Work is what the engine counts (`tunewise.cost`): the products that a pass needs, in floating-point operations.
The ceiling is the rate of one large matrix product in the same dtype, measured in the same process right before
and right after, the faster of the two. Activations, norms, masks and Python are in the time, not in the count.

    .venv-peers/bin/python benchmarks/ceiling.py --repeats 5
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import workloads
from harness import Bench, BenchError, Run, Side, arguments, columns, figures, memory_figures, serve, spread

SIZES = (1024, 2048)
"""Sides of the square matrices multiplied; the faster counts."""
PROBE_SECONDS = 0.5
TRAINED = {"lora": 5e-4, "full": 1e-4, "soft-prompt": 2e-2}


def prepare(job: Mapping[str, Any]) -> Run:
    """TREC questions, with the plain prompt."""
    from tunewise.prompt import Prompt

    task = workloads.trec(job["rows"], job["questions"])
    packed = workloads.pack_task(task, Prompt(task.spec.instruction))
    Path(job["prepared"]).write_text(json.dumps({**packed, "folder": str(workloads.model_folder(job["model"]))}))
    return {"rows": len(task.train), "questions": len(task.test)}


def run_scoring(job: Mapping[str, Any]) -> Run:
    """Six labels after every question."""
    prepared = json.loads(Path(job["prepared"]).read_text())
    adapted = workloads.adapted_model(prepared, prepared["folder"])
    model = adapted.renderer().model
    inputs = [fields for fields, _ in prepared["test"]]
    return _share(model, lambda: adapted.raw_scores(inputs))


def run_training(job: Mapping[str, Any]) -> Run:
    """One epoch of a method through the same prompt."""
    import tunewise as tw

    prepared = json.loads(Path(job["prepared"]).read_text())
    task = workloads.unpack_task(prepared)
    start = workloads.adapted_model(prepared, prepared["folder"])
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
        **memory_figures(),
    }


def _matrix_rate(model: Any) -> float:
    """The fastest of many products of two square matrices, in operations a second."""
    import torch

    best = 0.0
    for size in SIZES:
        a = torch.randn(size, size, device=model.device).to(model.dtype)
        b = torch.randn(size, size, device=model.device).to(model.dtype)
        until = time.perf_counter() + PROBE_SECONDS
        while time.perf_counter() < until:
            begun = time.perf_counter()
            torch.mm(a, b)
            if model.device.type == "cuda":
                torch.cuda.synchronize()
            best = max(best, 2 * size**3 / (time.perf_counter() - begun))
    return best


def _summary(sides: Sequence[Side], runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    table = [["work", "share of the ceiling", "GFLOP/s", "ceiling GFLOP/s"]]
    summary: dict[str, Any] = {}
    for side in sides:
        found = {name: spread(figures(runs[side.name], name)) for name in ("share", "gflops", "ceiling_gflops")}
        summary[side.name] = found
        shares = found["share"]
        table.append(
            [
                side.name,
                f"{shares.median:.0%} ({shares.low:.0%}–{shares.high:.0%})",
                found["gflops"].text(0),
                found["ceiling_gflops"].text(0),
            ]
        )
    print(columns(table))
    return summary


def main() -> None:
    """Read the flags and run."""
    flags = arguments(__doc__.splitlines()[0]).parse_args()
    bench = Bench(__file__, "ceiling", flags.quick)
    sides = [Side("scoring", "run_scoring")]
    sides += [Side(f"training, {method}", "run_training", {"method": method}) for method in TRAINED]
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as place:
            job = {"prepared": str(Path(place, "prepared.json"))}
            rows, questions = (32, 64) if flags.quick else (256, 500)
            facts = bench.call("prepare", {**job, "model": flags.model, "rows": rows, "questions": questions})
            runs = bench.run(sides, 1 if flags.quick else flags.repeats, job, "share")
        summary = _summary(sides, runs)
        bench.write(sides, runs, workload=facts, summary=summary)
    except BenchError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__" and not serve(
    {"prepare": prepare, "run_scoring": run_scoring, "run_training": run_training}
):
    main()
