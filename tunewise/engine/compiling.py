"""A C file of this package, compiled for this machine when it is first wanted, and from then on kept in the cache.

What is kept there is run: it is loaded only where nobody else can have written it. Otherwise the file is compiled
for this process alone, which takes two seconds.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from tunewise.engine.hardware import processor_features, processor_name

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-march=native", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")
"""Nothing that would let the compiler suppose that all numbers are finite."""
TIMEOUT = 120
"""Seconds that a compiler may take."""
OTHERS_WRITE = 0o022
"""Bits of a mode that let others write."""


def load(source: Path, defines: Iterable[str] = ()) -> Any:
    """The functions of a C file; None on other systems than Linux, and where no compiler makes what can be loaded.

    Args:
        source: calls nothing but the C library and OpenMP.
        defines: macros, as `NAME=VALUE`.
    """
    if not sys.platform.startswith("linux"):
        return None
    flags = [*FLAGS, *(f"-D{define}" for define in defines)]
    for compiler in filter(None, map(shutil.which, COMPILERS)):
        try:
            return _loaded(compiler, flags, source)
        except (OSError, subprocess.SubprocessError):  # flags that it does not know, or another OpenMP
            continue
    return None


def _loaded(compiler: str, flags: Sequence[str], source: Path) -> Any:
    said = subprocess.run([compiler, "--version"], capture_output=True, timeout=TIMEOUT, check=True).stdout
    threads = _torchs_threads()
    what = [compiler, *flags, *map(str, threads), processor_name(), processor_features()]
    name = hashlib.sha256(b"\n".join([source.read_bytes(), said, *map(os.fsencode, what)])).hexdigest()[:16]
    folder = _own_folder()
    with tempfile.TemporaryDirectory(dir=folder) as building:
        kept = Path(folder or building, f"{name}.so")
        if not kept.exists() or _others_write(kept):
            parts, whole = Path(building, "parts.o"), Path(building, "whole.so")
            for command in (
                [compiler, *flags, "-c", str(source), "-o", str(parts)],
                # Not with a second OpenMP: it would fight torch's for the cores.
                [compiler, "-shared", str(parts), *map(str, threads), "-lm", "-o", str(whole)],
            ):
                subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=True)
            whole.chmod(0o700)
            whole.replace(kept)
        return ctypes.CDLL(str(kept))


def _own_folder() -> Path | None:
    """A folder in the cache that only this user can write to; None where there is none."""
    from tunewise.catalog import cache_folder

    folder = cache_folder() / "kernels"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return None if _others_write(folder) or not os.access(folder, os.W_OK) else folder
    except OSError:
        return None


def _others_write(path: Path) -> bool:
    found = path.stat()
    return found.st_uid != os.getuid() or bool(found.st_mode & OTHERS_WRITE)


def _torchs_threads() -> list[Path]:
    """The OpenMP that torch has loaded; it is found again by its name when what was linked with it is loaded."""
    folder = Path(torch.__file__).parent
    return sorted([*folder.glob("lib/libgomp*"), *folder.parent.glob("torch.libs/libgomp*")])[:1]
