"""One trial as it is metered: what it makes of candidates, and what it says of its end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import colour_task, copy_task
from tunewise.adapted import Prediction, loaded, reference
from tunewise.engine.adapters import new_lora
from tunewise.errors import TrialError
from tunewise.study.ground import base_model
from tunewise.study.trials import MeteredTrial
from tunewise.task import Task, TaskSpec

pytestmark = pytest.mark.usefixtures("float32")


@dataclass(frozen=True)
class Sure:
    """Answers the first label, and holds the others impossible."""

    spec: TaskSpec

    def predict(self, inputs: Any) -> list[Prediction]:
        return [Prediction("w", {"w": 0.0, "c": float("-inf")}, 1.0) for _ in inputs]


@pytest.mark.parametrize("make", [colour_task, copy_task])
def test_scores_that_are_no_numbers_fail_the_trial(
    make: Callable[..., Task], tiny_folder: Path, tmp_path: Path
) -> None:
    task = make(8, 4, 4)
    base = base_model(task.spec, reference(str(tiny_folder)))
    model = loaded(base.base)
    weights = new_lora(model.network, model.linear_names, 4, 8, 0)
    for tensor in weights.tensors.values():
        tensor.fill_(float("nan"))
    trial = MeteredTrial(0, tmp_path, task.validation)
    with pytest.raises(TrialError, match=r"became NaN at step 8; .* a smaller learning rate may help"):
        trial.check(8, replace(base, weights=weights))
    assert trial.best is None


def test_labels_held_impossible_are_no_failure(tmp_path: Path) -> None:
    task = colour_task(8, 4, 4)
    verdict = MeteredTrial(0, tmp_path, task.validation).check(1, Sure(task.spec))  # type: ignore[arg-type]
    assert (verdict.value, verdict.log_loss) == (0.5, None)


@pytest.mark.parametrize("limit", [{"must_end": lambda: True}, {"work_limit": -1.0}])
def test_only_a_trial_with_steps_to_go_is_cut_short(limit: dict[str, Any], tmp_path: Path) -> None:
    task = colour_task(8, 4, 4)
    for steps, cut in ((16, True), (8, False)):
        trial = MeteredTrial(0, tmp_path, task.validation, **limit)
        trial.progress(8, steps)
        assert trial.check(8, Sure(task.spec)).stop  # type: ignore[arg-type]
        assert trial.cut_short == cut
