"""The peers of training: transformers' Trainer with PEFT, and TRL's SFTTrainer, on given tokens.

Both get the token ids, the order of rows, the batches, the optimizer and the schedule of rates that Tunewise uses,
and nothing that costs time without changing what is learned: no checkpointing, saving, logging, evaluating or
dropout. What may still be chosen (`Setting`) is chosen by trying, see `lora.py`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import workloads
from harness import Run, memory_figures, reset_peak

IGNORED = -100
LAYOUTS = ("16", "8+8", "4+4+4+4", "flattened")
"""How the 16 rows of a step go through the network: at once; in parts of similar length, gradients added up; or as
one long row without padding."""
GROUPED = "length-grouped"
"""At once, in batches of similar length that the trainer forms itself: another order of rows than the others."""
PRECISIONS = {
    "lora": ("float32 adapter", "float32 adapter, autocast", "bfloat16 adapter"),
    "soft-prompt": ("float32 adapter", "float32 adapter, autocast"),
    "full": ("float32 weights, autocast", "bfloat16 weights"),
}
"""What is learned in which dtype, by method, the trainers' usual way first; the network is bfloat16 otherwise."""
Row = dict[str, list[int]]
EXACT = "exact"
"""Everything in the prepared dtype, float32 then: proves that the sides compute the same."""


@dataclass(frozen=True)
class Setting:
    """What a trainer may choose without changing what is learned."""

    precision: str
    layout: str


def layouts(method: str) -> list[str]:
    """Layouts that are right for the method: learned embeddings stand before each row, not before one long row."""
    return [name for name in LAYOUTS if method != "soft-prompt" or name != "flattened"]


def precisions(method: str, dtype: str) -> Sequence[str]:
    """What may be tried where the network computes in `dtype`: in float32 there is nothing to choose."""
    return PRECISIONS[method] if dtype == "bfloat16" else (EXACT,)


def run_trainer(job: Mapping[str, Any]) -> Run:
    """Train with a peer; losses by step, seconds of the loop, memory, and the weights in `job["save"]`."""
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, set_seed

    prepared = workloads.read_prepared(job)
    recipe = prepared["recipe"]
    setting = Setting(**{name: job["settings"][name] for name in ("precision", "layout")})
    set_seed(job["seed"])
    tokenizer = AutoTokenizer.from_pretrained(prepared["folder"])
    model = _model(prepared, setting)
    order = prepared["orders"][job["seed"]][: job.get("steps")]
    if job.get("steps"):
        recipe["epochs"] = 1
    grouped = setting.layout == GROUPED
    rows = _rows(prepared, [list(range(len(prepared["prompts"])))] if grouped else order, sort=not grouped)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=recipe["learning_rate"], weight_decay=0.0, fused=True)
    warmup = recipe["warmup_steps"]
    rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup))
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(
            job["settings"]["trainer"],
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list(rows),
            optimizers=(optimizer, rates),
            arguments=_arguments(folder, setting, recipe, job["seed"]),
            pad=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
        )
        reset_peak()
        trainer.train()
    if job.get("save"):
        model.save_pretrained(job["save"])
    examples = recipe["epochs"] * len(rows) if grouped else len(rows)
    parts = _parts(setting.layout)
    losses = [sum(trainer.losses[first : first + parts]) for first in range(0, len(trainer.losses), parts)]
    return {
        "examples_per_second": examples / trainer.seconds,
        "seconds": trainer.seconds,
        "losses": losses,
        "final_loss": final_loss(losses, recipe),
        **memory_figures(),
    }


def final_loss(losses: Sequence[float], recipe: Mapping[str, Any]) -> float:
    """Mean loss of the steps of the last epoch."""
    last = losses[-max(1, len(losses) // recipe["epochs"]) :]
    return sum(last) / len(last)


def _parts(layout: str) -> int:
    return layout.count("+") + 1


def _model(prepared: Mapping[str, Any], setting: Setting) -> Any:
    """The network in the dtype of the setting, and what is learned on it."""
    import torch
    from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model
    from transformers import AutoModelForCausalLM

    method, recipe = prepared["method"], prepared["recipe"]
    dtype = torch.float32 if setting.precision.startswith("float32 weights") else getattr(torch, prepared["dtype"])
    model = AutoModelForCausalLM.from_pretrained(prepared["folder"], dtype=dtype, attn_implementation="sdpa")
    model.config.use_cache = False
    if method == "full":
        return model
    if method == "lora":
        config: Any = LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=recipe["rank"],
            lora_alpha=2 * recipe["rank"],
            lora_dropout=0.0,
            target_modules="all-linear",
        )
    else:
        config = PromptTuningConfig(
            task_type=TaskType.CAUSAL_LM,
            num_virtual_tokens=recipe["length"],
            prompt_tuning_init="TEXT",
            prompt_tuning_init_text=prepared["soft_text"],
            tokenizer_name_or_path=prepared["folder"],
        )
    return get_peft_model(model, config, autocast_adapter_dtype=not setting.precision.startswith("bfloat16"))


def _rows(prepared: Mapping[str, Any], order: Sequence[Sequence[int]], *, sort: bool) -> list[Row]:
    """Rows in the order of training; within a step by length, which changes no gradient but saves padding."""
    rows = []
    for batch in order:
        pairs = [(prepared["prompts"][row], prepared["answers"][row]) for row in batch]
        if sort:
            pairs.sort(key=lambda pair: -len(pair[0]) - len(pair[1]))
        for prompt, answer in pairs:
            rows.append({"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer})
    return rows


def _arguments(folder: str, setting: Setting, recipe: Mapping[str, Any], seed: int) -> dict[str, Any]:
    import torch

    grouped = setting.layout == GROUPED
    parts = _parts(setting.layout)
    return {
        "output_dir": folder,
        "flattened": setting.layout == "flattened",
        "per_device_train_batch_size": recipe["batch_size"] // parts,
        "gradient_accumulation_steps": parts,
        "num_train_epochs": recipe["epochs"] if grouped else 1,
        "train_sampling_strategy": "group_by_length" if grouped else "sequential",
        "max_grad_norm": 1.0,
        "bf16": setting.precision.endswith("autocast"),
        "gradient_checkpointing": False,
        "logging_strategy": "no",
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
        "seed": seed,
    }


def _trainer(kind: str, *, arguments: dict[str, Any], pad: int, **given: Any) -> Any:
    """The trainer, timed from its first step to its last, keeping the loss of every pass."""
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    flattened = arguments.pop("flattened", False)
    base: Any = Trainer
    if kind == "trl":
        from trl import SFTConfig, SFTTrainer

        base = SFTTrainer
        settings: Any = SFTConfig(
            **arguments,
            max_length=None,
            padding_free=flattened,
            dataset_kwargs={"skip_prepare_dataset": True},
        )
    else:
        settings = TrainingArguments(**arguments, remove_unused_columns=False)
        given["data_collator"] = _flat_collator() if flattened else _collator(pad)

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            trainer.begun = time.perf_counter()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            trainer.seconds = time.perf_counter() - trainer.begun

    class Watched(base):  # type: ignore[misc]
        losses: list[float]

        def training_step(self, *positional: Any, **named: Any) -> Any:
            loss = super().training_step(*positional, **named)
            self.losses.append(float(loss))
            return loss

    trainer: Any = Watched(args=settings, callbacks=[Clock()], **given)
    trainer.losses = []
    trainer.remove_callback(PrinterCallback)
    return trainer


def _collator(pad: int) -> Any:
    """Rows side by side, padded on the right."""
    import torch

    def collate(rows: list[dict[str, list[int]]]) -> dict[str, Any]:
        width = max(len(row["input_ids"]) for row in rows)
        batch = {"input_ids": [], "labels": [], "attention_mask": []}  # type: dict[str, list[list[int]]]
        for row in rows:
            length = len(row["input_ids"])
            gap = width - length
            batch["input_ids"].append([*row["input_ids"], *[pad] * gap])
            batch["labels"].append([*row["labels"], *[IGNORED] * gap])
            batch["attention_mask"].append([1] * length + [0] * gap)
        return {name: torch.tensor(values) for name, values in batch.items()}

    return collate


def _flat_collator() -> Any:
    """Rows one after the other; positions that start anew keep them apart."""
    from transformers import DataCollatorWithFlattening

    return DataCollatorWithFlattening(return_position_ids=True)
