"""The table of methods for the documentation, made from the classes themselves.

python -m tunewise.methods.table > docs/methods.md
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
from typing import Any

from tunewise.methods.registry import registered

HEAD = """\
# Methods

Made from the code by `python -m tunewise.methods.table > docs/methods.md`; a test keeps the two equal.

| method | family | what it is | needs | starts from |
|---|---|---|---|---|
"""


def markdown() -> str:
    """All methods: one line each, then their hyper-parameters with defaults."""
    methods = list(registered().values())
    lines = [
        f"| `{m.name}` | {m.family} | {_first_sentence(m)} | "
        f"{', '.join(sorted(m.needs)) or 'no language model'} | "
        f"{f'the best `{m.starts_from}`' if m.starts_from else 'the base model' if m.needs else 'the rows'} |"
        for m in methods
    ]
    parts = [HEAD + "\n".join(lines) + "\n"]
    for method in methods:
        rows = [f"| `{name}` | `{default}` | {text} |" for name, default, text in _parameters(method)]
        if rows:
            table = "\n".join(["| hyper-parameter | default | meaning |", "|---|---|---|", *rows])
            parts.append(f"## {method.name}\n\n{_module_text(method)}\n\n{table}\n")
        else:
            parts.append(f"## {method.name}\n\n{_module_text(method)}\n")
    return "\n".join(parts)


def _first_sentence(method: Any) -> str:
    return str(inspect.getdoc(method)).partition("\n")[0].rstrip(".")


def _module_text(method: Any) -> str:
    module = inspect.getmodule(method)
    return " ".join(str(inspect.getdoc(module)).split())


def _parameters(method: Any) -> list[tuple[str, Any, str]]:
    """Name, default and documentation of each field; the documentation is the string below the field."""
    texts: dict[str, str] = {}
    owners = [owner for owner in method.__mro__ if "__dataclass_fields__" in vars(owner)]
    for owner in reversed(owners):
        body = ast.parse(inspect.getsource(owner)).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                text = below.value if isinstance(below, ast.Expr) else None
                if isinstance(text, ast.Constant):
                    texts[field.target.id] = " ".join(str(text.value).split())
    return [(field.name, field.default, texts.get(field.name, "")) for field in dataclasses.fields(method)]


if __name__ == "__main__":
    print(markdown(), end="")
