"""Fine-tuning side by side: `tw.fit` against Trainer + PEFT and TRL's SFTTrainer, on the same tokens.

Every side learns from the same token ids in the same order of rows and batches, by the same optimizer and rates,
with the loss on the answer alone. The loss of the first step, which no side has learned anything for, must agree:
to rounding in a float32 run made for this proof, and within the dtype's noise in every measured run. Peers run at
the fastest of their settings, tried on this machine.

    .venv-peers/bin/python benchmarks/lora.py --repeats 5
    .venv-peers/bin/python benchmarks/lora.py --workload unshared full soft-prompt nlupp
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import harness
import trainers
import workloads
from harness import FASTER, SMALLER, Bench, Run, Side

WARMUP_STEPS = 6
NOISE = {"float32": 1e-4, "bfloat16": 0.03}
"""Share by which the losses of the first step may differ: what the order of sums makes in a dtype."""
WORKLOADS: dict[str, dict[str, Any]] = {
    "shared": {"method": "lora", "task": "trec", "learning_rate": 5e-4, "peer_repeats": 3},
    "unshared": {"method": "lora", "task": "trec-plain", "learning_rate": 5e-4},
    "full": {"method": "full", "task": "trec", "learning_rate": 1e-4, "peer_repeats": 3},
    "soft-prompt": {"method": "soft-prompt", "task": "trec", "learning_rate": 2e-2, "peer_repeats": 3},
    "nlupp": {"method": "lora", "task": "nlupp", "learning_rate": 5e-4, "peer_repeats": 3, "probe_steps": 3},
}
"""`peer_repeats`: fewer rounds for peers that take minutes each; `probe_steps`: fewer where a step takes long."""
PROBE_STEPS = 8
"""Steps that each setting of a peer is tried for."""
PLAIN = "{{ text }}"
"""Template without an instruction: the text comes first, so that prompts have nothing in common."""
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 16},
    "full": {},
    "soft-prompt": {"length": 20},
}
TEST_ROWS = {"classification": 500, "generation": 100}


def prepare(job: Mapping[str, Any]) -> Run:
    """Tokens, orders of rows and recipe of a workload, written to `job["prepared"]` for every side."""
    import torch

    from tunewise import Text
    from tunewise.prompt import Prompt

    settings = WORKLOADS[job["workload"]]
    folder = workloads.model_folder(job["model"])
    if settings["task"] == "nlupp":
        task = workloads.nlupp(Path(job["data"]), job["rows"], job["test_rows"])
    else:
        task = workloads.trec(job["rows"], job["test_rows"])
    prompt = Prompt(task.spec.instruction)
    if settings["task"] == "trec-plain":
        prompt = Prompt("", PLAIN, list_labels=False)
        folder = workloads.without_chat_template(folder, Path(job["prepared"]).parent / "plain-model")
    packed = workloads.pack_task(task, prompt, folder)
    start = workloads.adapted_model(packed)
    pairs = start.renderer().pairs(task.train.inputs, task.train.targets)
    prompts = [list(tokens) for tokens in pairs.prompts]
    answers = [list(tokens) for tokens in pairs.answers]
    batch_size, epochs = 16, job["epochs"]
    if len(prompts) % batch_size:
        raise harness.BenchError(
            f"{len(prompts)} rows do not fill batches of {batch_size}; the sides would differ."
        )
    words = () if isinstance(task.spec.answer, Text) else task.spec.answer.words
    record = {
        **packed,
        "method": settings["method"],
        "dtype": workloads.dtype_name(start),
        "prompts": prompts,
        "answers": answers,
        "orders": [_order(len(prompts), batch_size, epochs, seed, torch) for seed in range(job["seeds"])],
        "soft_text": " ".join([prompt.instruction, *words]),
        "recipe": {
            **SETTINGS[settings["method"]],
            "learning_rate": settings["learning_rate"],
            "epochs": epochs,
            "batch_size": batch_size,
            "warmup_steps": WARMUP_STEPS,
        },
    }
    workloads.write_prepared(job, record)
    return {
        "dtype": record["dtype"],
        "rows": len(prompts),
        "test_rows": len(task.test),
        "shared_tokens": workloads.shared_tokens(prompts),
        "tokens_per_row": sum(map(len, [*prompts, *answers])) / len(prompts),
        "answer_tokens_per_row": sum(map(len, answers)) / len(answers),
        "recipe": record["recipe"],
    }


def run_tunewise(job: Mapping[str, Any]) -> Run:
    """`tw.fit` on the prepared task; `seconds` holds everything but loading the model, making tokens included."""
    import tunewise as tw

    prepared = workloads.read_prepared(job)
    recipe = prepared["recipe"]
    task = workloads.unpack_task(prepared)
    start = workloads.adapted_model(prepared)
    start.renderer()  # loads the model
    harness.reset_peak()
    names = (*SETTINGS[prepared["method"]], "learning_rate", "epochs", "batch_size")
    named = {name: recipe[name] for name in names}
    fitted = tw.fit(task, method=prepared["method"], seed=job["seed"], start=start, **named)
    run = {
        "examples_per_second": recipe["epochs"] * len(task.train) / fitted.seconds,
        "seconds": fitted.seconds,
        "losses": fitted.losses,
        "final_loss": trainers.final_loss(fitted.losses, recipe),
        **harness.memory_figures(),
        "peak_mb": fitted.peak_rss_mb,
    }
    fitted.adapted.save(Path(job["save"]))
    return run


def score(job: Mapping[str, Any]) -> Run:
    """Score trained weights on the test rows, by the same code whoever trained them."""
    import tunewise as tw

    prepared = workloads.read_prepared(job)
    adapted = tw.load(_candidate(Path(job["ours"]), Path(job["weights"])))
    result = tw.evaluate(adapted, workloads.unpack_task(prepared).test)
    return {"score": result.score, "metric": result.metric, "log_loss": result.log_loss}


def _candidate(ours: Path, weights: Path) -> Path:
    """A saved candidate with other weights in it: they stand in the formats of PEFT and Hugging Face already."""
    if ours == weights:
        return ours
    for name in ("candidate.json", "prompt.json"):
        shutil.copy(ours / name, weights / name)
    description = json.loads((weights / "candidate.json").read_text())
    description.pop("files", None)  # checksums of the weights that were there
    (weights / "candidate.json").write_text(json.dumps(description))
    return weights


def _order(rows: int, batch_size: int, epochs: int, seed: int, torch: Any) -> list[list[int]]:
    """Rows of every step: one random order an epoch, from the seed and the epoch, as Tunewise draws it."""
    steps = []
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
        order = torch.randperm(rows, generator=generator).tolist()
        steps += [order[first : first + batch_size] for first in range(0, rows, batch_size)]
    return steps


def peers(method: str, precision: str, layout: str) -> list[Side]:
    """The peers that there are, with one setting."""
    names = {"trainer": "Trainer" if method == "full" else "Trainer + PEFT", "trl": "TRL SFTTrainer"}
    with_trl = method != "soft-prompt" and find_spec("trl") is not None
    kinds = ["trainer", "trl"] if with_trl else ["trainer"]
    return [
        Side(names[kind], "run_trainer", {"trainer": kind, "precision": precision, "layout": layout})
        for kind in kinds
    ]


def at_their_best(bench: Bench, method: str, precisions: Sequence[str], job: Mapping[str, Any]) -> list[Side]:
    """Each peer with its fastest precision, then its fastest layout."""
    layouts = [*trainers.layouts(method), trainers.GROUPED]
    best = []
    for place in range(len(peers(method, precisions[0], trainers.LAYOUTS[0]))):
        options = [peers(method, precision, trainers.LAYOUTS[0])[place] for precision in precisions]
        first = bench.fastest(options, job, "examples_per_second")
        more = [peers(method, first.settings["precision"], layout)[place] for layout in layouts[1:]]
        best.append(bench.fastest([first, *more], job, "examples_per_second"))
    return best


def compare(name: str, flags: argparse.Namespace) -> None:
    """One workload: prepare, choose the peers' settings, run in turn, score, report."""
    workload = WORKLOADS[name]
    method = workload["method"]
    bench = Bench.of(__file__, f"lora-{name}", flags)
    rows, epochs = (32, 1) if flags.quick else (256, 3)
    kind = "generation" if workload["task"] == "nlupp" else "classification"
    repeats = harness.rounds(flags)
    given = {
        "workload": name,
        "model": flags.model,
        "data": str(workloads.data_folder(flags.data)),
        "rows": rows,
        "test_rows": 20 if flags.quick else TEST_ROWS[kind],
        "epochs": epochs,
        "seeds": repeats,
    }
    with bench.prepared(given) as made:
        facts = made.facts
        length = f"{facts['tokens_per_row']:.0f} tokens each, {facts['shared_tokens']} shared by all"
        print(f"   {facts['rows']} rows, {length}, answers of {facts['answer_tokens_per_row']:.1f}")
        precisions = trainers.precisions(method, facts["dtype"])
        steps = workload.get("probe_steps", PROBE_STEPS)
        kept = bench.kept_settings(flags)
        if kept:
            others = [
                replace(side, settings=kept[side.name])
                for side in peers(method, precisions[0], trainers.LAYOUTS[0])
            ]
        elif flags.quick or flags.untried:
            others = peers(method, precisions[0], trainers.LAYOUTS[0])
        else:
            others = at_their_best(bench, method, precisions, {**made.job, "steps": steps})
        slow = workload.get("peer_repeats")
        note = f"{slow} rounds, as it is slow" if slow and slow < repeats else ""
        others = [replace(side, repeats=slow, note=note) for side in others]
        sides = [Side("Tunewise", "run_tunewise"), *others]
        _prove(bench, others, given)
        runs = _run_in_turn(bench, sides, repeats, made)
    _check_first_losses(bench, facts["dtype"], sides, runs)
    summary = _summary(sides, runs)
    bench.write(sides, runs, workload={**workload, **facts}, summary=summary)


def _prove(bench: Bench, others: Sequence[Side], given: Mapping[str, Any]) -> None:
    """One step in float32 on every side, in the layout it runs in: equal tokens, masks, batches and loss."""
    exact = {"TUNEWISE_DTYPE": "float32"}
    with bench.prepared({**given, "rows": 32, "epochs": 1, "seeds": 1}, exact) as made:
        job = {**made.job, "seed": 0, "settings": {}}
        ours = bench.call("run_tunewise", {**job, "save": str(made.folder / "ours")}, exact)["losses"][0]
        for side in others:
            layout = (
                side.settings["layout"] if side.settings["layout"] != trainers.GROUPED else trainers.LAYOUTS[0]
            )
            settings = {**side.settings, "precision": trainers.EXACT, "layout": layout}
            run = bench.call(side.worker, {**job, "settings": settings, "steps": 1}, exact)
            _compare_losses(bench, f"{side.name}, {layout}", "float32", ours, run["losses"][0])


def _compare_losses(bench: Bench, name: str, dtype: str, ours: float, theirs: float) -> None:
    apart = abs(ours - theirs) / ours
    text = f"first loss in {dtype}: Tunewise {ours:.5f}, {name} {theirs:.5f}, {apart:.5%} apart"
    bench.check(apart <= NOISE[dtype], text)


def _run_in_turn(
    bench: Bench, sides: Sequence[Side], repeats: int, made: harness.Prepared
) -> dict[str, list[Run]]:
    """All rounds; weights are scored as they come, in the candidate folder that Tunewise saved first."""
    runs: dict[str, list[Run]] = {side.name: [] for side in sides}
    first = made.folder / "0-0"
    for round_number, number in harness.schedule([min(repeats, side.repeats or repeats) for side in sides]):
        side, folder = sides[number], made.folder / f"{round_number}-{number}"
        job = {**made.job, "settings": dict(side.settings), "seed": round_number, "save": str(folder)}
        run = bench.call(side.worker, job)
        print(f"   round {round_number + 1}: {side.name}: {run['examples_per_second']:.2f} examples/s", flush=True)
        test = bench.call("score", {**made.job, "ours": str(first), "weights": str(folder)})
        tokens = run["examples_per_second"] * made.facts["tokens_per_row"]
        runs[side.name].append({**run, "tokens_per_second": tokens, "test": test})
        if folder != first:
            shutil.rmtree(folder)
    return runs


def _check_first_losses(
    bench: Bench, dtype: str, sides: Sequence[Side], runs: Mapping[str, Sequence[Run]]
) -> None:
    """The first step sees untrained weights, so its loss is the same whoever computes it."""
    for side in sides[1:]:
        if side.settings["layout"] == trainers.GROUPED:
            bench.checks.append(f"{side.name}: batches of the trainer's own, so first losses cannot be compared")
            continue
        for ours, theirs in zip(runs[sides[0].name], runs[side.name], strict=False):
            _compare_losses(bench, side.name, dtype, ours["losses"][0], theirs["losses"][0])


def _summary(sides: Sequence[Side], runs: Mapping[str, Sequence[Run]]) -> harness.Summary:
    scored = {name: [{**run, **run["test"]} for run in found] for name, found in runs.items()}
    wanted = {
        "examples_per_second": FASTER,
        "tokens_per_second": None,
        "peak_mb": SMALLER,
        "final_loss": None,
        "score": None,
        "log_loss": None,
    }
    summary = harness.compared(sides, scored, wanted)
    cells: dict[str, harness.Cell] = {
        "examples/s": harness.shown("examples_per_second"),
        "Tunewise is": harness.faster(sides[0]),
        "peak MB": harness.shown("peak_mb", 0),
        "final loss": harness.shown("final_loss", 3),
        str(scored[sides[0].name][0]["metric"]): harness.shown("score", 3),
        "settings": _settings,
    }
    harness.print_table(sides, summary, cells)
    return summary


def _settings(side: Side, _: Mapping[str, Any]) -> str:
    """What a reader must know of how a side ran."""
    chosen = [str(value) for name, value in side.settings.items() if name != "trainer"]
    return ", ".join([*chosen, side.note] if side.note else chosen)


def main() -> None:
    """Read the flags and run the workloads."""
    parser = harness.arguments(__doc__, list(WORKLOADS))
    parser.add_argument("--untried", action="store_true", help="peers at their usual settings, none tried")
    flags = parser.parse_args()
    begun = time.perf_counter()
    for name in flags.workload:
        compare(name, flags)
    print(f"   {(time.perf_counter() - begun) / 60:.1f} minutes")


if __name__ == "__main__":
    harness.run_script(main, prepare, run_tunewise, trainers.run_trainer, score)
