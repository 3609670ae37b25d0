"""Whatever goes wrong midway, the old content stands and nothing lies beside it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunewise import whole


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def write_half(path: Path, error: type[BaseException]) -> None:
    with whole.writing(path) as file:
        file.write("half of the n")
        raise error


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_text_and_bytes_arrive_as_they_are(tmp_path: Path) -> None:
    whole.write_text(tmp_path / "text", "é\r\nb\n")
    whole.write_bytes(tmp_path / "bytes", b"\x00\xff")
    with whole.writing(tmp_path / "stream") as file:
        file.write("é\r\n")
    assert (tmp_path / "text").read_bytes() == "é\r\nb\n".encode()
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"
    assert (tmp_path / "stream").read_bytes() == "é\r\n".encode()
    assert len(list(tmp_path.iterdir())) == 3


def test_nothing_is_seen_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with whole.writing(path) as file:
        file.write("new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_midway_leaves_the_old_content(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error):
        write_half(path, error)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_that_cannot_be_encoded_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        whole.write_text(tmp_path / "file", "\ud800")
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_disk_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        whole.write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("umask")
@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_permissions_are_those_of_the_umask_or_of_the_old_file(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.touch(mode=0o600)
    for path in (new, old):
        whole.write_text(path, "text")
    assert (mode(new), mode(old)) == (0o640, 0o600)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "far" / "file")
    whole.write_text(link, "text")
    assert link.is_symlink()
    assert [path.name for path in (tmp_path / "far").iterdir()] == ["file"]


@pytest.mark.parametrize("leftover", [False, True])
def test_a_folder_takes_the_place_of_another(leftover: bool, tmp_path: Path) -> None:
    target = tmp_path / "target"
    if leftover:  # of a process that was killed
        (tmp_path / ".old-target").mkdir()
        (tmp_path / ".old-target" / "old").touch()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
        whole.put_folder(tmp_path / name, target)
        assert [path.name for path in target.iterdir()] == [name]
    assert list(tmp_path.iterdir()) == [target]
