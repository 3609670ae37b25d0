"""What this machine computes fast: device, dtype, and the measured rates behind every forecast.

A rate is measured once per machine and kept in the cache folder; forecasts and budgets use the kept figure, so
that two runs on one machine count the same work for the same minutes.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tunewise.errors import SettingError
from tunewise.whole import write_text

PROBE_SIZE = {"cpu": 1024, "cuda": 8192}
"""Side of the square matrices that are multiplied, by device."""
FAST_BFLOAT16 = 1.5
"""bfloat16 is chosen when it multiplies at least this much faster than float32."""


def best_device() -> torch.device:
    """CUDA when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def best_dtype() -> torch.dtype:
    """bfloat16 where the hardware multiplies it fast, else float32; `TUNEWISE_DTYPE` overrides the probe."""
    wish = os.environ.get("TUNEWISE_DTYPE")
    if wish is not None:
        known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
        if wish not in known:
            raise SettingError(f"TUNEWISE_DTYPE is {wish!r}; expected one of {', '.join(known)}.")
        return known[wish]
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    rates = matrix_rates()
    fast = rates["bfloat16"] >= FAST_BFLOAT16 * rates["float32"]
    return torch.bfloat16 if fast else torch.float32


@cache
def matrix_rates() -> Mapping[str, float]:
    """Matrix-product rates in FLOP/s by dtype name, measured once per machine and kept in the cache."""
    return kept_rates(machine_key(), _measure_matrix_rates)


def kept_rates(key: str, measure: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
    """The rates kept under `key`, measured now if there are none."""
    kept: Mapping[str, float] | None = _read_rates(_rates_path()).get(key)
    return kept if kept is not None else renew_rates(key, measure)


def renew_rates(key: str, measure: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
    """The rates as measured now, kept under `key` from here on."""
    path = _rates_path()
    rates = dict(measure())
    kept = {**_read_rates(path), key: rates}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(kept, indent=1))
    return rates


def machine_key() -> str:
    """Names the machine as far as speed goes: processor, cores allowed, threads, GPU, torch version."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{processor_name()} | {cores} cores | {torch.get_num_threads()} threads | {gpu} | {torch.__version__}"


def processor_name() -> str:
    """The processor's own name, as far as the system tells."""
    return _processor().get("model name") or platform.processor() or platform.machine()


def processor_features() -> str:
    """The instructions that it has, as far as the system tells; virtual machines name unlike processors alike."""
    return _processor().get("flags") or _processor().get("Features") or ""


@cache
def _processor() -> Mapping[str, str]:
    """What Linux says of the first processor."""
    info = Path("/proc/cpuinfo")
    first = info.read_text().partition("\n\n")[0] if info.is_file() else ""
    fields = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}


def _rates_path() -> Path:
    from tunewise.catalog import cache_folder

    return cache_folder() / "rates.json"


def _read_rates(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _measure_matrix_rates() -> Mapping[str, float]:
    device = best_device()
    size = PROBE_SIZE[device.type]
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        rates[str(dtype).removeprefix("torch.")] = product_rate(a, b, seconds=0.4)
    return rates


def product_rate(a: Tensor, b: Tensor, seconds: float) -> float:
    """Operations a second of the product of two matrices, at its fastest within so many seconds.

    The fastest of many: the machine may be busy, and only slows a product down.
    """
    best = 0.0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or not best:
        start = time.perf_counter()
        torch.mm(a, b)
        synchronize(a.device)
        best = max(best, 2 * a.shape[0] * a.shape[1] * b.shape[1] / (time.perf_counter() - start))
    return best


def synchronize(device: torch.device) -> None:
    """Wait until what was asked of the device is done: a GPU computes behind the processor's back."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
