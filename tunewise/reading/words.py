"""How each label is spelt to the model: as given in a mapping or a file, else as it stands.

>>> spell(["card_arrival", "top_up"], None, "a.csv").words
('card arrival', 'top up')
>>> spell(["0", "1"], {"0": "other", "1": "disaster"}, "a.csv").words
('other', 'disaster')
"""

from __future__ import annotations

import json
import os
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewise.errors import DataError
from tunewise.reading.cells import texts
from tunewise.reading.delimited import delimiter_of, parse
from tunewise.reading.encoding import decode
from tunewise.task import Choices

SUFFIXES = (".json", ".csv", ".tsv", ".toml")
_MOST_NAMED = 10


def read_words(labels: Any) -> dict[str, str] | None:
    """A mapping from data values to words, from a mapping or from a file.

    A file is a JSON object, a CSV or TSV file with two columns (value, word), or TOML, either with the pairs at
    the top or in a table `[labels]`. None for None.

    Raises:
        DataError: the file cannot be read as such a mapping.
    """
    if labels is None:
        return None
    if isinstance(labels, Mapping):
        return _pairs(labels.items(), "labels")
    if isinstance(labels, str | os.PathLike):
        return _from_file(Path(labels).expanduser())
    raise DataError(
        f"labels: found {type(labels).__name__}; expected a mapping of data values to words, or a file with one."
    )


def spell(labels: Sequence[str], words: Mapping[str, str] | None, name: str) -> Choices:
    """The labels of the data with their words, in the order of `words`, else sorted.

    Without `words` the words are the labels, with `_` read as a space where they stay different. Values that
    `words` names but the data do not hold are left out.

    Args:
        labels: the different values of the target.
        words: value → word, or None.
        name: how messages call the data.

    Raises:
        DataError: a label has no word, or two labels have the same.
    """
    if words is None:
        ordered = sorted(labels, key=_by_number)
        spaced = [" ".join(label.replace("_", " ").split()) for label in ordered]
        usable = len(set(spaced)) == len(ordered) and all(spaced)
        return Choices(tuple(ordered), tuple(spaced if usable else ordered))
    missing = sorted(set(labels) - set(words), key=_by_number)
    if missing:
        raise DataError(
            f"{name}: no word is given for the label{'s' if len(missing) > 1 else ''} {listed(missing)}; "
            f"--labels names {listed(list(words))}. Map every label of the data to a word."
        )
    ordered = [label for label in words if label in set(labels)]
    shared = {word for word, times in Counter(words[label] for label in ordered).items() if times > 1}
    if shared:
        same = [f'{label} → "{words[label]}"' for label in ordered if words[label] in shared]
        raise DataError(f"{name}: found one word for several labels: {', '.join(same)}. Give each its own word.")
    return Choices(tuple(ordered), tuple(words[label] for label in ordered))


def listed(names: Sequence[str]) -> str:
    """The first names, quoted, and how many more there are."""
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(f'"{name}"' for name in names[:_MOST_NAMED]) + more


def _from_file(path: Path) -> dict[str, str]:
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(f"{path}: found the suffix {path.suffix!r}; expected one of {', '.join(SUFFIXES)}.")
    try:
        text = decode(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"{path}: the file with labels cannot be read ({error.strerror}).") from None
    if path.suffix.lower() in (".csv", ".tsv"):
        return _from_delimited(text, path)
    try:
        found = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: cannot be read ({error}); expected pairs of a data value and a word.") from None
    if isinstance(found, dict) and isinstance(found.get("labels"), dict):
        found = found["labels"]
    if not isinstance(found, dict):
        raise DataError(f'{path}: expected an object with data values and words: {{"0": "description", ...}}.')
    return _pairs(found.items(), str(path))


def _from_delimited(text: str, path: Path) -> dict[str, str]:
    records = parse(text, delimiter_of(text, path.suffix.lower()), str(path))
    for record in records:
        if len(record.fields) != 2:
            raise DataError(
                f"{path}, line {record.line}: found {len(record.fields)} fields; expected two: a data value and "
                "the word for it."
            )
    return _pairs([(record.fields[0], record.fields[1]) for record in records], str(path))


def _pairs(items: Any, name: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for value, word in items:
        if isinstance(word, Mapping | list | tuple):
            raise DataError(f"{name}: found {word!r} for the label {value!r}; expected one word or phrase.")
        label, spelt = texts([value])[0], texts([word])[0]
        if label is None or spelt is None:
            raise DataError(
                f"{name}: found an empty {'label' if label is None else f'word for the label {value!r}'}."
            )
        if found.setdefault(label.strip(), spelt.strip()) != spelt.strip():
            raise DataError(f"{name}: found two words for the label {label!r}. Keep one.")
    return found


def _by_number(label: str) -> tuple[bool, float, str]:
    """Numbers by value, then the rest by letter."""
    try:
        return (False, float(label), label)
    except ValueError:
        return (True, 0.0, label)
