"""Layers below all that learns: their states are computed once, and nothing that is learned changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tunewise.engine import below
from tunewise.engine.adapters import SOFT_PROMPT, Weights, new_lora
from tunewise.engine.answers import Pairs
from tunewise.engine.below import Below
from tunewise.engine.loading import load
from tunewise.engine.model import LanguageModel
from tunewise.engine.training import Recipe, Training

PAIRS = Pairs(
    [[5, 6, 7, n, n + 1, *range(60, 60 + n % 4)] for n in range(20, 32)], [[40 + n % 3, 2] for n in range(12)]
)


@pytest.fixture
def model(tiny_folder: Path) -> LanguageModel:
    return load(tiny_folder, torch.float64)


def _upper(model: LanguageModel, kind: str) -> Weights:
    """Weights of the second of two layers."""
    if kind == "lora":
        names = [name for name in model.linear_names if ".layers.1." in name]
        return new_lora(model.network, names, 4, 8, 0)
    named = dict(model.network.named_parameters())
    upper = {name: tensor for name, tensor in named.items() if ".layers.1." in name or name == "model.norm.weight"}
    return Weights("full", upper)


@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("mapped", [False, True])
def test_what_is_learned_is_the_same_and_the_lower_layer_runs_once(
    model: LanguageModel, kind: str, mapped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mapped:
        monkeypatch.setattr(below, "MAPPED", 0.0)
    weights = _upper(model, kind)

    def learned() -> tuple[list[float], Weights, int]:
        training = Training(model, weights, PAIRS, Recipe(1e-2, batch_size=4))
        before = model.meter["score"]
        losses = [report.loss for report in training.steps(9)]
        return losses, training.weights(), model.meter["score"] - before

    losses, tuned, lower_work = learned()
    assert lower_work > 0
    monkeypatch.setattr("tunewise.engine.training.Below.of", lambda *_: None)
    plain_losses, plain, none = learned()
    assert none == 0
    assert losses == pytest.approx(plain_losses, rel=1e-6)
    for name, tensor in plain.tensors.items():
        assert torch.allclose(tuned.tensors[name], tensor, atol=1e-5), name


def test_each_row_is_computed_once(model: LanguageModel) -> None:
    training = Training(model, _upper(model, "lora"), PAIRS, Recipe(1e-2, batch_size=4))
    list(training.steps(3))
    first_epoch = model.meter["score"]
    list(training.steps(9))
    assert model.meter["score"] == first_epoch


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        (["model.layers.1.mlp.up_proj.lora_A"], 1),
        (["model.norm.weight"], 2),
        (["model.layers.1.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"], None),
        (["model.embed_tokens.weight"], None),
        ([SOFT_PROMPT], None),
    ],
)
def test_what_learns_decides_what_lies_below(model: LanguageModel, names: list[str], layers: int | None) -> None:
    found = Below.of(model, names, PAIRS.lengths)
    assert (found.layers if found else None) == layers


def test_without_blocks_nothing_is_kept(model: LanguageModel) -> None:
    model.blocks = None
    assert Below.of(model, ["model.norm.weight"], PAIRS.lengths) is None
