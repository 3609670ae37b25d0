"""The command line's fixtures."""

import sys
from pathlib import Path

import pytest

import tunewise
from tests.cli.fake_api import FakeApi


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeApi:
    """A stand-in for `tunewise.api`, in an empty working directory."""
    fake = FakeApi()
    monkeypatch.setitem(sys.modules, "tunewise.api", fake)
    monkeypatch.setattr(tunewise, "api", fake, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TUNEWISE_DEBUG", raising=False)
    return fake
