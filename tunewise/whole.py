"""Files and folders that are written whole or not at all: a reader sees the old content or the new.

The new content is written beside its place under a hidden name, and renamed when it is complete. A process killed
midway leaves at most that hidden leftover; an error leaves nothing.

>>> write_text(Path("run.json"), "{}")  # doctest: +SKIP
>>> with writing(Path("rows.jsonl")) as file:  # doctest: +SKIP
...     file.write("{}")
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` in UTF-8, line ends as they are."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`."""
    with replacing(path) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[TextIO]:
    """A UTF-8 text file, line ends as they are written, that takes the place of `path` when the block ends."""
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        yield file


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write a file to, which takes its place when the block ends without an error.

    A link is followed. A new file has the permissions that the umask gives, an old one keeps its own.
    """
    target = path.resolve()
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        yield partial
        # On the disk before it has the name: else a power cut could leave the name with nothing behind it.
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        if target.exists():
            shutil.copymode(target, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def put_folder(filled: Path, target: Path) -> None:
    """Give the folder `filled` the place of `target`; killed midway, `target` is missing and never a mixture."""
    # A folder cannot be renamed onto a filled one; the older goes aside first and is deleted afterwards.
    aside = target.with_name(f".old-{target.name}")
    shutil.rmtree(aside, ignore_errors=True)
    if target.exists():
        target.replace(aside)
    filled.replace(target)
    shutil.rmtree(aside, ignore_errors=True)
