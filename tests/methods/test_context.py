"""Prompts that grew beyond the model's context end their trial before anything is learned or scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import colour_task, copy_task, make_model
from tunewise.adapted import AdaptedModel, ModelRef, reference
from tunewise.errors import TrialError
from tunewise.methods import get
from tunewise.study.ground import base_model
from tunewise.study.trials import MeteredTrial
from tunewise.task import Dataset, Task

pytestmark = pytest.mark.usefixtures("float32")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> ModelRef:
    """A model that reads 128 tokens."""
    return reference(str(make_model(tmp_path_factory.mktemp("short"), context=128)))


def plain_length(base: AdaptedModel, task: Task) -> int:
    """Tokens of the longest plain prompt of `task` and its answer."""
    renderer = base.renderer()
    rows = [*task.train.inputs, *task.validation.inputs]
    return max(map(len, renderer.tokens(rows))) + renderer.answer_room


def refused(name: str, base: AdaptedModel, task: Task, folder: Path, **settings: Any) -> str:
    """Why the trial failed, after nothing was spent on it."""
    trial = MeteredTrial(0, folder, task.validation)
    trial.watch(base)
    with pytest.raises(TrialError) as raised:
        get(name)(**settings).fit(base, task.train, task.validation, trial)
    assert (trial.work, trial.best, trial.losses) == (0, None, [])
    return str(raised.value)


def test_too_many_demonstrations(short: ModelRef, tmp_path: Path) -> None:
    task = colour_task(16, 8, 8)
    said = refused("few-shot", base_model(task.spec, short), task, tmp_path, shots=8)
    assert said.startswith("with 8 demonstrations the longest prompt and its answer take ")
    assert said.endswith(" tokens; the model reads 128. Use fewer, or shorten the inputs.")


@pytest.mark.parametrize("name", ["lora", "full", "soft-prompt"])
def test_training_rows_too_long_for_the_prompt_they_start_from(name: str, short: ModelRef, tmp_path: Path) -> None:
    task = colour_task(16, 8, 8)
    long = replace(task.train.examples[0], inputs={"text": "red " * 120})
    task = replace(task, train=Dataset((long, *task.train.examples[1:])))
    said = refused(name, base_model(task.spec, short), task, tmp_path)
    assert "the longest prompt and its answer take" in said


@pytest.mark.parametrize("task", [colour_task(16, 8, 8), copy_task(8, 4, 4)], ids=lambda task: task.name)
def test_learned_embeddings_take_room(task: Task, short: ModelRef, tmp_path: Path) -> None:
    base = base_model(task.spec, short)
    room = 128 - plain_length(base, task)
    assert room > 0
    said = refused("soft-prompt", base, task, tmp_path, length=room + 1)
    assert said.startswith(f"with {room + 1} learned embeddings the longest prompt and its answer take 129 tokens")
    trial = MeteredTrial(0, tmp_path, task.validation)
    get("soft-prompt")(length=room, epochs=1).fit(base, task.train, task.validation, trial)
    assert trial.best is not None


def test_a_target_longer_than_the_answers_room(short: ModelRef, tmp_path: Path) -> None:
    task = copy_task(8, 4, 4)
    long = replace(task.train.examples[0], target="red sun " * 60)
    task = replace(task, train=Dataset((long, *task.train.examples[1:])))
    said = refused("lora", base_model(task.spec, short), task, tmp_path)
    assert said.startswith("the longest prompt and its answer take")
    assert said.endswith("the model reads 128. Shorten the inputs.")


def test_cut_inputs_leave_room_for_learned_embeddings(short: ModelRef, tmp_path: Path) -> None:
    task = colour_task(16, 8, 8)
    long = replace(task.train.examples[0], inputs={"text": "red " * 200})
    task = replace(task, train=Dataset((long, *task.train.examples[1:])))
    base = base_model(task.spec, short)
    base = replace(base, prompt=replace(base.prompt, truncate=True))
    trial = MeteredTrial(0, tmp_path, task.validation)
    get("soft-prompt")(length=8, epochs=1).fit(base, task.train, task.validation, trial)
    assert trial.best is not None
