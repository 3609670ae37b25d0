"""Operations that torch.compile fuses for a GPU are traced here, and give what they give by themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tunewise.engine import operations
from tunewise.engine.operations import ACTIVATIONS, PLAIN, Fused
from tunewise.errors import SettingError

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.fixture(scope="module")
def fused() -> Fused:
    # Traced and split into forward graphs as for a GPU, but run as they are: no compiler is needed.
    return Fused(backend="aot_eager")


@pytest.fixture
def unasked() -> None:
    operations._wished.cache_clear()


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("rows", [3, 5])
def test_norms(fused: Fused, rows: int) -> None:
    weight, added, gradient = drawn(8, seed=1), drawn(rows, 8, seed=2), drawn(rows, 8, seed=3)
    x, y = drawn(rows, 8), drawn(rows, 8)
    found, expected = fused.norm(x, weight, 1e-5, added), PLAIN.norm(y, weight, 1e-5, added)
    assert torch.equal(x, y)
    assert torch.equal(x, drawn(rows, 8) + added)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    factor = found[1]
    assert torch.equal(fused.weighted(x, factor, weight), PLAIN.weighted(x, factor, weight))
    for more in (None, added):
        one, other = (by.norm_back(x, factor, weight, gradient, more) for by in (fused, PLAIN))
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_gates(fused: Fused, name: str) -> None:
    gate, through, back = (drawn(3, 8, seed=seed) for seed in range(3))
    one, other = (by.gate(name, gate.clone(), through, into_gate=False) for by in (fused, PLAIN))
    assert torch.equal(one, other)
    both = zip(*(by.gate_back(name, gate, through, back) for by in (fused, PLAIN)), strict=True)
    assert all(torch.equal(one, other) for one, other in both)


def test_rotations(fused: Fused) -> None:
    cos, sin = drawn(3, 1, 8, seed=4, dtype=torch.float32), drawn(3, 1, 8, seed=5, dtype=torch.float32)
    parts = [drawn(3, count, 8, seed=count) for count in (4, 2, 2)]
    joined = PLAIN.join(parts, cos, sin)
    assert torch.equal(fused.join(parts, cos, sin), joined)
    both = zip(*(by.part(joined, [4, 2, 2], torch.bfloat16, cos, sin) for by in (fused, PLAIN)), strict=True)
    assert all(torch.equal(one, other) for one, other in both)


def test_distributions(fused: Fused) -> None:
    logits, targets = drawn(6, 30), torch.arange(6)
    norms = PLAIN.normaliser(logits)
    assert torch.allclose(fused.normaliser(logits), norms)
    one, other = logits.clone(), logits.clone()
    fused.chances(one, norms, targets)
    PLAIN.chances(other, norms, targets)
    assert torch.equal(one, other)


@pytest.mark.usefixtures("unasked")
def test_torch_compile_is_for_a_gpu_and_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert operations.on(CUDA, torch.bfloat16) is PLAIN
    operations._wished.cache_clear()
    monkeypatch.setenv("TUNEWISE_COMPILE", "1")
    assert isinstance(operations.on(CUDA, torch.bfloat16), Fused)
    assert operations.name(CUDA, torch.bfloat16) == "torch.compile"
    assert operations.on(CPU, torch.float64) is PLAIN
    operations._wished.cache_clear()
    monkeypatch.setenv("TUNEWISE_COMPILE", "yes")
    with pytest.raises(SettingError, match="TUNEWISE_COMPILE is 'yes'; expected 1"):
        operations.on(CUDA, torch.bfloat16)
    operations._wished.cache_clear()
