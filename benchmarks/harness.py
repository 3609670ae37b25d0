"""Side by side: Tunewise and its peers in turn, every repetition in a fresh process, compared by medians.

A script names its sides and the functions that run them; this module starts one process a repetition, in an
order that changes from round to round, and turns what comes back into medians, ranges, ratios and a JSON file.

>>> sides = [Side("tunewise", "ours"), Side("peer", "theirs", {"batch_size": 8}, repeats=3, note="slow")]
>>> runs = Bench(__file__, "lora-shared", quick=False).run(sides, 5, job, "examples_per_second")
>>> spread(figures(runs["tunewise"], "examples_per_second")).median
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

REPEATS = 5
DEFAULT_MODEL = "smollm2-135m"
RESULTS = Path(__file__).with_name("results")
PACKAGES = ("torch", "transformers", "peft", "accelerate", "trl", "lm_eval", "llama_cpp_python", "datasets")
BUSY = 0.7
"""Load average above which a line says that the machine is not idle."""
FASTER, SMALLER = "tunewise_times_faster", "tunewise_peak_share"
"""Names of the first side's ratios to the others: in speed, and in peak memory."""

Run = dict[str, Any]
"""What one repetition of one side gave: figures by name."""
Summary = dict[str, dict[str, Any]]
"""What was derived from the runs of each side, by the side's name."""
Worker = Callable[[Mapping[str, Any]], Run]


class BenchError(Exception):
    """A benchmark that cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Side:
    """One of the things that are compared."""

    name: str
    worker: str
    """Name of the function of the script that runs it."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    repeats: int | None = None
    """Repetitions, where they are fewer than those of the others."""
    note: str = ""
    """What a reader must know, such as why it is repeated less often."""


Cell = Callable[[Side, Mapping[str, Any]], str]
"""Text of one column of a table, from a side and what was derived from its runs."""


@dataclass(frozen=True)
class Prepared:
    """What a script's `prepare` made for every side."""

    job: Mapping[str, Any]
    """Names the file, for every side to read."""
    folder: Path
    """Where the file stands and sides may keep what they make; gone at the end of the `with` block."""
    facts: Run
    """What `prepare` says of the workload."""


@dataclass(frozen=True)
class Spread:
    """The middle of some figures and how far they lie apart."""

    median: float
    low: float
    high: float
    count: int

    def text(self, digits: int = 2) -> str:
        """`median (low–high)`."""
        if self.count == 1:
            return f"{self.median:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f}–{self.high:,.{digits}f})"


def spread(values: Sequence[float]) -> Spread:
    """Median, smallest and largest of `values`."""
    return Spread(statistics.median(values), min(values), max(values), len(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """How many times `theirs` goes into `ours`, over the rounds that both ran.

    The middle is the ratio of the medians; the range is that of the ratios round by round.
    """
    rounds = min(len(ours), len(theirs))
    each = [our / their for our, their in zip(ours[:rounds], theirs[:rounds], strict=True)]
    middle = statistics.median(ours[:rounds]) / statistics.median(theirs[:rounds])
    return Spread(middle, min(each), max(each), rounds)


def schedule(repeats: Sequence[int]) -> list[tuple[int, int]]:
    """(round, side) in the order of running: every round starts with another side.

    So no side is always the first after a pause or the one behind the heaviest, and a machine that slows down
    slows all of them. A side with fewer repeats leaves out the last rounds.
    """
    order = []
    for round_number in range(max(repeats)):
        for place in range(len(repeats)):
            side = (round_number + place) % len(repeats)
            if round_number < repeats[side]:
                order.append((round_number, side))
    return order


def compared(
    sides: Sequence[Side], runs: Mapping[str, Sequence[Run]], wanted: Mapping[str, str | None]
) -> Summary:
    """Spreads of the figures `wanted`, which names beside each the first side's ratio to it, or None."""
    ours = runs[sides[0].name]
    summary: Summary = {side.name: {} for side in sides}
    for side_name, found in summary.items():
        for name, ratio in wanted.items():
            values = figures(runs[side_name], name)
            found[name] = spread(values)
            if ratio:
                found[ratio] = ratios(figures(ours, name), values)
    return summary


def shown(figure: str, digits: int = 2) -> Cell:
    """A cell that shows the spread of a figure."""
    return lambda side, found: str(found[figure].text(digits))


def faster(ours: Side) -> Cell:
    """A cell that says how many times as fast `ours` is; empty in its own row."""
    return lambda side, found: "" if side.name == ours.name else f"{found[FASTER].text(1)} × as fast"


def print_table(sides: Sequence[Side], summary: Summary, cells: Mapping[str, Cell], title: str = "side") -> None:
    """One row a side, its name first; `cells` by the heads of their columns."""
    rows = [[side.name, *(cell(side, summary[side.name]) for cell in cells.values())] for side in sides]
    print(columns([[title, *cells], *rows]))


def columns(rows: Sequence[Sequence[str]]) -> str:
    """A table as text, the first row its head."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    rule = ["-" * width for width in widths]
    padded = [
        [cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in (rows[0], rule, *rows[1:])
    ]
    return "\n".join("  ".join(row).rstrip() for row in padded)


@dataclass
class Bench:
    """One benchmark: its processes, what they gave, and the file that says so."""

    script: str
    name: str
    quick: bool
    checks: list[str] = field(default_factory=list)
    """What was verified between the sides, in words."""

    @classmethod
    def of(cls, script: str, name: str, flags: argparse.Namespace) -> Bench:
        """The benchmark `name`; with another model or on a GPU its results stand in a file of their own."""
        model = "" if flags.model == DEFAULT_MODEL else f"-{Path(flags.model).name}"
        return cls(script, f"{name}{model}{'-gpu' if _sees_a_gpu() else ''}", flags.quick)

    def __post_init__(self) -> None:
        load = os.getloadavg()[0]
        self.load_at_start = load
        print(f"\n== {self.name}{' (quick: proves that it works, measures nothing)' if self.quick else ''}")
        if load > BUSY and not self.quick:
            print(f"   the machine is not idle: load average {load:.1f}; figures will be too low")

    def call(self, worker: str, job: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Run:
        """Run one function of the script in a process of its own; its figures, and `process_seconds`.

        Args:
            worker: name of the function.
            job: what it is given.
            environment: variables set for it, such as `TUNEWISE_DTYPE`.

        Raises:
            BenchError: the process failed; the message ends with what it printed last.
        """
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            given, taken = Path(folder, "job.json"), Path(folder, "run.json")
            given.write_text(json.dumps(job))
            command = [sys.executable, self.script, "--worker", worker, str(given), str(taken)]
            begun = time.perf_counter()
            ended = subprocess.run(
                command, env={**_environment(), **(environment or {})}, capture_output=True, text=True, check=False
            )
            seconds = time.perf_counter() - begun
            if ended.returncode or not taken.exists():
                tail = "\n".join((ended.stderr or ended.stdout).splitlines()[-15:])
                raise BenchError(f"{worker} of {self.name} failed with exit code {ended.returncode}:\n{tail}")
            run: Run = json.loads(taken.read_text())
        return {**run, "process_seconds": seconds}

    @contextlib.contextmanager
    def prepared(self, job: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Iterator[Prepared]:
        """What the script's `prepare` makes of `job`, for as long as the `with` block lasts; raises as `call`."""
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            place = {"prepared": str(Path(folder, "prepared.json"))}
            yield Prepared(place, Path(folder), self.call("prepare", {**job, **place}, environment))

    def run(self, sides: Sequence[Side], repeats: int, job: Mapping[str, Any], show: str) -> dict[str, list[Run]]:
        """Every side in turn, `repeats` times; what each gave, by the side's name.

        Args:
            sides: what is compared.
            repeats: rounds; a side may have fewer.
            job: given to every side, with the side's `settings`, and `seed`, the number of the round.
            show: name of the figure to print as it comes.
        """
        runs: dict[str, list[Run]] = {side.name: [] for side in sides}
        counts = [min(repeats, side.repeats or repeats) for side in sides]
        for round_number, place in schedule(counts):
            side = sides[place]
            run = self.call(side.worker, {**job, "settings": dict(side.settings), "seed": round_number})
            runs[side.name].append(run)
            print(f"   round {round_number + 1}: {side.name}: {show} {run[show]:,.3f}", flush=True)
        return runs

    def fastest(self, options: Sequence[Side], job: Mapping[str, Any], figure: str) -> Side:
        """The option with the highest `figure` in one run each: how a peer gets its best settings."""
        found: list[tuple[float, Side]] = []
        for option in options:
            try:
                run = self.call(option.worker, {**job, "settings": dict(option.settings), "seed": 0})
            except BenchError as error:
                print(f"   {option.name}: {dict(option.settings)} does not run: {str(error).splitlines()[-1]}")
                continue
            print(f"   {option.name}: {dict(option.settings)}: {figure} {run[figure]:,.3f}", flush=True)
            found.append((float(run[figure]), option))
        if not found:
            raise BenchError(f"no setting of {options[0].name} runs; see the lines above.")
        return max(found, key=lambda pair: pair[0])[1]

    def kept_settings(self, flags: argparse.Namespace) -> dict[str, dict[str, Any]]:
        """Settings of every side in the last results, by its name; none without results or `--keep-settings`."""
        path = RESULTS / f"{self.name}.json"
        if not flags.keep_settings or not path.exists():
            return {}
        kept = json.loads(path.read_text())["sides"]
        return {name: side["settings"] for name, side in kept.items()}

    def check(self, holds: bool, text: str) -> None:
        """Note that something was verified; a failed check is printed loudly and kept."""
        line = text if holds else f"FAILED: {text}"
        print(f"   {line}")
        self.checks.append(line)

    def write(self, sides: Sequence[Side], runs: Mapping[str, list[Run]], **more: Any) -> Path:
        """Write `results/NAME.json`: machine, versions, every run, and what was derived from them."""
        record = {
            "name": self.name,
            "quick": self.quick,
            "measured_at": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "machine": {**self.call("machine_facts", {}), "load_at_start": self.load_at_start},
            "versions": versions(),
            "checks": self.checks,
            "sides": {
                side.name: {"settings": dict(side.settings), "note": side.note, "runs": runs[side.name]}
                for side in sides
                if side.name in runs
            },
            **more,
        }
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}{'-quick' if self.quick else ''}.json"
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False, default=_plain) + "\n")
        print(f"   written: benchmarks/results/{path.name}")
        return path


def figures(runs: Sequence[Run], name: str) -> list[float]:
    """The figure `name` of every run that has it."""
    return [float(run[name]) for run in runs if run.get(name) is not None]


def versions() -> dict[str, str]:
    """Versions of Tunewise and of the peers that are installed."""
    found = {}
    for package in ("tunewise", *PACKAGES):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def machine_facts(job: Mapping[str, Any]) -> Run:
    """What the machine is and how fast it multiplies matrices, as Tunewise measured it once."""
    import psutil
    import torch

    from tunewise.engine import hardware

    return {
        "processor": hardware.processor_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "dtype": str(hardware.best_dtype()).removeprefix("torch."),
        "matrix_gflops": {name: round(rate / 1e9, 1) for name, rate in hardware.matrix_rates().items()},
    }


def arguments(docstring: str | None, workloads: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The flags that all scripts share, and `--workload` where there are several, the first by default."""
    parser = argparse.ArgumentParser(description=(docstring or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=REPEATS, help=f"rounds (default: {REPEATS})")
    parser.add_argument("--quick", action="store_true", help="one round on a few rows, to see that it works")
    parser.add_argument(
        "--keep-settings", action="store_true", help="peers at the settings of the last results, none tried"
    )
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="catalog name or folder of the base model, or random-1b"
    )
    parser.add_argument("--data", help="folder with the files that are in no package; see docs/benchmarks.md")
    if workloads:
        parser.add_argument("--workload", nargs="+", choices=sorted(workloads), default=[workloads[0]])
    return parser


def rounds(flags: argparse.Namespace) -> int:
    """How often the sides take their turn."""
    return 1 if flags.quick else int(flags.repeats)


def run_script(main: Callable[[], None], *workers: Worker) -> None:
    """Run the worker that the command line names, or else `main`, which ends with the message of a BenchError."""
    if serve({worker.__name__: worker for worker in workers}):
        return
    try:
        main()
    except BenchError as error:
        sys.exit(f"error: {error}")


def serve(workers: Mapping[str, Worker]) -> bool:
    """Run the worker that the command line names, if it names one: the other end of `Bench.call`."""
    if sys.argv[1:2] != ["--worker"]:
        return False
    name, given, taken = sys.argv[2:5]
    run = {**workers, "machine_facts": machine_facts}[name](json.loads(Path(given).read_text()))
    Path(taken).write_text(json.dumps(run, default=_plain))
    return True


_peak_before_reset = 0.0


def reset_peak() -> None:
    """Start measuring the peak of resident memory anew, where the system can."""
    from tunewise.engine import peaks

    global _peak_before_reset
    _peak_before_reset = max(_peak_before_reset, peaks.resident_mb())
    peaks.reset()


def memory_figures() -> Run:
    """`peak_mb` since the last reset, `process_peak_mb` of the whole process, and those of a GPU."""
    from tunewise.engine import peaks

    peak, on_gpu = peaks.resident_mb(), peaks.gpu_mb()
    found: Run = {"peak_mb": peak, "process_peak_mb": max(_peak_before_reset, peak)}
    return found if on_gpu is None else {**found, "gpu_peak_mb": on_gpu}


def _sees_a_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _environment() -> dict[str, str]:
    """Nothing is fetched, nothing is drawn, tokenizers use no threads of their own."""
    quiet = {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "DISABLE_TQDM": "1",
    }
    return {**os.environ, **quiet}


def _plain(value: Any) -> Any:
    if isinstance(value, Spread | Side):
        return asdict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
