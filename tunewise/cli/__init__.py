"""The command line: parsing and printing only. Each command calls one function of `tunewise.api`.

    tunewise compare tickets.csv --input text --target intent --budget 10m
    tunewise predict runs/tickets new.csv -o out.csv

Results go to standard output, progress and errors to standard error. Exit codes: 0 done, 1 the work failed,
2 the request was wrong, 130 interrupted, 141 the reader of the output went away.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper


def main() -> None:
    """Entry point of the `tunewise` command; always leaves through SystemExit."""
    from typer.main import get_command

    from tunewise.cli.app import app
    from tunewise.cli.exits import tell_unexpected

    if isinstance(sys.stdout, TextIOWrapper):
        # What another program reads is UTF-8 whatever the locale; a terminal gets what it can show.
        sys.stdout.reconfigure(encoding=None if sys.stdout.isatty() else "utf-8", errors="replace")
    sys.excepthook = tell_unexpected
    get_command(app)(prog_name="tunewise")
