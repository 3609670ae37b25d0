"""Scoring labels side by side: Tunewise against lm-eval's `hf` backend, on the same requests.

Every label of every question is scored by all of its tokens on both sides. lm-eval moves white space at the end of
a prompt into the label, so that after a chat template's line break no label is a single token and its shortcut for
those is lost; so it also runs with the tokens handed to it, which keeps the shortcut. It runs at its fastest batch
size, tried on this machine; where it is slow it gets fewer questions, and the table says so. A float32 pass of the
plain network over some questions says how far either side's log-probabilities lie from exact ones.

    .venv-peers/bin/python benchmarks/scoring.py --repeats 5
    .venv-peers/bin/python benchmarks/scoring.py --workload banking77 clinc150
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
import workloads
from harness import FASTER, SMALLER, Bench, Run, Side

if TYPE_CHECKING:
    from tunewise import Task

QUESTIONS = 300
WORKLOADS: dict[str, dict[str, Any]] = {
    "trec": {"shots": 8, "peer_questions": QUESTIONS, "peer_repeats": None, "reference": 50, "text": True},
    "banking77": {"shots": 0, "peer_questions": 10, "peer_repeats": 3, "reference": 10, "text": False},
    "clinc150": {"shots": 0, "peer_questions": 3, "peer_repeats": 3, "reference": 3, "text": False},
}
"""`peer_questions` and `peer_repeats` are fewer where one round of the peer would take many minutes; `text`:
whether the peer also runs as it does by itself, from text."""
BATCH_SIZES = (2, 4, 8, 16, 32)
TOKENS, TEXT = "lm-eval hf, tokens given", "lm-eval hf"


def prepare(job: Mapping[str, Any]) -> Run:
    """The task with its prompt, and the peer's requests as text, checked to be the same tokens."""
    from tunewise.engine.scoring import close_labels
    from tunewise.prompt import Demonstration, Prompt

    settings = WORKLOADS[job["workload"]]
    if job["workload"] == "trec":
        task = workloads.trec(256, job["questions"])
    else:
        task = workloads.intents(Path(job["data"]), job["workload"], 512, job["questions"])
    shown = tuple(
        Demonstration(dict(example.inputs), example.target) for example in _one_of_each(task, settings["shots"])
    )
    prompt = Prompt(task.spec.instruction, demonstrations=shown)
    packed = workloads.pack_task(task, prompt, workloads.model_folder(job["model"]))
    adapted = workloads.adapted_model(packed)
    renderer = adapted.renderer()
    model = renderer.model
    prompts = [list(tokens) for tokens in renderer.tokens(task.test.inputs)]
    words = adapted.spec.answer.words  # type: ignore[union-attr]
    labels = close_labels([renderer.answer(word) for word in words], model.end_id)

    def text(tokens: Sequence[int]) -> str:
        written = model.tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(written)

    record = {
        **packed,
        "dtype": workloads.dtype_name(adapted),
        "prompts": prompts,
        "labels": [list(label) for label in labels],
        "contexts": [text(tokens) for tokens in prompts],
        "continuations": [text(label) for label in labels],
        "targets": [adapted.spec.answer.labels.index(example.target) for example in task.test],  # type: ignore[union-attr]
    }
    workloads.write_prepared(job, record)
    return {
        "questions": len(prompts),
        "labels": len(labels),
        "tokens_per_label": sum(map(len, labels)) / len(labels),
        "tokens_per_prompt": sum(map(len, prompts)) / len(prompts),
        "shared_tokens": workloads.shared_tokens(prompts),
    }


def _one_of_each(task: Task, count: int) -> list[Any]:
    """`count` training rows, labels in turn."""
    by_label: dict[str, list[Any]] = {}
    for example in task.train:
        by_label.setdefault(example.target, []).append(example)
    queues = [by_label[label] for label in sorted(by_label)]
    return [queues[place % len(queues)][place // len(queues)] for place in range(count)]


def run_tunewise(job: Mapping[str, Any]) -> Run:
    """Every label of every question; `seconds` after loading, making tokens included."""
    prepared = workloads.read_prepared(job)
    adapted = workloads.adapted_model(prepared)
    inputs = [fields for fields, _ in prepared["test"]]
    adapted.renderer()  # loads the model
    harness.reset_peak()
    begun = time.perf_counter()
    scores = adapted.raw_scores(inputs).logprobs
    seconds = time.perf_counter() - begun
    return _figures(scores.tolist(), seconds, prepared)


def run_lm_eval(job: Mapping[str, Any]) -> Run:
    """The same through `HFLM.loglikelihood`, or behind it where tokens are given; `seconds` after loading."""
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    prepared = workloads.read_prepared(job)
    model = HFLM(
        pretrained=prepared["folder"],
        dtype=prepared["dtype"],
        batch_size=job["settings"]["batch_size"],
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    contexts = prepared["contexts"][: job["settings"]["questions"]]
    pairs = [(context, continuation) for context in contexts for continuation in prepared["continuations"]]
    prompts, labels = prepared["prompts"], prepared["labels"]
    given = [
        ((context, continuation), prompt, label)
        for context, prompt in zip(contexts, prompts, strict=False)
        for continuation, label in zip(prepared["continuations"], labels, strict=True)
    ]
    requests = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    harness.reset_peak()
    begun = time.perf_counter()
    if job["settings"]["from"] == "text":
        answers = model.loglikelihood(requests, disable_tqdm=True)
    else:
        answers = model._loglikelihood_tokens(given, disable_tqdm=True)
    seconds = time.perf_counter() - begun
    width = len(prepared["continuations"])
    values = [float(value) for value, _ in answers]
    scores = [values[first : first + width] for first in range(0, len(values), width)]
    wanted = [[*prompt, *label] for _, prompt, label in given]
    read = [[token for part in model._encode_pair(*pair) for token in part] for pair in pairs]
    return {**_figures(scores, seconds, prepared), "same_tokens": read == wanted}


def run_reference(job: Mapping[str, Any]) -> Run:
    """Float32 log-probabilities by the plain network: each prompt once, its labels behind copies of its cache."""
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache

    prepared = workloads.read_prepared(job)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = AutoModelForCausalLM.from_pretrained(prepared["folder"], dtype=torch.float32)
    torch.nn.Module.to(model, device)
    model.eval()
    labels = prepared["labels"]
    width = max(map(len, labels))
    ids = torch.tensor([[*label, *[0] * (width - len(label))] for label in labels], device=device)
    scores = []
    with torch.inference_mode():
        for prompt in prepared["prompts"][: job["questions"]]:
            cache = DynamicCache()
            first = model(torch.tensor([prompt], device=device), past_key_values=cache, logits_to_keep=1).logits
            if width > 1:
                cache.batch_repeat_interleave(len(labels))
                # Padding stands behind a label's last token, and is never read.
                more = model(ids[:, :-1], past_key_values=cache).logits
                logits = torch.cat([first.expand(len(labels), -1, -1), more], dim=1)
            else:
                logits = first.expand(len(labels), -1, -1)
            found = logits.log_softmax(dim=-1).gather(2, ids[:, :, None])[:, :, 0]
            scores.append([float(found[row, : len(label)].double().sum()) for row, label in enumerate(labels)])
    return {"logprobs": scores, "questions_per_second": 0.0}


def _figures(scores: list[list[float]], seconds: float, prepared: Mapping[str, Any]) -> Run:
    right = [row.index(max(row)) == target for row, target in zip(scores, prepared["targets"], strict=False)]
    return {
        "questions_per_second": len(scores) / seconds,
        "seconds": seconds,
        "accuracy": sum(right) / len(right),
        "logprobs": scores,
        **harness.memory_figures(),
    }


def compare(name: str, flags: argparse.Namespace) -> None:
    """One workload: prepare, choose the peer's batch size, run in turn, compare with float32, report."""
    settings = WORKLOADS[name]
    bench = Bench.of(__file__, f"scoring-{name}", flags)
    questions = 20 if flags.quick else QUESTIONS
    peer_questions = settings["peer_questions"]
    if flags.quick:
        peer_questions = 4 if name == "trec" else 1
    given = {"workload": name, "model": flags.model, "data": str(workloads.data_folder(flags.data))}
    with bench.prepared({**given, "questions": questions}) as made:
        facts = made.facts
        labels = f"{facts['labels']} labels of {facts['tokens_per_label']:.1f} tokens"
        prompts = f"prompts of {facts['tokens_per_prompt']:.0f} tokens, {facts['shared_tokens']} shared"
        print(f"   {facts['questions']} questions, {labels}, {prompts}")
        kept = bench.kept_settings(flags)
        if kept:
            size = kept[TOKENS]["batch_size"]
        else:
            size = 8 if flags.quick else _best_batch_size(bench, name, made.job)
        asked = {"batch_size": size, "questions": peer_questions}
        note = "" if peer_questions == questions else f"{peer_questions} questions, as it is slow"
        sides = [
            Side("Tunewise", "run_tunewise"),
            Side(TOKENS, "run_lm_eval", {**asked, "from": "tokens"}, settings["peer_repeats"], note),
        ]
        if settings["text"]:
            sides.append(Side(TEXT, "run_lm_eval", {**asked, "from": "text"}, settings["peer_repeats"], note))
        runs = bench.run(sides, harness.rounds(flags), made.job, "questions_per_second")
        count = min(settings["reference"], peer_questions)
        reference = bench.call("run_reference", {**made.job, "questions": count})
    for side in sides[1:]:
        same = all(run["same_tokens"] for run in runs[side.name])
        bench.check(same, f"every request of {side.name} has the same tokens as Tunewise's")
    # From text, what is scored holds the line break too, and is no label's log-probability.
    exact = reference["logprobs"]
    errors = {side.name: _errors(runs[side.name][0]["logprobs"], exact) for side in sides if side.name != TEXT}
    for side in sides:
        for run in runs[side.name]:
            del run["logprobs"]
    summary = _summary(sides, runs, errors)
    bench.write(sides, runs, workload={"name": name, **settings, **facts}, summary=summary)


def _best_batch_size(bench: Bench, name: str, job: Mapping[str, Any]) -> int:
    """The peer's fastest batch size, over a few questions."""
    questions = 12 if name == "trec" else 1
    sizes = BATCH_SIZES if name == "trec" else BATCH_SIZES[::2]
    given = {"questions": questions, "from": "tokens"}
    options = [Side(TOKENS, "run_lm_eval", {**given, "batch_size": size}) for size in sizes]
    return int(bench.fastest(options, job, "questions_per_second").settings["batch_size"])


def _errors(scores: Sequence[Sequence[float]], exact: Sequence[Sequence[float]]) -> dict[str, float]:
    """Distances of log-probabilities to those of float32, in nats: mean and 99th percentile."""
    rows = zip(scores, exact, strict=False)
    apart = sorted(abs(one - other) for row, truth in rows for one, other in zip(row, truth, strict=True))
    last = apart[min(len(apart) - 1, int(0.99 * len(apart)))]
    return {"mean": sum(apart) / len(apart), "p99": last, "count": len(apart)}


def _summary(
    sides: Sequence[Side], runs: Mapping[str, Sequence[Run]], errors: Mapping[str, Mapping[str, float]]
) -> harness.Summary:
    wanted = {"questions_per_second": FASTER, "process_seconds": None, "peak_mb": SMALLER, "accuracy": None}
    summary = harness.compared(sides, runs, wanted)
    seconds = {side.name: harness.figures(runs[side.name], "process_seconds") for side in sides}
    for side in sides:
        summary[side.name]["error_to_float32"] = errors.get(side.name)
        if not side.note:  # as many questions as Tunewise, so whole processes can be compared
            whole = harness.ratios(seconds[side.name], seconds[sides[0].name])
            summary[side.name]["tunewise_times_faster_whole_process"] = whole
    cells: dict[str, harness.Cell] = {
        "questions/s": harness.shown("questions_per_second"),
        "Tunewise is": harness.faster(sides[0]),
        "process s": harness.shown("process_seconds", 1),
        "peak MB": harness.shown("peak_mb", 0),
        "accuracy": lambda side, found: f"{found['accuracy'].median:.3f}",
        "error mean": _error_cell("mean"),
        "error p99": _error_cell("p99"),
        "": lambda side, found: side.note,
    }
    harness.print_table(sides, summary, cells)
    return summary


def _error_cell(name: str) -> harness.Cell:
    return lambda side, found: f"{found['error_to_float32'][name]:.4f}" if found["error_to_float32"] else ""


def main() -> None:
    """Read the flags and run the workloads."""
    flags = harness.arguments(__doc__, list(WORKLOADS)).parse_args()
    for name in flags.workload:
        compare(name, flags)


if __name__ == "__main__":
    harness.run_script(main, prepare, run_tunewise, run_lm_eval, run_reference)
