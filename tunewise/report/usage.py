"""How to use the winner: on the command line, from Python, and without Tunewise at all.

What is shown follows from the files that stand in the candidate's folder, so that the page never promises
weights that are not there.

>>> how_to_use(run).python.splitlines()[0]  # doctest: +SKIP
'import tunewise as tw'
"""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from tunewise.report.records import PLAIN_NAME, Run
from tunewise.report.words import plain
from tunewise.run_files import read_json

ADAPTERS = {"LORA": "a LoRA adapter", "PROMPT_TUNING": "a soft prompt"}


@dataclass(frozen=True)
class Usage:
    """Commands and code for the pick."""

    path: str
    """The candidate's folder, relative to the run folder."""
    next_commands: str
    command: str
    python: str
    plain_code: str
    """Code for peft or transformers; empty when the pick has no weights of its own."""
    plain_note: str
    files: tuple[tuple[str, str], ...]
    """Name and size of every file of the candidate."""


def how_to_use(run: Run) -> Usage | None:
    """Commands for the pick, or None when there is none."""
    told = run.recommendation
    # The pick's name is a folder name here: one with a separator would point outside the run folder.
    if told is None or not PLAIN_NAME.fullmatch(told.pick) or told.pick in (".", ".."):
        return None
    path = f"candidates/{told.pick}"
    folder = run.folder / "candidates" / told.pick
    code, note = _plain_libraries(folder, path)
    return Usage(
        path=path,
        next_commands="\n".join(told.next_commands),
        command=f"tunewise predict {shlex.quote(path)} new.csv -o out.csv",
        python=_python(run, path),
        plain_code=code,
        plain_note=note,
        files=_files(folder),
    )


def _python(run: Run, path: str) -> str:
    names = run.spec.inputs
    asked = '"your text"' if len(names) == 1 else json.dumps(dict.fromkeys(names, "..."), ensure_ascii=False)
    return (
        "import tunewise as tw\n\n"
        f"adapted = tw.load({json.dumps(path, ensure_ascii=False)})\n"
        f"prediction = adapted.predict([{asked}])[0]\n"
        "print(prediction.output, prediction.probability)"
    )


def _plain_libraries(folder: Path, path: str) -> tuple[str, str]:
    quoted = json.dumps(path, ensure_ascii=False)
    adapter = read_json(folder / "adapter_config.json")
    if adapter is not None:
        what = ADAPTERS.get(adapter.text("peft_type"), "an adapter")
        base = json.dumps(adapter.text("base_model_name_or_path") or "BASE_MODEL", ensure_ascii=False)
        code = (
            "from peft import PeftModel\n"
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f"base = AutoModelForCausalLM.from_pretrained({base})\n"
            f"tokenizer = AutoTokenizer.from_pretrained({base})\n"
            f"model = PeftModel.from_pretrained(base, {quoted})"
        )
        note = f"The folder is {what} in the format of peft; the base model is loaded first."
        return code, note
    if (folder / "config.json").exists():
        code = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f"model = AutoModelForCausalLM.from_pretrained({quoted})\n"
            f"tokenizer = AutoTokenizer.from_pretrained({quoted})"
        )
        return code, "The folder is a whole model in the format of transformers."
    return "", "This candidate has no weights of its own: peft and transformers have nothing to load."


def _files(folder: Path) -> tuple[tuple[str, str], ...]:
    if not folder.is_dir():
        return ()
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return tuple((path.relative_to(folder).as_posix(), _bytes(path.stat().st_size)) for path in found)


def _bytes(size: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{plain(round(size / factor, 1))} {unit}"
    return f"{size} bytes"
