"""Is this folder a model that can be loaded? And the two other places models come from: a GGUF file, the Hub.

Only safetensors are loaded: a `.bin` or `.pt` file is a pickle, and reading one can run any code.

>>> check_model_folder(Path("models/smollm2"))     # doctest: +SKIP
PosixPath('models/smollm2')
"""

from __future__ import annotations

import json
from pathlib import Path

from tunewise.convert import CONVERSION, convert_in_own_process
from tunewise.errors import FetchError, SettingError
from tunewise.fetching import Progress, building, cache_folder, locked, sha256_of

STAMP = "tunewise.json"
"""The file that says where a folder in the cache came from; written last."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
HUB_PATTERNS = ["*.safetensors", "*.json", "*.jinja", "*.model", "vocab.txt", "merges.txt"]


def check_model_folder(folder: Path) -> Path:
    """`folder` itself if it holds config, safetensors and tokenizer; else raises SettingError."""
    names = sorted(path.name for path in folder.iterdir())
    if "config.json" not in names:
        hint = "Expected a model in the Hugging Face format (config.json, *.safetensors, tokenizer.json)."
        if "adapter_config.json" in names:
            hint = "It holds an adapter, which is no model by itself; give the model it was made for."
        elif any(name.lower().endswith(".gguf") for name in names):
            hint = "It holds a GGUF file; give the path of that file."
        raise SettingError(f"{folder}: no config.json in this folder. {hint}")
    if not any(name.endswith(".safetensors") for name in names):
        pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth"))]
        if pickles:
            raise SettingError(
                f"{folder}: holds its weights as {pickles[0]}, a pickle that can run any code when read; "
                "only safetensors are loaded. Look for a version of the model in safetensors, or convert the "
                "weights yourself if you trust them."
            )
        raise SettingError(f"{folder}: no *.safetensors in this folder, so there are no weights to load.")
    if not any(name in names for name in TOKENIZER_FILES):
        raise SettingError(f"{folder}: no tokenizer in this folder; expected one of {', '.join(TOKENIZER_FILES)}.")
    return folder


def from_gguf(path: Path, on_progress: Progress | None = None) -> Path:
    """The GGUF file at `path` as a model folder in the cache, converted once for each content."""
    checksum = sha256_of(path)
    target = cache_folder() / "models" / f"gguf-{checksum[:16]}"
    facts = {"sha256": checksum, "conversion": CONVERSION}
    if is_stamped(target, **facts):
        return target
    with locked(target, on_progress):
        if not is_stamped(target, **facts):
            with building(target) as folder:
                if on_progress is not None:
                    on_progress(f"converting {path.name} to safetensors")
                convert_in_own_process(path.resolve(), folder)
                write_stamp(folder, source=path.name, **facts, licence="see its source")
    return target


def from_hub(repository: str) -> Path:
    """Download `org/name` from the Hugging Face Hub (its own cache, its own login); never a pickle."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        folder = Path(snapshot_download(repository, allow_patterns=HUB_PATTERNS))
    except GatedRepoError as error:
        raise FetchError(
            f"{repository}: the Hugging Face Hub gives this model only to those who accepted its terms. "
            f"Accept them at https://huggingface.co/{repository}, then log in with: hf auth login"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise FetchError(
            f"{repository}: no such model on the Hugging Face Hub, and no such folder here. Check the "
            "spelling; for a private model, log in with: hf auth login"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise FetchError(
            f"{repository}: cannot be fetched from the Hugging Face Hub ({_first_line(error)}). Check the "
            "network; or give a model of the catalog (tunewise models), a local folder in the Hugging Face "
            "format, or a GGUF file."
        ) from error
    return check_model_folder(folder)


def write_stamp(folder: Path, **facts: object) -> None:
    """Record where the content of `folder` came from."""
    text = json.dumps({"format": 1, **facts}, indent=2, ensure_ascii=False)
    (folder / STAMP).write_text(text + "\n", encoding="utf-8")


def is_stamped(folder: Path, **facts: object) -> bool:
    """Whether `folder` is complete and its stamp agrees with `facts`."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(stamp, dict) and all(stamp.get(key) == value for key, value in facts.items())


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
