"""Saved candidates: read back the same, loaded by PEFT and transformers, refused when damaged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import colour_task
from tunewise import api
from tunewise.adapted import AdaptedModel
from tunewise.errors import CandidateError, TunewiseError

pytestmark = pytest.mark.usefixtures("float32")

SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"learning_rate": 1e-2, "epochs": 2, "batch_size": 8, "rank": 4},
    "soft-prompt": {"learning_rate": 1e-1, "epochs": 2, "length": 5},
    "full": {"learning_rate": 1e-2, "epochs": 2, "batch_size": 8},
}


def fitted(name: str, folder: Path, out: Path) -> AdaptedModel:
    adapted = api.fit(colour_task(16, 8, 8), method=name, model=str(folder), **SETTINGS[name]).adapted
    assert isinstance(adapted, AdaptedModel)
    adapted.save(out)
    return adapted


def plain_scores(network: Any, adapted: AdaptedModel, inputs: list[Any]) -> np.ndarray:
    """Log-probabilities of both labels after each input, by plain forward passes of somebody else's code."""
    renderer = adapted.renderer()
    words = [renderer.answer(word) for word in ("warm", "cold")]
    rows = []
    for prompt in renderer.tokens(inputs):
        for word in words:
            with torch.no_grad():
                logits = network(input_ids=torch.tensor([prompt + word])).logits[0].double().log_softmax(-1)
            before = len(logits) - len(word) - 1
            rows.append(sum(float(logits[before + n, token]) for n, token in enumerate(word)))
    return np.array(rows).reshape(-1, 2)


@pytest.mark.parametrize("name", ["lora", "soft-prompt"])
def test_an_adapter_loads_in_plain_peft(name: str, tiny_folder: Path, tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM

    adapted = fitted(name, tiny_folder, tmp_path / "c")
    task = colour_task(16, 8, 8)
    base = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, tmp_path / "c").eval()
    ours = adapted.raw_scores(task.test.inputs).logprobs
    assert np.allclose(plain_scores(plain, adapted, task.test.inputs), ours, atol=1e-4)
    AutoPeftModelForCausalLM.from_pretrained(tmp_path / "c")


def test_a_full_model_loads_in_plain_transformers(tiny_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapted = fitted("full", tiny_folder, tmp_path / "c")
    task = colour_task(16, 8, 8)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "c")
    assert plain.dtype == torch.float32
    ours = adapted.raw_scores(task.test.inputs).logprobs
    assert np.allclose(plain_scores(plain.eval(), adapted, task.test.inputs), ours, atol=1e-4)
    assert AutoTokenizer.from_pretrained(tmp_path / "c").chat_template


def test_a_candidate_can_be_moved(tiny_folder: Path, tmp_path: Path) -> None:
    adapted = fitted("lora", tiny_folder, tmp_path / "c")
    shutil.move(tmp_path / "c", tmp_path / "elsewhere")
    moved = api.load(tmp_path / "elsewhere")
    inputs = colour_task().test.inputs
    assert [p.scores for p in moved.predict(inputs)] == [p.scores for p in adapted.predict(inputs)]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda c: (c / "candidate.json").unlink(), "neither a run .* nor a candidate"),
        (lambda c: (c / "candidate.json").write_text("{"), "is damaged"),
        (lambda c: (c / "candidate.json").write_text("[1]"), "not a description of a candidate"),
        (lambda c: (c / "prompt.json").unlink(), "prompt.json is missing"),
        (lambda c: (c / "prompt.json").write_text("{}"), "prompt.json is damaged or was changed"),
        (lambda c: (c / "adapter_config.json").write_text("{}"), "adapter_config.json is damaged"),
        (lambda c: (c / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is missing"),
        (lambda c: (c / "adapter_model.safetensors").write_bytes(b"x" * 40), "is damaged"),
        (lambda c: _edit(c, format=99), "another version"),
        (lambda c: _edit(c, type="alien"), "no installed method knows"),
        (lambda c: _edit(c, base={"name": "no-such", "sha256": "0"}), "no-such"),
    ],
)
def test_a_damaged_candidate_is_refused(damage: object, says: str, tiny_folder: Path, tmp_path: Path) -> None:
    fitted("lora", tiny_folder, tmp_path / "c")
    damage(tmp_path / "c")  # type: ignore[operator]
    with pytest.raises(TunewiseError, match=says) as raised:
        api.load(tmp_path / "c").predict(["red sun"])
    assert raised.value.exit_code == 2


def test_another_base_than_the_one_adapted_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    fitted("lora", tiny_folder, tmp_path / "c")
    _edit(tmp_path / "c", base={"name": str(tiny_folder), "sha256": "0" * 64})
    with pytest.raises(CandidateError, match="not the model this was adapted from"):
        api.load(tmp_path / "c").predict(["red sun"])


def _edit(folder: Path, **changes: object) -> None:
    path = folder / "candidate.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
