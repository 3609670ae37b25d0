"""What `import tunewise` offers, and what it must not drag in."""

import importlib
import subprocess
import sys
import types
from collections.abc import Iterator

import pytest

import tunewise
from tunewise import errors, task

SEALED = [
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
API = ["compare", "evaluate", "fit", "load", "plan", "recommend", "report", "resume"]


@pytest.fixture
def fake_api(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A stand-in for `tunewise.api`, with nothing of the surface loaded yet."""
    module = types.ModuleType("tunewise.api")
    for name in API:
        setattr(module, name, lambda *given, _name=name: _name)
    monkeypatch.setitem(sys.modules, "tunewise.api", module)
    for name in API:
        monkeypatch.delitem(vars(tunewise), name, raising=False)
    yield module
    for name in API:
        vars(tunewise).pop(name, None)


def test_the_public_names_are_these_and_no_others() -> None:
    assert sorted(tunewise.__all__) == SEALED
    assert dir(tunewise) == SEALED


def test_names_of_the_task_come_from_their_module() -> None:
    assert tunewise.Task is task.Task
    assert tunewise.Choices is task.Choices
    assert tunewise.TunewiseError is errors.TunewiseError


def test_functions_come_from_the_api(fake_api: types.ModuleType) -> None:
    for name in API:
        assert getattr(tunewise, name)() == name


@pytest.mark.parametrize("room", ["report", "recommend"])
def test_a_room_does_not_hide_the_function_of_its_name(fake_api: types.ModuleType, room: str) -> None:
    before = getattr(tunewise, room)
    importlib.import_module(f"tunewise.{room}")
    assert getattr(tunewise, room) is before
    vars(tunewise).pop(room)
    importlib.reload(sys.modules[f"tunewise.{room}"])
    assert getattr(tunewise, room)() == room


def test_every_public_name_exists() -> None:
    for name in SEALED:
        assert getattr(tunewise, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'compear'"):
        _ = tunewise.compear


@pytest.mark.parametrize("module", ["tunewise", "tunewise.cli", "tunewise.cli.app"])
def test_import_is_light(module: str) -> None:
    heavy = ("torch", "transformers", "peft", "datasets", "pandas", "sklearn", "scipy", "numpy", "pyarrow")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
