"""Generating side by side: 200 short answers behind a shared prefix of about 400 tokens.

Tunewise against transformers' `generate` in left-padded batches sorted by length, against `generate` that is
handed a copy of the prefix's cache (what an expert would write by hand), and against llama.cpp's server with its
prompt cache. All decode greedily from the same tokens, at most 16 new ones. Peers run at the fastest of their
settings, tried on this machine.

    .venv-peers/bin/python benchmarks/generating.py --repeats 5
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import llama
import workloads
from harness import (
    Bench,
    BenchError,
    Run,
    Side,
    arguments,
    columns,
    figures,
    memory_figures,
    peak_mb,
    ratios,
    reset_peak,
    serve,
    spread,
)

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
    from tunewise.adapted import loaded
    from tunewise.prompt import Demonstration, Prompt

    task = Task.read("english-spanish", validation=0, train_rows=256)
    folder = workloads.model_folder(job["model"])
    test = task.test.take(range(job["answers"]))
    shown: list[Demonstration] = []
    prompts: list[list[int]] = []
    for example in task.train:
        shown.append(Demonstration(dict(example.inputs), example.target))
        prompt = Prompt(task.spec.instruction, demonstrations=tuple(shown))
        packed = workloads.pack_task(task, prompt)
        adapted = workloads.adapted_model(packed, str(folder))
        renderer = adapted.renderer()
        prompts = [list(tokens) for tokens in renderer.tokens(test.inputs[:8])]
        if workloads.shared_tokens(prompts) >= PREFIX_TOKENS:
            break
    prompts = [list(tokens) for tokens in renderer.tokens(test.inputs)]
    decode = renderer.model.tokenizer.decode
    record = {
        **packed,
        "inputs": test.inputs,
        "folder": str(folder),
        "dtype": str(loaded(adapted.base).dtype).removeprefix("torch."),
        "prompts": prompts,
        "texts": [decode(row, skip_special_tokens=False, clean_up_tokenization_spaces=False) for row in prompts],
        "stop": list(renderer.stop),
        "gguf": str(llama.bfloat16_gguf(job["model"], Path(job["gguf"]))) if job["gguf"] else None,
    }
    Path(job["prepared"]).write_text(json.dumps(record))
    return {
        "answers": len(prompts),
        "demonstrations": len(shown),
        "shared_tokens": workloads.shared_tokens(prompts),
        "tokens_per_prompt": sum(map(len, prompts)) / len(prompts),
    }


def run_tunewise(job: Mapping[str, Any]) -> Run:
    """The engine's `generate`; `seconds` after loading, making tokens included."""
    from tunewise.engine.generating import generate

    prepared = json.loads(Path(job["prepared"]).read_text())
    renderer = workloads.adapted_model(prepared, prepared["folder"]).renderer()
    reset_peak()
    begun = time.perf_counter()
    prompts = renderer.tokens(prepared["inputs"])
    answers = generate(renderer.model, prompts, max_tokens=NEW_TOKENS, stop=renderer.stop)
    seconds = time.perf_counter() - begun
    return _figures([answer.text for answer in answers], sum(answer.new_tokens for answer in answers), seconds)


def run_transformers(job: Mapping[str, Any]) -> Run:
    """`generate` in left-padded batches of similar length; with `prefix`, behind copies of the prefix's cache."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    prepared = json.loads(Path(job["prepared"]).read_text())
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
    reset_peak()
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
    prepared = json.loads(Path(job["prepared"]).read_text())
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    texts = prepared["texts"]
    context = max(map(len, prepared["prompts"])) + NEW_TOKENS + 64
    with llama.server(prepared["gguf"], threads, context, job["settings"]["options"]) as (port, pid):
        begun = time.perf_counter()
        answers = llama.complete(port, texts, NEW_TOKENS)
        seconds = time.perf_counter() - begun
        peak = peak_mb(pid)
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
        **memory_figures(),
    }


def peers(bench: Bench, prepared: str, flags: argparse.Namespace, without_llama: str | None) -> list[Side]:
    """The peers with their fastest settings, or with those of the last results."""
    job = {"prepared": prepared}
    found = []
    kept = bench.kept_settings() if flags.keep_settings else {}
    quick = flags.quick or bool(kept)
    for name, prefix in (("transformers generate", False), ("generate behind a prefix cache", True)):
        sizes = (8,) if quick else BATCH_SIZES
        options = [Side(name, "run_transformers", {"batch_size": size, "prefix": prefix}) for size in sizes]
        found.append(options[0] if quick else bench.fastest(options, job, "answers_per_second"))
    if without_llama is None:
        served = [Side(LLAMA, "run_llama", {"options": options}) for options in LLAMA_OPTIONS]
        found.append(served[0] if quick else bench.fastest(served, job, "answers_per_second"))
    return [replace(side, settings=kept.get(side.name, side.settings)) for side in found]


def _prove(bench: Bench, sides: Sequence[Side], given: Mapping[str, Any]) -> None:
    """In float32 greedy answers are the same whoever computes them; in bfloat16 near ties fall either way."""
    exact = {"TUNEWISE_DTYPE": "float32"}
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        job = {"prepared": str(Path(place, "prepared.json"))}
        bench.call("prepare", {**given, **job}, exact)
        ours = bench.call("run_tunewise", job, exact)["texts"]
        for side in sides[1:]:
            if side.name == LLAMA:  # its weights and products have dtypes of their own
                continue
            texts = bench.call(side.worker, {**job, "settings": dict(side.settings)}, exact)["texts"]
            bench.check(texts == ours, f"{len(ours)} answers in float32 are those of {side.name}")


def compare(flags: argparse.Namespace) -> None:
    """Prepare, choose the peers' settings, run in turn, compare texts, report."""
    bench = Bench(__file__, "generating", flags.quick)
    reason = llama.missing(flags.model)
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        prepared = str(Path(place, "prepared.json"))
        gguf = None if reason else str(Path(place, "model.gguf"))
        given = {"model": flags.model, "prepared": prepared, "answers": 16 if flags.quick else ANSWERS}
        facts = bench.call("prepare", {**given, "gguf": gguf})
        length = f"{facts['tokens_per_prompt']:.0f} tokens, {facts['shared_tokens']} shared"
        print(f"   {facts['answers']} prompts of {length}")
        if reason:
            bench.checks.append(f"llama.cpp is left out: {reason}")
            print(f"   llama.cpp is left out: {reason}")
        sides = [Side("Tunewise", "run_tunewise"), *peers(bench, prepared, flags, reason)]
        _prove(bench, sides, {**given, "gguf": None, "answers": PROOF_ANSWERS})
        repeats = 1 if flags.quick else flags.repeats
        runs = bench.run(sides, repeats, {"prepared": prepared}, "answers_per_second")
    for side in sides[1:]:
        same = all(run["same_tokens"] for run in runs[side.name])
        bench.check(same, f"{side.name} reads the same prompt tokens")
    summary = _summary(sides, runs)
    for side in sides:
        for run in runs[side.name]:
            run["texts"] = run["texts"][:5]
    bench.write(sides, runs, workload=facts, summary=summary)


def _summary(sides: Sequence[Side], runs: Mapping[str, Sequence[Run]]) -> dict[str, Any]:
    ours = sides[0].name
    speed = {side.name: figures(runs[side.name], "answers_per_second") for side in sides}
    memory = {side.name: figures(runs[side.name], "peak_mb") for side in sides}
    table = [["side", "answers/s", "Tunewise is", "new tokens/s", "peak MB", "same text", "settings"]]
    summary: dict[str, Any] = {}
    for side in sides:
        faster = ratios(speed[ours], speed[side.name])
        pairs = list(zip(runs[ours][0]["texts"], runs[side.name][0]["texts"], strict=True))
        same = sum(our == their for our, their in pairs) / len(pairs)
        tokens = spread(figures(runs[side.name], "new_tokens_per_second"))
        summary[side.name] = {
            "answers_per_second": spread(speed[side.name]),
            "tunewise_times_faster": faster,
            "new_tokens_per_second": tokens,
            "peak_mb": spread(memory[side.name]),
            "tunewise_peak_share": ratios(memory[ours], memory[side.name]),
            "share_of_texts_as_tunewise": same,
        }
        table.append(
            [
                side.name,
                summary[side.name]["answers_per_second"].text(),
                "" if side.name == ours else f"{faster.text(1)} × as fast",
                tokens.text(1),
                summary[side.name]["peak_mb"].text(0),
                f"{same:.0%}",
                ", ".join(f"{key} {value}" for key, value in side.settings.items()),
            ]
        )
    print(columns(table))
    return summary


def main() -> None:
    """Read the flags and run."""
    try:
        compare(arguments(__doc__.splitlines()[0]).parse_args())
    except BenchError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__" and not serve(
    {
        "prepare": prepare,
        "run_tunewise": run_tunewise,
        "run_transformers": run_transformers,
        "run_llama": run_llama,
    }
):
    main()
