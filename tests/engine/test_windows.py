"""A model whose layers see only so far back, longer rows than that included: Gemma 3 with a tiny window."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tunewise.engine.answers import Pairs, answer_logprobs
from tunewise.engine.generating import generate
from tunewise.engine.loading import load
from tunewise.engine.model import LanguageModel
from tunewise.engine.scoring import score_labels

SHORT = [[5, 6, 7], [5, 6, 8]]
LONG = [[5, 6, 7, 8, 9, 10, 11, 12, 13, n, 15] for n in (14, 20, 21)]


@pytest.fixture(scope="module")
def gemma(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    from transformers import AutoTokenizer, Gemma3ForCausalLM, Gemma3TextConfig

    folder = tmp_path_factory.mktemp("gemma")
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        layer_types=["sliding_attention", "full_attention"] * 2,
        sliding_window=6,
        max_position_embeddings=256,
        initializer_range=0.2,
        eos_token_id=tokenizer.eos_token_id,
    )
    Gemma3ForCausalLM(config).save_pretrained(folder)
    return load(folder, torch.float64)


def plain(model: LanguageModel, prompt: list[int], answer: list[int]) -> torch.Tensor:
    logits = model.network(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    first = len(prompt) - 1
    return torch.stack([logits[first + place, token] for place, token in enumerate(answer)]).sum()


@pytest.mark.parametrize("prompts", [SHORT, LONG], ids=["inside", "beyond"])
@pytest.mark.parametrize("budget", [1, 400])
def test_labels_are_scored_as_by_the_plain_path(
    gemma: LanguageModel, prompts: list[list[int]], budget: int
) -> None:
    labels = [[20], [21, 22], [21, 23, 24]]
    found = torch.from_numpy(score_labels(gemma, prompts, labels, batch_tokens=budget).logprobs)
    with torch.no_grad():
        expected = torch.tensor([[float(plain(gemma, p, label)) for label in labels] for p in prompts])
    assert torch.allclose(found, expected.double(), atol=1e-5)


def test_gradients_are_those_of_the_plain_path(gemma: LanguageModel) -> None:
    weight = gemma.network.get_input_embeddings().weight.requires_grad_(True)
    try:
        logprobs, _ = answer_logprobs(gemma, Pairs(LONG, [[30, 31], [32], [33]]), "train-full")
        (ours,) = torch.autograd.grad(logprobs.sum(), weight)
        naive = plain(gemma, LONG[0], [30, 31]) + plain(gemma, LONG[1], [32]) + plain(gemma, LONG[2], [33])
        (theirs,) = torch.autograd.grad(naive, weight)
    finally:
        weight.requires_grad_(False)
    assert torch.allclose(ours, theirs, atol=1e-5 * float(theirs.abs().max()))


def test_texts_are_those_of_the_plain_path(gemma: LanguageModel) -> None:
    for prompt, answer in zip(LONG, generate(gemma, LONG, max_tokens=9), strict=True):
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(9):
                ids.append(int(gemma.network(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        end = next((n for n, token in enumerate(ids[len(prompt) :]) if token in gemma.end_ids), 9)
        assert answer.text == gemma.decode(ids[len(prompt) : len(prompt) + end])
