"""Generating side by side: 200 short answers behind a shared prefix of about 400 tokens.

Tunewise against transformers' `generate` in left-padded batches sorted by length, against `generate` that is
handed a copy of the prefix's cache (what an expert would write by hand), and against llama.cpp's server with its
prompt cache. All decode greedily from the same tokens, at most 16 new ones. Peers run at the fastest of their
settings, tried on this machine.

    .venv-peers/bin/python benchmarks/generating.py --repeats 5
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import harness
import llama
import workloads
from harness import FASTER, SMALLER, Bench, Run, Side

ANSWERS = 200
NEW_TOKENS = 16
PREFIX_TOKENS = 400
PROOF_ANSWERS = 12
BATCH_SIZES = (8, 16, 32, 64)
LLAMA_OPTIONS: tuple[dict[str, str], ...] = (
    {},
    {"flash_attn": "true"},
    {"cache": "true", "cache_type": "ram"},
)
"""Without `cache`, the server keeps the cache of its last request and goes on behind what the next one shares with
it; with it, it keeps the caches of several requests, and copies them."""
LLAMA = "llama.cpp server"


def prepare(job: Mapping[str, Any]) -> Run:
    """Prompts of a translation task, with as many demonstrations as make a prefix of about 400 tokens."""
    from tunewise import Task
    from tunewise.prompt import Demonstration, Prompt

    task = Task.read("english-spanish", validation=0, train_rows=256)
    folder = workloads.model_folder(job["model"])
    test = task.test.take(range(job["answers"]))
    shown: list[Demonstration] = []
    prompts: list[list[int]] = []
    for example in task.train:
        shown.append(Demonstration(dict(example.inputs), example.target))
        prompt = Prompt(task.spec.instruction, demonstrations=tuple(shown))
        packed = workloads.pack_task(task, prompt, folder)
        adapted = workloads.adapted_model(packed)
        renderer = adapted.renderer()
        prompts = [list(tokens) for tokens in renderer.tokens(test.inputs[:8])]
        if workloads.shared_tokens(prompts) >= PREFIX_TOKENS:
            break
    prompts = [list(tokens) for tokens in renderer.tokens(test.inputs)]
    decode = renderer.model.tokenizer.decode
    gguf = Path(job["prepared"]).with_name("model.gguf")
    record = {
        **packed,
        "inputs": test.inputs,
        "dtype": workloads.dtype_name(adapted),
        "prompts": prompts,
        "texts": [decode(row, skip_special_tokens=False, clean_up_tokenization_spaces=False) for row in prompts],
        "stop": list(renderer.stop),
        "gguf": str(llama.bfloat16_gguf(job["model"], gguf)) if job["llama"] else None,
    }
    workloads.write_prepared(job, record)
    return {
        "answers": len(prompts),
        "demonstrations": len(shown),
        "shared_tokens": workloads.shared_tokens(prompts),
        "tokens_per_prompt": sum(map(len, prompts)) / len(prompts),
    }


def run_tunewise(job: Mapping[str, Any]) -> Run:
    """The engine's `generate`; `seconds` after loading, making tokens included."""
    from tunewise.engine.generating import generate

    prepared = workloads.read_prepared(job)
    renderer = workloads.adapted_model(prepared).renderer()
    harness.reset_peak()
    begun = time.perf_counter()
    prompts = renderer.tokens(prepared["inputs"])
    answers = generate(renderer.model, prompts, max_tokens=NEW_TOKENS, stop=renderer.stop)
    seconds = time.perf_counter() - begun
    return _figures([answer.text for answer in answers], sum(answer.new_tokens for answer in answers), seconds)


def run_transformers(job: Mapping[str, Any]) -> Run:
    """`generate` in left-padded batches of similar length; with `prefix`, behind copies of the prefix's cache."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    prepared = workloads.read_prepared(job)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(prepared["folder"])
    model = AutoModelForCausalLM.from_pretrained(
        prepared["folder"], dtype=getattr(torch, prepared["dtype"]), attn_implementation="sdpa"
    )
    torch.nn.Module.to(model, device)
    model.eval()
    prompts = prepared["prompts"]
    shared = workloads.shared_tokens(prompts) if job["settings"]["prefix"] else 0
    size = job["settings"]["batch_size"]
    ends = {tokenizer.pad_token_id, tokenizer.eos_token_id}
    texts = [""] * len(prompts)
    new_tokens = 0
    harness.reset_peak()
    begun = time.perf_counter()
    tokens = tokenizer(prepared["texts"], add_special_tokens=False)["input_ids"]
    prefix = _prefix_cache(model, tokens[0][:shared], device) if shared else None
    order = sorted(range(len(prompts)), key=lambda row: len(tokens[row]))
    for first in range(0, len(order), size):
        rows = order[first : first + size]
        found = _generate_batch(model, [tokens[row] for row in rows], shared, prefix, tokenizer, device)
        for row, ids in zip(rows, found, strict=True):
            kept = [token for token in ids.tolist() if token not in ends]
            new_tokens += len(kept)
            texts[row] = str(tokenizer.decode(kept, skip_special_tokens=True))
    seconds = time.perf_counter() - begun
    return {**_figures(texts, new_tokens, seconds), "same_tokens": tokens == prompts}


def _prefix_cache(model: Any, prefix: Sequence[int], device: str) -> Any:
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    with torch.inference_mode():
        model(torch.tensor([prefix], device=device), past_key_values=cache, logits_to_keep=1)
    return cache


def _generate_batch(
    model: Any, prompts: Sequence[Sequence[int]], shared: int, prefix: Any, tokenizer: Any, device: str
) -> Any:
    """New tokens of each prompt; padding stands on the left of what is not shared."""
    import copy

    import torch

    width = max(map(len, prompts))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ids = [[*row[:shared], *[pad] * (width - len(row)), *row[shared:]] for row in prompts]
    mask = [[1] * shared + [0] * (width - len(row)) + [1] * (len(row) - shared) for row in prompts]
    more = {}
    if prefix is not None:
        more["past_key_values"] = copy.deepcopy(prefix)
        more["past_key_values"].batch_repeat_interleave(len(prompts))
    with torch.inference_mode():
        found = model.generate(
            input_ids=torch.tensor(ids, device=device),
            attention_mask=torch.tensor(mask, device=device),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            pad_token_id=pad,
            **more,
        )
    return found[:, width:]


def run_llama(job: Mapping[str, Any]) -> Run:
    """llama-cpp-python's server, asked one prompt after the other; `seconds` after it has started."""
    prepared = workloads.read_prepared(job)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    texts = prepared["texts"]
    context = max(map(len, prepared["prompts"])) + NEW_TOKENS + 64
    with llama.server(prepared["gguf"], threads, context, job["settings"]["options"]) as (port, pid):
        begun = time.perf_counter()
        answers = llama.complete(port, texts, NEW_TOKENS)
        seconds = time.perf_counter() - begun
        peak = llama.peak_mb(pid)
    same = all(
        answer["prompt_tokens"] == len(prompt) for answer, prompt in zip(answers, prepared["prompts"], strict=True)
    )
    new_tokens = sum(answer["new_tokens"] for answer in answers)
    run = _figures([answer["text"] for answer in answers], new_tokens, seconds)
    return {**run, "peak_mb": peak, "process_peak_mb": peak, "same_tokens": same}


def _figures(texts: Sequence[str], new_tokens: int, seconds: float) -> Run:
    return {
        "answers_per_second": len(texts) / seconds,
        "new_tokens_per_second": new_tokens / seconds,
        "new_tokens": new_tokens,
        "seconds": seconds,
        "texts": [text.strip() for text in texts],
        **harness.memory_figures(),
    }


def peers(bench: Bench, job: Mapping[str, Any], flags: argparse.Namespace, *, with_llama: bool) -> list[Side]:
    """The peers with their fastest settings, or with those of the last results."""
    found = []
    kept = bench.kept_settings(flags)
    quick = flags.quick or bool(kept)
    for name, prefix in (("transformers generate", False), ("generate behind a prefix cache", True)):
        sizes = (8,) if quick else BATCH_SIZES
        options = [Side(name, "run_transformers", {"batch_size": size, "prefix": prefix}) for size in sizes]
        found.append(options[0] if quick else bench.fastest(options, job, "answers_per_second"))
    if with_llama:
        served = [Side(LLAMA, "run_llama", {"options": options}) for options in LLAMA_OPTIONS]
        found.append(served[0] if quick else bench.fastest(served, job, "answers_per_second"))
    return [replace(side, settings=kept.get(side.name, side.settings)) for side in found]


def _prove(bench: Bench, sides: Sequence[Side], given: Mapping[str, Any]) -> None:
    """In float32 greedy answers are the same whoever computes them; in bfloat16 near ties fall either way."""
    exact = {"TUNEWISE_DTYPE": "float32"}
    with bench.prepared(given, exact) as made:
        ours = bench.call("run_tunewise", made.job, exact)["texts"]
        for side in sides[1:]:
            if side.name == LLAMA:  # its weights and products have dtypes of their own
                continue
            texts = bench.call(side.worker, {**made.job, "settings": dict(side.settings)}, exact)["texts"]
            bench.check(texts == ours, f"{len(ours)} answers in float32 are those of {side.name}")


def compare(flags: argparse.Namespace) -> None:
    """Prepare, choose the peers' settings, run in turn, compare texts, report."""
    bench = Bench.of(__file__, "generating", flags)
    reason = llama.missing(flags.model)
    given = {"model": flags.model, "llama": reason is None, "answers": 16 if flags.quick else ANSWERS}
    with bench.prepared(given) as made:
        facts = made.facts
        length = f"{facts['tokens_per_prompt']:.0f} tokens, {facts['shared_tokens']} shared"
        print(f"   {facts['answers']} prompts of {length}")
        if reason:
            bench.checks.append(f"llama.cpp is left out: {reason}")
            print(f"   llama.cpp is left out: {reason}")
        sides = [Side("Tunewise", "run_tunewise"), *peers(bench, made.job, flags, with_llama=reason is None)]
        _prove(bench, sides, {**given, "llama": False, "answers": PROOF_ANSWERS})
        runs = bench.run(sides, harness.rounds(flags), made.job, "answers_per_second")
    for side in sides[1:]:
        same = all(run["same_tokens"] for run in runs[side.name])
        bench.check(same, f"{side.name} reads the same prompt tokens")
    summary = _summary(sides, runs)
    for side in sides:
        for run in runs[side.name]:
            run["texts"] = run["texts"][:5]
    bench.write(sides, runs, workload=facts, summary=summary)


def _summary(sides: Sequence[Side], runs: Mapping[str, Sequence[Run]]) -> harness.Summary:
    wanted = {"answers_per_second": FASTER, "new_tokens_per_second": None, "peak_mb": SMALLER}
    summary = harness.compared(sides, runs, wanted)
    ours = runs[sides[0].name][0]["texts"]
    for name, found in summary.items():
        pairs = list(zip(ours, runs[name][0]["texts"], strict=True))
        found["share_of_texts_as_tunewise"] = sum(our == their for our, their in pairs) / len(pairs)
    cells: dict[str, harness.Cell] = {
        "answers/s": harness.shown("answers_per_second"),
        "Tunewise is": harness.faster(sides[0]),
        "new tokens/s": harness.shown("new_tokens_per_second", 1),
        "peak MB": harness.shown("peak_mb", 0),
        "same text": lambda side, found: f"{found['share_of_texts_as_tunewise']:.0%}",
        "settings": lambda side, found: ", ".join(f"{key} {value}" for key, value in side.settings.items()),
    }
    harness.print_table(sides, summary, cells)
    return summary


def main() -> None:
    """Read the flags and run."""
    compare(harness.arguments(__doc__).parse_args())


if __name__ == "__main__":
    harness.run_script(main, prepare, run_tunewise, run_transformers, run_llama)
