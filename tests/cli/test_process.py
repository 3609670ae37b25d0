"""The command as a process of its own: what a shell sees of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
"""Finds the package from any working directory, installed or not."""

WITH_API = """
import sys, time, types
api = types.ModuleType("tunewise.api")
{code}
sys.modules["tunewise.api"] = api
from tunewise.cli import main
main()
"""


def with_api(folder: Path, code: str) -> list[str]:
    """A `tunewise` command whose API is what `code` makes of it."""
    script = folder / "with_api.py"
    script.write_text(WITH_API.format(code=code))
    return [sys.executable, str(script)]


def finished(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_is_plain_text(tmp_path: Path) -> None:
    found = finished([sys.executable, "-m", "tunewise", "--help"], tmp_path)
    assert found.returncode == 0
    assert found.stdout.startswith("Usage: tunewise ")
    assert "\x1b" not in found.stdout


def test_the_help_of_compare_is_quick(tmp_path: Path) -> None:
    heavy = ("torch", "transformers", "numpy", "sklearn")
    code = (
        "import sys\nfrom tunewise.cli.app import app\n"
        "try:\n    app(['compare', '--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    found = finished([sys.executable, "-c", code], tmp_path)
    assert "prompt-then-lora" in found.stdout
    assert found.stdout.splitlines()[-1] == "[]"


def test_a_wrong_request_writes_nothing(tmp_path: Path) -> None:
    found = finished([sys.executable, "-m", "tunewise", "compare", "a.csv", "--budget", "soon"], tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.startswith("error: --budget: ")
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_foresaw_is_told_without_a_traceback(tmp_path: Path) -> None:
    found = finished([*with_api(tmp_path, "api.runs = lambda folder: 1 / 0"), "runs"], tmp_path)
    assert found.returncode == 1
    assert "Traceback" not in found.stderr
    assert found.stderr.startswith("error: unexpected ZeroDivisionError at with_api.py:4: division")
    assert "TUNEWISE_DEBUG=1" in found.stderr


def test_what_nobody_foresaw_has_a_traceback_when_it_is_asked_for(tmp_path: Path) -> None:
    command = with_api(tmp_path, "api.runs = lambda folder: 1 / 0")
    found = finished([*command, "runs"], tmp_path, TUNEWISE_DEBUG="1")
    assert found.returncode == 1
    assert "Traceback" in found.stderr


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    entry = "types.SimpleNamespace(name='n' * 50, description='d', licence='l', size_mb=1, pulled=True)"
    command = [*with_api(tmp_path, f"api.data = lambda: [{entry}] * 5000"), "data"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (141, "")


def test_control_c_says_how_to_go_on(tmp_path: Path) -> None:
    # A shell starts background work with the interrupt ignored, and children inherit that.
    code = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
def compare(data, *, out, on_event, **more):
    out.mkdir(parents=True)
    (out / "trials.jsonl").touch()
    time.sleep(30)
api.compare = compare
"""
    command = [*with_api(tmp_path, code), "demo"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        wait_for(tmp_path / "runs" / "demo" / "trials.jsonl")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert told == "interrupted; finished trials are kept. Go on with: tunewise resume runs/demo\n"


@pytest.mark.parametrize("module", ["tunewise", "tunewise.cli", "tunewise.cli.app"])
def test_help_needs_nothing_heavy(tmp_path: Path, module: str) -> None:
    heavy = ("torch", "transformers", "peft", "datasets", "pandas", "sklearn", "scipy", "numpy", "pyarrow")
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    assert finished([sys.executable, "-c", code], tmp_path).stdout.strip() == "[]"


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
