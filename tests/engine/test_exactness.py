"""Every shortcut of the engine equals the naive path: the plain padded forward of transformers, row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunewise.engine.adapters import SOFT_PROMPT, Weights, new_lora
from tunewise.engine.answers import Pairs, answer_logprobs, score_answers
from tunewise.engine.generating import generate
from tunewise.engine.loading import load
from tunewise.engine.model import LanguageModel
from tunewise.engine.scoring import close_labels, score_labels
from tunewise.engine.training import Recipe, Training

TOKENS = st.integers(3, 250)
ROW = st.lists(TOKENS, min_size=1, max_size=9)
QUICK = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=["float32", "float64"])
def model(request: pytest.FixtureRequest, tiny_folder: Path) -> LanguageModel:
    return load(tiny_folder, request.param)


def tolerance(model: LanguageModel) -> float:
    # In float64 the network's norms and rotary tables still round to float32 inside.
    return 2e-5 if model.dtype == torch.float32 else 1e-6


def naive_logprob(model: LanguageModel, prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Sum of an answer's token log-probabilities, by one plain forward pass of the whole row."""
    inputs: dict[str, torch.Tensor] = {"input_ids": torch.tensor([[*prompt, *answer]])}
    soft = 0
    if model.soft_prompt is not None:
        embeddings = model.network.get_input_embeddings()(inputs["input_ids"])
        soft = model.soft_prompt.shape[0]
        inputs = {"inputs_embeds": torch.cat([model.soft_prompt.to(model.dtype)[None], embeddings], dim=1)}
    logits = model.network(**inputs).logits[0].log_softmax(-1)
    first = soft + len(prompt) - 1
    return torch.stack([logits[first + place, token] for place, token in enumerate(answer)]).sum()


def some_weights(model: LanguageModel, kind: str) -> Weights | None:
    draw = torch.Generator().manual_seed(1)
    if kind == "lora":
        fresh = new_lora(model.network, model.linear_names, 4, 8, 0)
        tensors = {
            name: (tensor + 0.1 * torch.randn(tensor.shape, generator=draw)).to(model.dtype)
            for name, tensor in fresh.tensors.items()
        }
        return Weights("lora", tensors, fresh.settings)
    if kind == "soft-prompt":
        return Weights(kind, {SOFT_PROMPT: torch.randn(3, model.shape.hidden, generator=draw).to(model.dtype)})
    if kind == "full":
        named = dict(model.network.named_parameters())
        return Weights(kind, {name: (tensor * 1.1).detach() for name, tensor in named.items()})
    return None


@pytest.mark.parametrize("kind", ["none", "lora", "soft-prompt", "full"])
@pytest.mark.usefixtures("way")
def test_label_scores_equal_the_naive_path(model: LanguageModel, kind: str) -> None:
    prompts = [[5, 6, 7, 8], [5, 6, 7, 8, 9, 10], [5, 6, 11]]
    labels = [[20], [21, 22], [21, 23, 24], [30, 31]]
    with model.carrying(some_weights(model, kind)), torch.no_grad():
        found = score_labels(model, prompts, labels).logprobs
        expected = [[float(naive_logprob(model, p, label)) for label in labels] for p in prompts]
    assert np.allclose(found, expected, atol=tolerance(model), rtol=tolerance(model))


@given(
    prefix=st.lists(TOKENS, max_size=6),
    rows=st.lists(ROW, min_size=1, max_size=6),
    labels=st.lists(st.lists(TOKENS, min_size=1, max_size=4), min_size=2, max_size=6, unique_by=tuple),
    budget=st.integers(1, 60),
)
@QUICK
@pytest.mark.usefixtures("way")
def test_label_scores_do_not_depend_on_sharing_or_batches(
    model: LanguageModel, prefix: list[int], rows: list[list[int]], labels: list[list[int]], budget: int
) -> None:
    prompts = [[*prefix, *row] for row in rows]
    closed = close_labels(labels, model.end_id)
    found = score_labels(model, prompts, closed, batch_tokens=budget).logprobs
    with torch.no_grad():
        expected = [[float(naive_logprob(model, p, label)) for label in closed] for p in prompts]
    assert np.allclose(found, expected, atol=tolerance(model), rtol=tolerance(model))


def test_a_label_that_begins_another_needs_its_end(model: LanguageModel) -> None:
    assert close_labels([[4], [4, 5]], 2) == [[4, 2], [4, 5, 2]]
    assert close_labels([[4], [5, 4]], 2) == [[4], [5, 4]]


@pytest.fixture(params=["frames", "torch", "links", "both", "mask"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """All ways of attending over a tree, with every shared token made a node of its own."""
    if request.param not in ("frames", "torch"):
        monkeypatch.setattr("tunewise.engine.frames.WIDTHS", (0, 10, 12))
        monkeypatch.setattr("tunewise.engine.frames.WIDEST", 0 if request.param == "links" else 12)
        monkeypatch.setattr("tunewise.engine.laying.LINK", 1 if request.param == "links" else 6)
    if request.param == "torch":
        monkeypatch.setattr("tunewise.engine.kernels.serving", lambda *_: None)
    if request.param == "mask":
        monkeypatch.setattr("tunewise.engine.products.has_parts", lambda joined: False)
    return str(request.param)


@given(prefix=st.lists(TOKENS, max_size=5), rows=st.lists(st.tuples(ROW, ROW), min_size=1, max_size=5))
@QUICK
@pytest.mark.usefixtures("way")
def test_answer_scores_equal_the_naive_path(
    model: LanguageModel, prefix: list[int], rows: list[tuple[list[int], list[int]]]
) -> None:
    pairs = Pairs([[*prefix, *row] for row, _ in rows], [answer for _, answer in rows])
    found = score_answers(model, pairs, batch_tokens=40)
    with torch.no_grad():
        expected = [
            float(naive_logprob(model, list(p), list(a)))
            for p, a in zip(pairs.prompts, pairs.answers, strict=True)
        ]
    assert np.allclose(found, expected, atol=10 * tolerance(model), rtol=tolerance(model))


@pytest.mark.parametrize("kind", ["lora", "soft-prompt", "full"])
@given(prefix=st.lists(TOKENS, max_size=5), rows=st.lists(st.tuples(ROW, ROW), min_size=1, max_size=4))
@settings(parent=QUICK, max_examples=5)
@pytest.mark.usefixtures("way")
def test_gradients_equal_the_naive_path(
    model: LanguageModel, kind: str, prefix: list[int], rows: list[tuple[list[int], list[int]]]
) -> None:
    pairs = Pairs([[*prefix, *row] for row, _ in rows], [answer for _, answer in rows])
    weights = some_weights(model, kind)
    assert weights is not None
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in weights.tensors.items()}
    with model.carrying(Weights(kind, leaves, weights.settings)):
        if kind == "full":
            named = dict(model.network.named_parameters())
            leaves = {name: named[name].requires_grad_() for name in leaves}
        try:
            logprobs, _ = answer_logprobs(model, pairs, "train-lora")
            ours = torch.autograd.grad(logprobs.sum(), list(leaves.values()), allow_unused=True)
            naive = torch.stack(
                [naive_logprob(model, list(p), list(a)) for p, a in zip(pairs.prompts, pairs.answers, strict=True)]
            ).sum()
            theirs = torch.autograd.grad(naive, list(leaves.values()), allow_unused=True)
        finally:
            model.network.requires_grad_(False)
    for name, a, b in zip(leaves, ours, theirs, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            scale = max(1.0, float(b.abs().max()))
            assert torch.allclose(a / scale, b / scale, atol=20 * tolerance(model), rtol=0), name


@pytest.mark.parametrize("budget", [1, 64, 4096])
@pytest.mark.usefixtures("way")
def test_generated_tokens_equal_transformers(model: LanguageModel, budget: int) -> None:
    prompts = [[5, 6, 7, 8], [5, 6, 7, 8, 9, 10, 40], [5, 6, 11], [5, 6, 90, 91]]
    found = generate(model, prompts, max_tokens=12, batch_tokens=budget)
    for prompt, answer in zip(prompts, found, strict=True):
        with torch.no_grad():
            ids = model.network.generate(
                torch.tensor([prompt]),
                max_new_tokens=12,
                do_sample=False,
                attention_mask=torch.ones(1, len(prompt)),
            )[0, len(prompt) :].tolist()
        assert answer.text == model.decode(ids)


def test_a_stop_string_ends_the_answer(model: LanguageModel) -> None:
    free = generate(model, [[5, 6, 7, 8]], max_tokens=12)[0]
    mark = free.text[len(free.text) // 2]
    cut = generate(model, [[5, 6, 7, 8]], max_tokens=12, stop=(mark,))[0]
    assert cut.text == free.text[: free.text.index(mark)]
    assert cut.finished


def test_weights_leave_no_trace(model: LanguageModel) -> None:
    prompts, labels = [[5, 6, 7], [5, 6, 8]], [[20], [21, 22]]
    before = score_labels(model, prompts, labels).logprobs
    for kind in ("lora", "soft-prompt", "full"):
        with model.carrying(some_weights(model, kind)):
            assert not np.allclose(score_labels(model, prompts, labels).logprobs, before)
        assert np.array_equal(score_labels(model, prompts, labels).logprobs, before)


@pytest.mark.parametrize("kind", ["lora", "soft-prompt", "full"])
def test_a_batch_in_parts_learns_the_same(
    model: LanguageModel, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = Pairs([[5, 6, 7, n, n + 1] for n in range(20, 32)], [[40 + n % 3, 2][: 1 + n % 2] for n in range(12)])
    weights = some_weights(model, kind)
    assert weights is not None

    def learned(pass_tokens: int) -> tuple[list[float], Weights]:
        monkeypatch.setattr("tunewise.engine.memory.PASS_TOKENS", pass_tokens)
        training = Training(model, weights, pairs, Recipe(1e-2, batch_size=6))
        return [report.loss for report in training.steps(3)], training.weights()

    whole, in_parts = learned(4096), learned(9)
    assert np.allclose(whole[0], in_parts[0], rtol=1e-5)
    for name, tensor in whole[1].tensors.items():
        assert torch.allclose(tensor, in_parts[1].tensors[name], atol=1e-4), name
