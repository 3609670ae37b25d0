"""How a command ends when something is in the way: one clear message and the right exit code, no traceback.

`TUNEWISE_DEBUG=1` adds the traceback.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import typer

from tunewise.errors import TunewiseError

INTERRUPTED = 130
READER_GONE = 141


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, with every error that is raised on purpose turned into a message and an exit code."""

    @functools.wraps(command)
    def run(*given: Any, **named: Any) -> None:
        try:
            command(*given, **named)
            sys.stdout.flush()
        except TunewiseError as error:
            tell(str(error))
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            _drop_output()
            raise typer.Exit(READER_GONE) from None
        except KeyboardInterrupt:
            print("interrupted; nothing was finished", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None

    return run


@contextmanager
def resumable(folder: Path, command: str = "resume") -> Iterator[None]:
    """On an interruption, say how the run in `folder` is taken up again by `command`."""
    try:
        yield
    except KeyboardInterrupt:
        if not (folder / "trials.jsonl").exists():
            raise
        print(f"interrupted; finished trials are kept. Go on with: tunewise {command} {folder}", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def tell(message: str) -> None:
    """Write an error message to standard error."""
    if os.environ.get("TUNEWISE_DEBUG") == "1" and sys.exc_info()[0] is not None:
        traceback.print_exc()
    print(f"error: {message}", file=sys.stderr)


def tell_unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The `sys.excepthook` of the command line: an error that nobody foresaw, without its traceback."""
    if os.environ.get("TUNEWISE_DEBUG") == "1":
        traceback.print_exception(kind, error, trace)
        return
    frames = traceback.extract_tb(trace)
    at = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    print(
        f"error: unexpected {kind.__name__}{at}: {error}\n"
        "This should not happen. TUNEWISE_DEBUG=1 shows the traceback; please report it with that.",
        file=sys.stderr,
    )


def _drop_output() -> None:
    """Let what is still to be flushed at exit go nowhere, since its reader is gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
