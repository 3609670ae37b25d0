"""Layers as blocks: which networks are computed so, and that they equal the networks' own modules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tunewise.engine.answers import Pairs, answer_logprobs
from tunewise.engine.blocks import Blocks
from tunewise.engine.loading import load
from tunewise.engine.model import LanguageModel
from tunewise.engine.parts import Rotation

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
PAIRS = Pairs([[5, 6, 7, 8, 9], [5, 6, 7, 10], [5, 6, 7, 8, 11, 12]], [[30, 31], [32], [33, 34, 35]])


def _qwen2(**sizes: Any) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    network = Qwen2ForCausalLM(Qwen2Config(**sizes))
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):  # zero as they are made
            torch.nn.init.normal_(parameter, std=0.5)
    return network


def _qwen3(**sizes: Any) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    network = Qwen3ForCausalLM(Qwen3Config(**sizes, head_dim=16))
    for name, parameter in network.named_parameters():
        if "norm" in name:  # one as they are made
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return network


def _mistral(**sizes: Any) -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**sizes, sliding_window=4))


def _granite(**sizes: Any) -> Any:
    from transformers import GraniteConfig, GraniteForCausalLM

    return GraniteForCausalLM(GraniteConfig(**sizes, residual_multiplier=0.3, embedding_multiplier=3.0))


@pytest.fixture
def made(tiny_folder: Path, tmp_path: Path) -> Callable[..., LanguageModel]:
    def make(network: Callable[..., Any], dtype: torch.dtype = torch.float64) -> LanguageModel:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
        tokenizer.save_pretrained(tmp_path)
        torch.manual_seed(0)
        network(vocab_size=len(tokenizer), **SIZES).save_pretrained(tmp_path)
        return load(tmp_path, dtype)

    return make


def _gradients(model: LanguageModel) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    named = dict(model.network.named_parameters())
    model.network.requires_grad_(True)
    try:
        logprobs, _ = answer_logprobs(model, PAIRS, "train-full")
        gradients = torch.autograd.grad(logprobs.sum(), list(named.values()))
    finally:
        model.network.requires_grad_(False)
    return logprobs.detach(), dict(zip(named, gradients, strict=True))


@pytest.mark.parametrize("network", [_qwen2, _qwen3, _mistral], ids=["biases", "head norms", "window"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_layers_of_the_usual_kind_are_blocks_and_learn_as_their_modules(
    made: Callable[..., LanguageModel], network: Callable[..., Any], dtype: torch.dtype
) -> None:
    model = made(network, dtype)
    assert model.blocks is not None
    ours, our_gradients = _gradients(model)
    model.blocks = None
    theirs, their_gradients = _gradients(model)
    assert torch.allclose(ours, theirs, atol=1e-5)
    for name, gradient in their_gradients.items():
        scale = max(1.0, float(gradient.abs().max()))
        assert torch.allclose(our_gradients[name] / scale, gradient / scale, atol=1e-5), name


def test_layers_that_scale_what_they_add_are_left_to_their_modules(made: Callable[..., LanguageModel]) -> None:
    assert made(_granite).blocks is None


def test_layers_whose_sizes_do_not_go_together_are_left_to_their_modules(
    made: Callable[..., LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Blocks.rotation

    def half(self: Blocks, hidden: torch.Tensor, positions: torch.Tensor) -> Rotation:
        rotation = whole(self, hidden, positions)
        return Rotation(rotation.cos[..., ::2], rotation.sin[..., ::2])

    monkeypatch.setattr(Blocks, "rotation", half)
    assert made(_qwen2).blocks is None


def test_the_tiny_model_runs_in_blocks(tiny_folder: Path) -> None:
    assert load(tiny_folder, torch.float32).blocks is not None
