"""Fixtures shared by all tests: tiny models in float32, and a cache folder of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny import make_model

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny tensors gain nothing from threads, and lose much when tests run side by side."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is printed is as wide as into a file, whatever terminal the tests are started from."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model in float32."""
    return make_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_plain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model without a chat template."""
    return make_model(tmp_path_factory.mktemp("plain"), chat=False)


@pytest.fixture(scope="session", autouse=True)
def _no_studies_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests compare is no advice for the user's own studies."""
    folder = tmp_path_factory.mktemp("history")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tunewise.study.history._path", lambda: folder / "studies.jsonl")
        yield


@pytest.fixture
def float32(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Compute in float32, keep measured rates out of the user's cache, forget models loaded otherwise."""
    from tunewise import adapted

    monkeypatch.setenv("TUNEWISE_DTYPE", "float32")
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path / "cache"))
    adapted.loaded.cache_clear()
    adapted.forget_scores()
    yield
    adapted.loaded.cache_clear()
    adapted.forget_scores()
