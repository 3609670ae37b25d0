"""The most memory that was held since it was last asked to forget: of the process, and of a GPU.

>>> peaks.reset()
>>> peaks.resident_mb(), peaks.gpu_mb()
(1113.2, None)
"""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path
from typing import Any


def reset() -> None:
    """Start measuring anew, where the system can: the largest trial must not lend its peak to others."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    torch = _torch_on_gpu()
    if torch is not None:
        torch.cuda.reset_peak_memory_stats()


def resident_mb() -> float:
    """Largest resident memory of this process, in MB: since `reset` where the system can tell."""
    status = Path("/proc/self/status")
    if status.is_file():
        found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if found:
            return int(found[0]) / 1e3
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)


def gpu_mb() -> float | None:
    """Most memory that tensors held on the GPU since `reset`, in MB; None without a GPU."""
    torch = _torch_on_gpu()
    return None if torch is None else float(torch.cuda.max_memory_allocated()) / 1e6


def _torch_on_gpu() -> Any:
    """Torch, where it is imported already and sees a GPU: nothing is held by what is not imported."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and torch.cuda.is_available() else None
