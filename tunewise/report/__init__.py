"""From a run folder to one HTML page that opens offline.

The page is derived from the folder's files alone: no model is loaded, nothing is fetched, and building it
again gives the same page. It holds no script and names no other resource; its content security policy
forbids both, so that text from the data stays text.

>>> build(Path("runs/tickets"))  # doctest: +SKIP
PosixPath('runs/tickets/report.html')
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from tunewise.errors import CandidateError
from tunewise.report.reader import read_run
from tunewise.report.records import Run
from tunewise.whole import write_bytes

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

__all__ = ["build", "page"]

NAME = "report.html"


def build(folder: Path) -> Path:
    """Write `report.html` into the run folder, whole or not at all, and give its path.

    Args:
        folder: a run folder, finished or not; see docs/run-folder.md. Sections whose file is missing say so.

    Raises:
        CandidateError: the folder is not a run folder, a file in it is damaged, or the page cannot be written.
    """
    folder = Path(folder)
    # Lone surrogates can come from JSON escapes in the data; they have no UTF-8 form.
    content = page(read_run(folder)).encode("utf-8", "replace")
    target = folder / NAME
    try:
        write_bytes(target, content)
    except OSError as error:
        raise CandidateError(
            f"{target}: cannot be written ({error.strerror}). Check the folder's permissions and the disk's space."
        ) from None
    return target


def page(run: Run) -> str:
    """The whole page as text."""
    from tunewise.report.sections import sections

    template, style, digest = _layout()
    return template.render(style=style, style_digest=digest, **sections(run))


@functools.cache
def _layout() -> tuple[Template, Markup, str]:
    """The template, the style sheet, and its digest for the content security policy."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    room = resources.files(__package__)
    style = room.joinpath("style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(room.joinpath("page.html.jinja").read_text(encoding="utf-8"))
    # The style sheet is part of the package, not of the run: the only text that is let through unescaped.
    return template, Markup(style), digest
