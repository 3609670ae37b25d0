"""The training loop: its update is clipping and AdamW, filling changes nothing, the collector stays as it was."""

from __future__ import annotations

import gc
import random
from pathlib import Path

import pytest
import torch

from tunewise.engine import frames, laying, memory, training
from tunewise.engine.adapters import Weights, new_lora
from tunewise.engine.answers import Pairs, answer_logprobs
from tunewise.engine.loading import load
from tunewise.engine.model import LanguageModel
from tunewise.engine.training import Recipe, Training
from tunewise.engine.tree import Node
from tunewise.errors import TrialError

PAIRS = Pairs([[5, 6, 7, n, n + 1] for n in range(20, 32)], [[40 + n % 3, 2] for n in range(12)])
RECIPE = Recipe(3e-2, batch_size=5, warmup_steps=3, weight_decay=0.1, clip=0.5)


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LanguageModel:
    return load(tiny_folder, torch.float64)


def plainly_learned(model: LanguageModel, start: Weights, steps: int) -> dict[str, torch.Tensor]:
    """What PyTorch's own clipping and AdamW make of the same gradients, tensor by tensor."""
    masters = {name: tensor.to(torch.float32) for name, tensor in start.tensors.items()}
    optimizer = torch.optim.AdamW(masters.values(), weight_decay=RECIPE.weight_decay)
    order = Training(model, start, PAIRS, RECIPE)._rows_of
    for step in range(1, steps + 1):
        leaves = {name: master.to(model.dtype).requires_grad_() for name, master in masters.items()}
        batch = PAIRS.take(order(step))
        with model.carrying(Weights(start.kind, leaves, start.settings)):
            logprobs, _ = answer_logprobs(model, batch, "train-lora")
            (-logprobs.mean()).backward()
        for name, master in masters.items():
            grad = leaves[name].grad
            assert grad is not None
            master.grad = grad.to(torch.float32)
        torch.nn.utils.clip_grad_norm_(masters.values(), RECIPE.clip)
        for group in optimizer.param_groups:
            group["lr"] = RECIPE.learning_rate * min(1.0, step / RECIPE.warmup_steps)
        optimizer.step()
    return masters


@pytest.mark.parametrize("chunk", [memory.CHUNK, 1000])
def test_the_update_is_clipping_and_adamw(
    model: LanguageModel, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "CHUNK", chunk)
    start = new_lora(model.network, model.linear_names, 4, 8, 0)
    assert start.parameters > 2000
    trained = Training(model, start, PAIRS, RECIPE)
    reports = list(trained.steps(7))
    expected = plainly_learned(model, start, 7)
    assert [report.step for report in reports] == list(range(1, 8))
    for name, tensor in trained.weights().tensors.items():
        assert torch.allclose(tensor.to(torch.float32), expected[name], rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_filling_changes_nothing(model: LanguageModel, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lora = new_lora(model.network, model.linear_names, 4, 8, 0)
    full = Weights("full", {name: tensor.detach() for name, tensor in model.network.named_parameters()})
    start = lora if kind == "lora" else full

    def learned() -> tuple[list[float], dict[str, torch.Tensor]]:
        trained = Training(model, start, PAIRS, RECIPE)
        return [report.loss for report in trained.steps(3)], dict(trained.weights().tensors)

    assert len(laid_out(11).ids) == 11
    bare = learned()
    monkeypatch.setattr(laying, "FILLING", 1)
    monkeypatch.setattr(frames, "FILLING", 1)
    assert len(laid_out(11).ids) == 16
    filled = learned()
    assert bare[0] == pytest.approx(filled[0], rel=1e-9)
    for name, tensor in bare[1].items():
        assert torch.allclose(tensor, filled[1][name], atol=1e-6), name


def laid_out(*counts: int) -> laying.Pass:
    rows = [Node((1,) * count, 0, row=number) for number, count in enumerate(counts)]
    return laying.lay_out(rows, torch.device("cpu"), alike=True)


@pytest.mark.parametrize("most", [20, 60, 300])
def test_filling_stays_below_five_percent(most: int) -> None:
    draw = random.Random(most)
    for rows in range(1, 60):
        laid = laid_out(*(draw.randint(1, most) for _ in range(rows)))
        filling = len(laid.ids) - laid.tokens
        assert filling < 0.05 * len(laid.ids)
        assert len(laid.ids) < 320 or len(laid.ids) % laying.ALIKE == 0


def test_the_collector_is_left_as_it_was(model: LanguageModel) -> None:
    start = new_lora(model.network, model.linear_names, 4, 8, 0)
    assert gc.isenabled()
    for _ in Training(model, start, PAIRS, RECIPE).steps(2):
        assert gc.isenabled()
    broken = Weights("lora", {name: tensor * torch.nan for name, tensor in start.tensors.items()}, start.settings)
    with pytest.raises(TrialError, match="loss became nan at step 1"):
        next(Training(model, broken, PAIRS, RECIPE).steps(1))
    assert gc.isenabled()
    assert all(not parameter.requires_grad and parameter.grad is None for parameter in model.network.parameters())
