"""A tiny random language model with a real tokenizer, made in milliseconds, and tiny tasks to adapt it to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tunewise.task import Choices, Dataset, Example, Task, TaskSpec, Text

WORDS = (
    *("red", "green", "blue", "warm", "cold", "big", "small", "sun", "moon", "sea", "sky", "the"),
    *("a", "is", "of", "and", "good", "bad", "Answer", "with", "one", "Text"),
)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>"
    "\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_model(folder: Path, *, chat: bool = True, context: int = 512) -> Path:
    """Write a two-layer Llama with random float32 weights and a byte-level tokenizer into `folder`."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" ".join(WORDS)] * 20, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    if chat:
        fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@contextmanager
def in_float32(cache: Path) -> Iterator[None]:
    """Compute in float32, with what is measured kept in a folder of its own: for fixtures that outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNEWISE_DTYPE", "float32")
        patch.setenv("TUNEWISE_CACHE", str(cache))
        yield


def colour_task(n_train: int = 48, n_validation: int = 80, n_test: int = 40) -> Task:
    """Say whether a text is about a warm or a cold thing: the word decides, so there is something to learn."""
    spec = TaskSpec(
        "classification", ("text",), Choices(("w", "c"), ("warm", "cold")), "Is it warm or cold?", "accuracy"
    )
    sizes = (n_train, n_validation, n_test)
    return _task("colours", spec, sizes, ("c", "w"))


def copy_task(n_train: int = 24, n_validation: int = 8, n_test: int = 12) -> Task:
    """Repeat the thing that a text names."""
    spec = TaskSpec("generation", ("text",), Text(max_tokens=6), "Repeat the thing.", "chrf")
    sizes = (n_train, n_validation, n_test)
    return _task("copy", spec, sizes, ("sea", "sun"))


def colour_rows(count: int) -> list[dict[str, str]]:
    """Rows of the same kind for the reader, no two alike."""
    found = []
    for row in range(count):
        thing, target = ("red sun", "w") if row % 2 else ("blue sea", "c")
        words = f"{WORDS[row % 11]} and {WORDS[(row * 7) % 13]}"
        found.append({"text": f"the {thing} is {words} x{row}", "target": target})
    return found


def read_colours(count: int) -> Task:
    """So many of them, read as a task."""
    from tunewise.reading import read

    labels = {"w": "warm", "c": "cold"}
    rows = colour_rows(count)
    return read(rows, input="text", target="target", labels=labels, instruction="Is it warm or cold?")


def _task(name: str, spec: TaskSpec, sizes: tuple[int, ...], targets: tuple[str, str]) -> Task:
    """Splits of the given sizes; the thing that a text names decides its target."""
    splits, row = [], 0
    for size in sizes:
        examples = []
        for _ in range(size):
            thing = "red sun" if row % 2 else "blue sea"
            text = f"the {thing} is {WORDS[row % 11]} and {WORDS[(row * 7) % 13]}"
            examples.append(Example(row, {"text": text}, targets[row % 2]))
            row += 1
        splits.append(Dataset(tuple(examples)))
    train, validation, test = splits
    return Task(spec, train, validation, test, name=name)
