"""Generation: places that are refilled, drawing, streaming; none of them changes a row's text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunewise.engine.generating import Sampling, generate, stream
from tunewise.engine.loading import load
from tunewise.engine.model import LanguageModel

PROMPTS = [[5, 6, 7, *range(20, 20 + n % 7), 30 + n] for n in range(11)]
QUICK = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LanguageModel:
    return load(tiny_folder, torch.float64)


def texts(model: LanguageModel, prompts: list[list[int]], **settings: object) -> list[str]:
    return [answer.text for answer in generate(model, prompts, max_tokens=9, **settings)]  # type: ignore[arg-type]


@given(places=st.integers(1, 12), order=st.permutations(PROMPTS))
@QUICK
def test_texts_depend_neither_on_places_nor_on_neighbours(
    model: LanguageModel, places: int, order: list[list[int]]
) -> None:
    alone = {tuple(prompt): texts(model, [prompt])[0] for prompt in PROMPTS}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunewise.engine.generating.MOST_ROWS", places)
        assert texts(model, order) == [alone[tuple(prompt)] for prompt in order]


def test_draws_repeat_and_depend_on_the_seed(model: LanguageModel) -> None:
    hot = Sampling(temperature=1.5, seed=1)
    first = texts(model, PROMPTS, sampling=hot)
    assert texts(model, PROMPTS, sampling=hot) == first
    assert texts(model, PROMPTS, sampling=hot, batch_tokens=1) == first
    assert texts(model, PROMPTS, sampling=Sampling(temperature=1.5, seed=2)) != first


def test_the_smallest_nucleus_is_greedy(model: LanguageModel) -> None:
    assert texts(model, PROMPTS, sampling=Sampling(temperature=1.0, top_p=0.0)) == texts(model, PROMPTS)


@pytest.mark.parametrize("stop", [(), (" the",), ("e",)])
def test_pieces_add_up_to_the_text(model: LanguageModel, stop: tuple[str, ...]) -> None:
    for prompt in PROMPTS[:4]:
        whole = generate(model, [prompt], max_tokens=30, stop=stop)[0].text
        assert "".join(stream(model, prompt, max_tokens=30, stop=stop)) == whole


def test_nothing_asked_for_gives_nothing(model: LanguageModel) -> None:
    assert generate(model, [], max_tokens=5) == []
    assert [answer.text for answer in generate(model, PROMPTS[:2], max_tokens=0)] == ["", ""]
