"""Saved candidates: a folder with `candidate.json`, the prompt, the calibration, and weights others can load.

A LoRA or a soft prompt is a PEFT adapter folder, a fully tuned model a Hugging Face model folder: the candidate
folder itself is what `PeftModel.from_pretrained` or `AutoModelForCausalLM.from_pretrained` takes. Only JSON and
safetensors are read or written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewise.errors import CandidateError
from tunewise.fetching import sha256_of
from tunewise.prompt import Prompt
from tunewise.task import TaskSpec
from tunewise.whole import write_text

if TYPE_CHECKING:
    from tunewise.adapted import AdaptedModel
    from tunewise.engine.adapters import Weights

FORMAT = 1
CANDIDATE = "candidate.json"
ADAPTER = "adapter_model.safetensors"
MODEL = "model.safetensors"
OWN_FILES = frozenset({CANDIDATE, "prompt.json", "calibration.json", "tunewise.json"})


def write_json(path: Path, data: Any) -> None:
    """Write `data` as JSON, whole or not at all."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        CandidateError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CandidateError(
            f"{path} is missing; expected a complete candidate or run folder. Copy it again."
        ) from error
    except json.JSONDecodeError as error:
        raise CandidateError(
            f"{path}, line {error.lineno}: not JSON ({error.msg}); the file is damaged. "
            "Copy the folder again from where it was made."
        ) from error
    except (OSError, ValueError) as error:
        raise CandidateError(
            f"{path} is damaged: {error}. Copy the folder again from where it was made."
        ) from error


def describe(folder: Path, kind: str, spec: TaskSpec, **more: Any) -> None:
    """Write `candidate.json`: the predictor's type, its spec, and `more`."""
    write_json(folder / CANDIDATE, {"format": FORMAT, "type": kind, "spec": spec.to_json(), **more})


def seal(folder: Path) -> None:
    """Note the SHA-256 of every file in `candidate.json`, so that damage is seen when it is loaded."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CANDIDATE)
    path = folder / CANDIDATE
    sums = {str(file.relative_to(folder)): sha256_of(file) for file in files}
    write_json(path, {**read_json(path), "files": sums})


def check_seal(folder: Path) -> None:
    """Refuse a candidate with a file missing or changed; raises CandidateError naming the file."""
    for name, expected in read_description(folder).get("files", {}).items():
        path = folder / name
        if not path.is_file():
            raise CandidateError(f"{path} is missing; the candidate is not complete. Copy it again.")
        if sha256_of(path) != expected:
            raise CandidateError(
                f"{path} is damaged or was changed: its checksum is another than when it was saved."
            )


def add_origin(folder: Path, origin: Mapping[str, Any]) -> None:
    """Add to `candidate.json` where the candidate came from: method, hyper-parameters, trial."""
    path = folder / CANDIDATE
    write_json(path, {**read_json(path), **origin})


def read_description(folder: Path) -> dict[str, Any]:
    """The content of `candidate.json`, checked.

    Raises:
        CandidateError: it is missing, damaged, or of a format this version does not know.
    """
    data = read_json(folder / CANDIDATE)
    if not isinstance(data, dict) or "type" not in data or "spec" not in data:
        raise CandidateError(f"{folder / CANDIDATE} is not a description of a candidate. Copy the folder again.")
    if data.get("format") != FORMAT:
        raise CandidateError(
            f"{folder / CANDIDATE} has format {data.get('format')!r}, expected {FORMAT}. "
            "It was written by another version of Tunewise; use that version."
        )
    return data


def save_adapted(adapted: AdaptedModel, folder: Path) -> None:
    """Write an adapted model into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = adapted.weights
    if weights is not None:  # first, as a whole model brings files of its base
        _WRITERS[weights.kind](adapted, weights, folder)
    more = {
        "base": adapted.base.to_json(),
        "constraint": adapted.constraint.kind if adapted.constraint else None,
        "weights": {"kind": weights.kind, "settings": dict(weights.settings)} if weights else None,
    }
    describe(folder, "adapted", adapted.spec, **more)
    write_json(folder / "prompt.json", adapted.prompt.to_json())
    if adapted.calibration is not None:
        calibration = adapted.calibration
        write_json(
            folder / "calibration.json",
            {
                "kind": calibration.kind,
                "length_normalised": calibration.length_normalised,
                "bias": list(calibration.bias),
            },
        )
    seal(folder)


def load_adapted(folder: Path) -> AdaptedModel:
    """Read an adapted model that `save_adapted` wrote; the base model itself is loaded when first needed.

    Raises:
        CandidateError: a file is missing, damaged or foreign.
    """
    from tunewise.adapted import AdaptedModel, Calibration, Constraint, ModelRef

    data = read_description(folder)
    try:
        spec = TaskSpec.from_json(data["spec"])
        base = ModelRef(**data["base"])
        prompt = Prompt.from_json(read_json(folder / "prompt.json"))
        constraint = Constraint(data["constraint"]) if data["constraint"] else None
        calibration = None
        if (folder / "calibration.json").exists():
            raw = read_json(folder / "calibration.json")
            calibration = Calibration(raw["kind"], raw["length_normalised"], tuple(raw["bias"]))
        weights = _read_weights(folder, data["weights"]) if data["weights"] else None
    except (KeyError, TypeError) as error:
        raise CandidateError(
            f"{folder} is not a complete candidate: {error} is missing. Copy it again."
        ) from error
    return AdaptedModel(spec, base, prompt, constraint, calibration, weights)


def _base_folder(adapted: AdaptedModel) -> str:
    from tunewise import catalog

    return str(catalog.resolve_model(adapted.base.name))


def _write_lora(adapted: AdaptedModel, weights: Weights, folder: Path) -> None:
    from safetensors.torch import save_file

    targets = [name.removeprefix("base_model.model.") for name in weights.settings["targets"]]
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": _base_folder(adapted),
        "inference_mode": True,
        "r": weights.settings["rank"],
        "lora_alpha": weights.settings["alpha"],
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({name.rpartition(".")[2] for name in targets}),
    }
    write_json(folder / "adapter_config.json", config)
    tensors = {
        f"base_model.model.{name}.weight": tensor.detach().contiguous().cpu()
        for name, tensor in weights.tensors.items()
    }
    save_file(tensors, folder / ADAPTER, metadata={"format": "pt"})


def _write_soft_prompt(adapted: AdaptedModel, weights: Weights, folder: Path) -> None:
    from safetensors.torch import save_file

    from tunewise.engine.adapters import SOFT_PROMPT

    tensor = weights.tensors[SOFT_PROMPT].detach().contiguous().cpu()
    config = {
        "peft_type": "PROMPT_TUNING",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": _base_folder(adapted),
        "inference_mode": True,
        "num_virtual_tokens": tensor.shape[0],
        "token_dim": tensor.shape[1],
        "num_transformer_submodules": 1,
        "prompt_tuning_init": "RANDOM",
    }
    write_json(folder / "adapter_config.json", config)
    save_file({SOFT_PROMPT: tensor}, folder / ADAPTER, metadata={"format": "pt"})


def _write_full(adapted: AdaptedModel, weights: Weights, folder: Path) -> None:
    from safetensors.torch import save_file

    base = Path(_base_folder(adapted))
    for path in base.glob("*"):
        wanted = path.suffix in (".json", ".jinja", ".txt", ".model") and path.name not in OWN_FILES
        if path.is_file() and wanted and "index" not in path.name:
            shutil.copyfile(path, folder / path.name)
    # The configuration says which dtype to load: that of the tensors, which may differ from the base's.
    config = read_json(folder / "config.json")
    dtype = str(next(iter(weights.tensors.values())).dtype).removeprefix("torch.")
    write_json(folder / "config.json", {**config, "dtype": dtype})
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in weights.tensors.items()}
    save_file(tensors, folder / MODEL, metadata={"format": "pt"})


_WRITERS: Mapping[str, Callable[[AdaptedModel, Weights, Path], None]] = {
    "lora": _write_lora,
    "soft-prompt": _write_soft_prompt,
    "full": _write_full,
}


def _read_weights(folder: Path, description: Mapping[str, Any]) -> Weights:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from tunewise.engine.adapters import Weights

    kind = description["kind"]
    path = folder / (MODEL if kind == "full" else ADAPTER)
    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise CandidateError(f"{path} is missing; the candidate is not complete. Copy it again.") from error
    except (OSError, SafetensorError) as error:
        raise CandidateError(f"{path} is damaged: {error}. Copy the candidate again.") from error
    if kind == "lora":
        tensors = {
            name.removeprefix("base_model.model.").removesuffix(".weight"): tensor
            for name, tensor in tensors.items()
        }
    return Weights(kind, tensors, dict(description["settings"]))
