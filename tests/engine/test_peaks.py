"""What was held at most, and what goes to the device."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator

import pytest
import torch

from tunewise.engine import peaks
from tunewise.engine.moving import moved, placed

CPU = torch.device("cpu")


@contextlib.contextmanager
def held(megabytes: int) -> Iterator[None]:
    """Memory that goes back to the system at the end: what is freed to the allocator may stay with the process."""
    with mmap.mmap(-1, megabytes * 1_000_000) as pages:
        for place in range(0, len(pages), mmap.PAGESIZE):
            pages[place] = 1
        yield


def test_a_peak_is_of_what_came_since_it_was_reset() -> None:
    with held(320):
        peaks.reset()
        before = peaks.resident_mb()
    peaks.reset()
    after = peaks.resident_mb()
    assert before - after > 250
    with held(160):
        pass
    assert peaks.resident_mb() - after == pytest.approx(160, abs=60)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_has_no_peak() -> None:
    assert peaks.gpu_mb() is None


def test_the_peak_of_a_gpu_is_that_of_its_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda: 1_500_000)
    reset: list[bool] = []
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda: reset.append(True))
    peaks.reset()
    assert reset == [True]
    assert peaks.gpu_mb() == 1.5


def test_numbers_are_placed_as_integers() -> None:
    found = placed([[1, 2], [3, 4]], CPU)
    assert (found.dtype, found.tolist()) == (torch.long, [[1, 2], [3, 4]])
    assert placed([], CPU).dtype == torch.long
    states = torch.ones(2)
    assert moved(states, CPU) is states
