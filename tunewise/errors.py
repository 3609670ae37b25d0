"""Every error Tunewise raises on purpose, in one tree.

    TunewiseError
    ├── RequestError            the request was wrong: exit code 2, nothing was written
    │   ├── DataError           the data cannot be read as a task
    │   ├── SettingError        an unknown or impossible setting, method, model, metric
    │   ├── BudgetError         the budget cannot hold even one candidate
    │   ├── FetchError          something must be fetched and cannot be, or arrived damaged
    │   └── CandidateError      a saved candidate or run folder is missing, foreign or damaged
    └── WorkError               the request was fine, the work failed: exit code 1
        └── TrialError          one trial failed; the study records it and goes on

A message says where, what was found, what was expected, and what to do about it. An `Ending` is no error
itself: it carries one past those who would record it as a trial's.

>>> str(unknown("method", "lorra", ["lora", "full"]))
'unknown method "lorra". Did you mean "lora"? Known: full, lora.'
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class TunewiseError(Exception):
    """Root of every error raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class RequestError(TunewiseError):
    """The request was wrong; nothing was written."""

    exit_code = 2


class DataError(RequestError):
    """The data cannot be read as a task."""


class SettingError(RequestError):
    """A setting, method, model or metric is unknown or impossible."""


class BudgetError(RequestError):
    """The budget cannot hold even one candidate and its test."""


class FetchError(RequestError):
    """Something must be fetched and cannot be, or did not arrive as promised."""


class CandidateError(RequestError):
    """A saved candidate or run folder is missing, foreign or damaged."""


class WorkError(TunewiseError):
    """The request was fine, but the work failed."""


class TrialError(WorkError):
    """One trial failed; the study records the reason and goes on."""


class Ending(BaseException):
    """Carries an error that ends all of the work past whoever records the errors of a piece of it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def ending_all() -> Iterator[None]:
    """Have errors in the block travel as an `Ending`."""
    try:
        yield
    except Exception as error:  # of whoever watches, or of the disk: whatever runs meanwhile is not to blame
        raise Ending(error) from error


@contextmanager
def as_raised() -> Iterator[None]:
    """Let the error that an `Ending` carries out of the block as it was raised."""
    try:
        yield
    except Ending as ending:
        raise ending.error from ending.error.__cause__


def reason_of(error: Exception) -> str:
    """What is kept on record of an error that ended a piece of work, so that the others go on."""
    return str(error) if isinstance(error, TunewiseError) else f"{type(error).__name__}: {error}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to `name`, ignoring case, or None when nothing is close."""
    by_fold = {candidate.casefold(): candidate for candidate in known}
    hits = difflib.get_close_matches(name.casefold(), list(by_fold), n=1, cutoff=0.6)
    return by_fold[hits[0]] if hits else None


def unknown(what: str, name: str, known: Iterable[str]) -> SettingError:
    """A `SettingError` that names the nearest known `what` and lists the rest."""
    names = sorted(known)
    guess = nearest(name, names)
    hint = f' Did you mean "{guess}"?' if guess else ""
    return SettingError(f'unknown {what} "{name}".{hint} Known: {", ".join(names)}.')
