"""Memory: the limit that a user sets, how a batch is parted to stay within it, and that parts change nothing."""

from __future__ import annotations

import gc
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tunewise.engine import memory
from tunewise.engine.adapters import new_lora
from tunewise.engine.answers import Pairs, score_answers
from tunewise.engine.generating import generate
from tunewise.engine.loading import load
from tunewise.engine.model import LanguageModel
from tunewise.engine.scoring import score_labels
from tunewise.engine.training import Recipe, Training
from tunewise.errors import SettingError, TrialError

PAIRS = Pairs([[5, 6, 7, n, n + 1] for n in range(20, 32)], [[40 + n % 3, 2] for n in range(12)])


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LanguageModel:
    return load(tiny_folder, torch.float64)


@pytest.mark.parametrize(
    ("text", "size"), [("4GB", 4e9), ("800 MB", 8e8), ("1.5gib", 1.5 * 2**30), ("2G", 2e9), ("1000", 1000.0)]
)
def test_a_limit_is_read(text: str, size: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_MEMORY", text)
    assert memory.limit() == size


@pytest.mark.parametrize("text", ["", "much", "4 elephants", "-1GB", "0GB", "1.2.3GB", "."])
def test_a_limit_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWISE_MEMORY", text)
    with pytest.raises(SettingError, match=r"TUNEWISE_MEMORY is .*expected a size such as 4GB"):
        memory.limit()


def test_less_memory_means_smaller_parts_then_checkpoints_then_a_refusal(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    footprint = model.footprint

    def room(given: float) -> memory.Room:
        monkeypatch.setenv("TUNEWISE_MEMORY", f"{given:.0f}")
        return memory.room_for_training(footprint, "lora", 1000, longest=50)

    plenty = footprint.training("lora", 1000, 10_000)
    fifty = footprint.training("lora", 1000, 51, parted=True)
    least = footprint.training("lora", 1000, 51, checkpointed=True, parted=True)
    assert least < fifty < plenty
    assert room(plenty) == memory.Room(memory.PASS_TOKENS, checkpointed=False)
    assert room(fifty + 1) == memory.Room(51, checkpointed=False)
    assert room(least + 1) == memory.Room(51, checkpointed=True)
    with pytest.raises(TrialError, match=r"one row of 50 tokens.*1,000 values learned.*TUNEWISE_MEMORY"):
        room(least * 0.9)


@pytest.mark.parametrize("room", [memory.Room(9, checkpointed=False), memory.Room(4096, checkpointed=True)])
def test_neither_parts_nor_checkpoints_change_what_is_learned(
    model: LanguageModel, room: memory.Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = new_lora(model.network, model.linear_names, 4, 8, 0)

    def learned() -> tuple[list[float], dict[str, torch.Tensor]]:
        training = Training(model, weights, PAIRS, Recipe(1e-2, batch_size=6))
        return [report.loss for report in training.steps(3)], dict(training.weights().tensors)

    whole = learned()
    monkeypatch.setattr("tunewise.engine.training.room_for_training", lambda *_: room)
    parted = learned()
    assert np.allclose(whole[0], parted[0], rtol=1e-6)
    for name, tensor in whole[1].items():
        assert torch.allclose(tensor, parted[1][name], atol=1e-5), name


def test_scores_are_the_same_within_little_memory(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [[20], [21, 22]]
    whole = score_labels(model, PAIRS.prompts, labels).logprobs
    monkeypatch.setenv("TUNEWISE_MEMORY", "1MB")
    assert memory.tokens_for_scoring(model.footprint) == 64
    assert np.allclose(score_labels(model, PAIRS.prompts, labels).logprobs, whole, atol=1e-6)


def test_the_search_for_cycles_waits_until_scores_are_there(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    count = LanguageModel.count

    def counted(self: LanguageModel, *args: Any, **kwargs: Any) -> None:
        seen.append(gc.isenabled())
        count(self, *args, **kwargs)

    monkeypatch.setattr(LanguageModel, "count", counted)
    score_labels(model, PAIRS.prompts, [[20], [21, 22]])
    score_answers(model, PAIRS)
    generate(model, PAIRS.prompts, max_tokens=2)
    assert seen
    assert not any(seen)
    assert gc.isenabled()
    gc.disable()
    try:
        score_answers(model, PAIRS)
        assert not gc.isenabled()  # as the caller wished
    finally:
        gc.enable()


FAULTS = """
import resource
from tunewise.engine.memory import give_back, keep_freed
keep_freed()
import torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.ones(1 << 18) for _ in range(64)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
first, *again = (faults() for _ in range(4))
give_back()
print(first, min(again), faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize("settings", [{}, {"MALLOC_MMAP_THRESHOLD_": "131072"}])
def test_freed_memory_stays_with_the_process_until_it_is_given_back(settings: dict[str, str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, env={**os.environ, **settings}, check=True
    )
    first, again, after = map(int, ran.stdout.split())
    assert first > 10_000
    assert after > 10_000
    # The user's own setting is left alone.
    assert again > 10_000 if settings else again < 2_000
