"""The command line's own two additions to what Typer does: how a wrong request is told, and what `--help` lists.

A wrong request is one line on standard error, like every other error, and exit code 2:

    error: no such option: --bugdet. Did you mean --budget? See: tunewise compare --help
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from tunewise.cli.exits import tell
from tunewise.errors import nearest

# Typer brings its parser along or takes the installed one, by version; this is the root of that one's errors.
UsageFault: type[Exception] = typer.BadParameter.__mro__[2]


class Commands(TyperGroup):
    """A group of commands that tells a wrong request in one line."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; leaves through SystemExit unless `standalone_mode` is off."""
        try:
            code = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
        except UsageFault as fault:
            if not standalone_mode:
                raise
            named = next((name for name in args or sys.argv[1:] if name in self.commands), None)
            tell(_in_words(fault, f"tunewise {named}" if named else "tunewise"))
            sys.exit(2)
        if not standalone_mode:
            return code
        sys.exit(code if isinstance(code, int) else 0)


class Comparing(TyperCommand):
    """A command whose help ends with the names of all methods and metrics."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the names, as lists of terms."""
        from tunewise.cli.names import method_names, metric_names

        rows = [(family, ", ".join(names)) for family, names in method_names().items()]
        with formatter.section("Methods"):
            formatter.write_dl(rows)
        rows = [(kind, ", ".join(names)) for kind, names in metric_names().items()]
        with formatter.section("Metrics"):
            formatter.write_dl(rows)


def _in_words(fault: Any, command: str) -> str:
    """What was wrong with the request to `command`, and where it is written what would be right."""
    text = " ".join(fault.format_message().split())
    extra = re.fullmatch(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", text)
    if hasattr(fault, "possibilities"):
        guess = nearest(fault.option_name, fault.possibilities or ())
        text = f"no such option: {fault.option_name}." + (f" Did you mean {guess}?" if guess else "")
    elif extra:
        text = f"one argument too many: {extra[1]}. A text or a name with spaces needs quotes around it."
    text = re.sub(r"'(--?[\w-]+|[A-Z_]+)'", r"\1", text).replace("'", '"')
    text = text[:1].lower() + text[1:]
    end = "" if text.endswith((".", "?")) else "."
    context = getattr(fault, "ctx", None)
    return f"{text}{end} See: {context.command_path if context else command} --help"
