"""Flags made from the settings: `tunewise.settings.Settings` is the only list of them.

>>> @takes_settings("budget", "seed")
... def compare(data: str, flags: dict[str, Any]) -> None:
...     print(data, flags)
>>> compare(data="a.csv", budget=None, seed="3")
a.csv {'seed': '3'}
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_origin

import typer
from pydantic.fields import FieldInfo

from tunewise.settings import Settings, flag, metavar


def takes_settings(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator that gives a command a flag for each of the settings `names`; for all, when none is named.

    The command's parameter `flags` receives those that were given. Values stay text, so that a flag and the
    same key of `tunewise.toml` are checked by the same code.
    """
    chosen = names or tuple(Settings.model_fields)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        def run(**values: Any) -> None:
            flags = {name: values.pop(name) for name in chosen}
            command(**values, flags={name: value for name, value in flags.items() if value not in (None, [])})

        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "flags"]
        arguments = [parameter for parameter in own if parameter.default is parameter.empty]
        options = [_parameter(name, Settings.model_fields[name]) for name in chosen]
        parameters = [*arguments, *options, *(one for one in own if one not in arguments)]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    help = f"{field.description}{_default(field)}"
    annotation: Any
    if field.annotation is bool:
        annotation = Annotated[bool | None, typer.Option(f"{flag(name)}/{flag('no-' + name)}", help=help)]
    else:
        # Only a field that must be a tuple is repeated; `methods` is one text with commas.
        held = list[str] if get_origin(field.annotation) is tuple else str
        annotation = Annotated[held | None, typer.Option(flag(name), metavar=metavar(name), help=help)]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, kind, default=None, annotation=annotation)


def _default(field: FieldInfo) -> str:
    if field.default is None or field.default is False or field.default == ():
        return ""
    shown = ", ".join(field.default) if isinstance(field.default, tuple) else f"{field.default}"
    return f" [default: {shown.removesuffix('.0')}]"
