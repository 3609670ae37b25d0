"""Should I prompt the model, prompt-tune it, fine-tune it, or combine them? An answer with evidence.

>>> import tunewise as tw
>>> task = tw.Task.read("tickets.csv", input="text", target="intent")  # doctest: +SKIP
>>> study = tw.compare(task, budget="10m", out="runs/tickets")  # doctest: +SKIP
>>> study.recommendation.load().predict(["my card was charged twice"])  # doctest: +SKIP

Everything public is named in `__all__` and loaded when it is first used, so that `import tunewise` takes
milliseconds and imports neither torch nor transformers.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunewise.api import compare, curve, evaluate, fit, load, plan, recommend, report, resume
    from tunewise.errors import TunewiseError
    from tunewise.task import Choices, Dataset, Example, Task, TaskSpec, Text

__version__ = "0.1.0"

__all__ = [
    "Choices",
    "Dataset",
    "Example",
    "Task",
    "TaskSpec",
    "Text",
    "TunewiseError",
    "__version__",
    "compare",
    "curve",
    "evaluate",
    "fit",
    "load",
    "plan",
    "recommend",
    "report",
    "resume",
]

_TASK = ("Choices", "Dataset", "Example", "Task", "TaskSpec", "Text")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'tunewise' has no attribute {name!r}")
    home = "errors" if name == "TunewiseError" else "task" if name in _TASK else "api"
    value = getattr(importlib.import_module(f"tunewise.{home}"), name)
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Surface(ModuleType):
    """Keeps `tunewise.report` and `tunewise.recommend` functions.

    Importing a submodule sets it as an attribute of its package. Two rooms bear the name of a public
    function; without this, `tunewise.report(folder)` would stop working once the room was imported.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Surface
