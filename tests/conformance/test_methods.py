"""What every method must do, whoever wrote it: run for each method that is registered."""

from __future__ import annotations

import dataclasses
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny import colour_task, copy_task
from tunewise import api
from tunewise.adapted import Predictor, reference
from tunewise.engine import memory, training
from tunewise.methods import get, load_predictor, names, obstacle
from tunewise.methods.base import FAMILIES, OFFERED
from tunewise.study.ground import base_model
from tunewise.study.trials import MeteredTrial
from tunewise.task import Task

pytestmark = pytest.mark.usefixtures("float32")

QUICK = {"epochs": 2, "shots": 2, "length": 4, "rank": 2}


def tasks_for(name: str) -> list[Task]:
    return [t for t in (colour_task(16, 8, 8), copy_task(8, 4, 4)) if obstacle(get(name), t.spec) is None]


def make(name: str) -> Any:
    fields = {field.name for field in dataclasses.fields(get(name))}
    return get(name)(**{key: value for key, value in QUICK.items() if key in fields})


def fit(name: str, task: Task, folder: Path, tmp_path: Path, **trial: Any) -> tuple[Predictor, MeteredTrial]:
    start = base_model(task.spec, reference(str(folder)))
    handle = MeteredTrial(3, tmp_path / "trial", task.validation, **trial)
    handle.watch(start)
    return make(name).fit(start, task.train, task.validation, handle), handle


@pytest.mark.parametrize("name", names())
def test_a_method_says_what_it_is(name: str) -> None:
    method = get(name)
    made = method()
    assert method.name == name
    assert method.family in FAMILIES
    assert method.needs <= OFFERED
    assert bool(method.needs) == (method.work is not None), "a method without a model has no work on one"
    assert method.__doc__
    assert dataclasses.is_dataclass(method)
    for field in dataclasses.fields(method):
        assert getattr(made, field.name) == field.default
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(made, field.name, None)


@pytest.mark.parametrize("name", names())
def test_a_model_that_offers_nothing_leaves_the_baselines(name: str) -> None:
    reason = obstacle(get(name), colour_task().spec, offered=frozenset())
    needs = " and ".join(sorted(get(name).needs))
    assert reason == (f"it needs {needs}, which the model does not offer" if needs else None)


@pytest.mark.parametrize("name", names())
def test_the_search_space_holds_hyperparameters(name: str) -> None:
    for task in tasks_for(name):
        space = get(name).search_space(task.spec, None, len(task.train))
        fields = {field.name for field in dataclasses.fields(get(name))}
        assert set(space) <= fields
        assert all(len(values) >= 1 for values in space.values())


@pytest.mark.parametrize("name", names())
def test_fitting_twice_gives_the_same_predictions(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    for task in tasks_for(name):
        answers = []
        for attempt in ("a", "b"):
            fitted, handle = fit(name, task, tiny_folder, tmp_path / attempt)
            assert handle.best is not None, "a method offers at least one candidate"
            answers.append([(p.output, p.probability) for p in fitted.predict(task.test.inputs)])
        assert answers[0] == answers[1]


@pytest.mark.parametrize("name", names())
def test_a_saved_candidate_predicts_the_same(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    for task in tasks_for(name):
        fitted, _ = fit(name, task, tiny_folder, tmp_path)
        fitted.save(tmp_path / task.name)
        loaded = load_predictor(tmp_path / task.name)
        assert loaded.spec == task.spec
        before, after = fitted.predict(task.test.inputs), loaded.predict(task.test.inputs)
        assert [p.output for p in before] == [p.output for p in after]
        for a, b in zip(before, after, strict=True):
            assert (a.scores is None) == (b.scores is None)
            assert a.scores is None or b.scores == pytest.approx(a.scores, abs=1e-12)
        assert not [p for p in tmp_path.rglob("*") if p.suffix in (".bin", ".pt", ".pkl", ".pickle", ".joblib")]


@pytest.mark.parametrize("name", names())
def test_predictions_are_the_tasks_own_answers(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    for task in tasks_for(name):
        fitted, _ = fit(name, task, tiny_folder, tmp_path)
        predictions = fitted.predict(task.test.inputs)
        assert len(predictions) == len(task.test)
        assert fitted.predict([]) == []
        if task.spec.kind == "classification":
            labels = task.spec.answer.labels  # type: ignore[union-attr]
            for prediction in predictions:
                assert prediction.output in labels
                assert prediction.scores is not None
                assert prediction.scores[prediction.output] == max(prediction.scores.values())


@pytest.mark.parametrize("name", names())
def test_a_method_stops_when_told(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    for task in tasks_for(name):
        checks: list[int] = []
        fit(
            name,
            task,
            tiny_folder,
            tmp_path / task.name,
            work_limit=-1.0,
            on_check=lambda checked, epoch, checks=checks: checks.append(checked.step),
        )
        assert len(checks) == 1


@pytest.mark.parametrize("name", [n for n in names() if (get(n).work or "").startswith("train")])
def test_pausing_and_continuing_changes_nothing(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    task = colour_task(32, 8, 8)
    start = base_model(task.spec, reference(str(tiny_folder)))
    method = get(name)(epochs=8, batch_size=4)

    def run(folder: Path, pause_at: int | None) -> tuple[Predictor, MeteredTrial]:
        handle = MeteredTrial(0, folder, task.validation, pause_at=pause_at)
        handle.watch(start)
        return method.fit(start, task.train, task.validation, handle), handle

    whole, _ = run(tmp_path / "whole", None)
    _, first = run(tmp_path / "parts", 16)
    assert first.paused
    parts, _ = run(tmp_path / "parts", None)
    for key, tensor in whole.weights.tensors.items():  # type: ignore[attr-defined]
        assert (tensor == parts.weights.tensors[key]).all(), key  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [n for n in names() if (get(n).work or "").startswith("train")])
def test_what_learned_is_gone_when_its_memory_is_given_back(
    name: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masters and moments take six times the weights of the network; the next trial must not find them there."""
    masters: list[weakref.ref[torch.Tensor]] = []
    gone: list[bool] = []
    begin = training.Training.__init__

    def begun(self: training.Training, *args: Any) -> None:
        begin(self, *args)
        masters.append(weakref.ref(self._flat))

    monkeypatch.setattr(training.Training, "__init__", begun)
    monkeypatch.setattr(memory, "give_back", lambda: gone.append(masters[0]() is None))
    task = colour_task(32, 8, 8)
    start = base_model(task.spec, reference(str(tiny_folder)))
    handle = MeteredTrial(0, tmp_path / "trial", task.validation, pause_at=8)
    handle.watch(start)
    get(name)(epochs=8, batch_size=4).fit(start, task.train, task.validation, handle)
    assert handle.paused
    assert gone == [True]


@pytest.mark.parametrize("name", [n for n in names() if get(n).work is not None])
def test_work_is_counted_and_the_base_untouched(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    task = colour_task(16, 8, 8)
    base = base_model(task.spec, reference(str(tiny_folder)))
    before = [p.probability for p in base.predict(task.test.inputs)]
    _, first = fit(name, task, tiny_folder, tmp_path / "a")
    from tunewise.adapted import forget_scores

    forget_scores()
    _, second = fit(name, task, tiny_folder, tmp_path / "b")
    assert first.work > 0
    forget_scores()
    assert [p.probability for p in base.predict(task.test.inputs)] == before
    assert second.work > 0


def test_learning_learns(tiny_folder: Path) -> None:
    """Each tuned method gets from chance to near perfect on a task that one word decides."""
    task = colour_task(48, 24, 40)
    recipes: dict[str, dict[str, Any]] = {
        "lora": {"learning_rate": 1e-2, "epochs": 8, "batch_size": 8},
        "full": {"learning_rate": 1e-2, "epochs": 8, "batch_size": 8},
        "soft-prompt": {"learning_rate": 5e-2, "epochs": 16, "batch_size": 8},
    }
    for name, settings in recipes.items():
        fitted = api.fit(task, method=name, model=str(tiny_folder), **settings)
        assert fitted.losses[-1] < fitted.losses[0] / 2, name
        assert api.evaluate(fitted.adapted, task.test).score >= 0.9, name
