"""What studies on this machine found, kept in the cache folder for the advice of later ones; nothing leaves it.

One line a study: kind and size of the task, the base model, and the best test score of each family. No rows,
labels or names of the user's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewise.study.advice import Past
from tunewise.task import Choices, Task


def remember(run: Mapping[str, Any], task: Task, leaderboard: Sequence[Mapping[str, Any]]) -> None:
    """Keep what a finished study found, once; where the folder cannot be written nothing is kept."""
    scores: dict[str, float] = {}
    for row in leaderboard:
        if row["status"] == "finished" and row["score"] not in ("", None):
            scores[row["family"]] = max(scores.get(row["family"], 0.0), float(row["score"]))
    answer = task.spec.answer
    past = Past(
        classification=isinstance(answer, Choices),
        rows=len(task.train),
        labels=len(answer.labels) if isinstance(answer, Choices) else 0,
        model=(run.get("model") or {}).get("name", ""),
        metric=task.spec.metric,
        scores=scores,
    )
    # Known again when it is resumed or moved, without its name.
    key = hashlib.sha256(json.dumps([run.get("created"), run.get("name")]).encode()).hexdigest()[:16]
    with contextlib.suppress(OSError):
        path = _path()
        if any(line.get("study") == key for line in _lines(path)):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"study": key, **past.to_json()}) + "\n")


def past_studies() -> list[Past]:
    """What is kept; lines that cannot be read are passed over."""
    found = []
    for line in _lines(_path()):
        with contextlib.suppress(KeyError, TypeError):
            found.append(Past.from_json(line))
    return found


def _path() -> Path:
    from tunewise.fetching import cache_folder

    return cache_folder() / "studies.jsonl"


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        texts = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for text in texts:
        with contextlib.suppress(json.JSONDecodeError):
            line = json.loads(text)
            found += [line] if isinstance(line, dict) else []
    return found
