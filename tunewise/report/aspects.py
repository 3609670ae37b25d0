"""The usual comparison of the families, aspect by aspect, in figures that this run measured.

Articles compare prompting, prompt tuning and fine-tuning by method, efficiency, data requirement, control over
the output, adaptability, complexity and versatility, in adjectives. Here each family is represented by its best
finalist. What the run did not measure is left out: nothing is told of versatility, which is what else the
model can still do.

>>> table(run).rows[1].cells  # doctest: +SKIP
('0.01 s; 0.002 ms', '7.2 s; 12.1 ms', '74.2 s; 41.2 ms')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from markupsafe import Markup

from tunewise.figures import counted
from tunewise.recommend.wishes import INSTRUCTED
from tunewise.report import charts
from tunewise.report.records import Finalist, Run
from tunewise.report.svg import FAMILIES
from tunewise.report.words import NOTHING, count, figure, percent, score

NEARLY = 0.95
"""Share of its score with all rows that a candidate must reach to have had rows enough."""


@dataclass(frozen=True)
class Aspect:
    """One aspect: how it was measured, and a cell for each family."""

    name: str
    measured: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Aspects:
    """The whole table."""

    where: str
    """The finalists were scored."""
    families: tuple[tuple[str, Markup], ...]
    rows: tuple[Aspect, ...]


def table(run: Run) -> Aspects | None:
    """The aspects of every family with a finalist; None where there is none."""
    best = _best(run)
    if not best:
        return None
    where = "in the folds" if run.recommendation is not None and run.recommendation.folds else "on test"
    told: tuple[tuple[str, str, Callable[[Run, Finalist], str]], ...] = (
        ("Method", f"best of the family {where}", _method),
        ("Efficiency", "seconds of making it, milliseconds of a request when it was scored", _efficiency),
        ("Data requirement", "training rows it was given; with learning curves, rows that were enough", _data),
        ("Control over output", "answers, when it was scored, that the task allows", _control),
        ("Adaptability", "what another instruction takes", _adaptability),
        ("Complexity", "values learned, size of what is saved, trials that the family took here", _complexity),
    )
    return Aspects(
        where=where,
        families=tuple((family, charts.family_mark(family)) for family in best),
        rows=tuple(Aspect(name, how, tuple(tell(run, row) for row in best.values())) for name, how, tell in told),
    )


def _best(run: Run) -> Mapping[str, Finalist]:
    """The finalist with the highest test score of each family, in the order of the families."""
    scored = [row for row in run.finalists or () if row.score is not None and row.family in FAMILIES]
    return {
        family: max(own, key=lambda row: row.score or 0.0)
        for family in FAMILIES
        if (own := [row for row in scored if row.family == family])
    }


def _method(run: Run, row: Finalist) -> str:
    return f"{row.candidate}: {score(row.score)}"


def _efficiency(run: Run, row: Finalist) -> str:
    return f"{figure(row.fit_seconds)} s; {figure(row.ms_per_example)} ms"


def _data(run: Run, row: Finalist) -> str:
    cost = run.recommendation.costs.get(row.candidate) if run.recommendation else None
    given = f"{count(cost.labels)} rows" if cost and cost.labels is not None else NOTHING
    enough = _enough(run, row.candidate)
    return given if enough is None else f"{given}; {100 * NEARLY:.0f} % of its score with {count(enough)}"


def _enough(run: Run, candidate: str) -> int | None:
    """The fewest rows from which on the means stay near that of all rows; None without a whole curve."""
    learning = run.recommendation.learning if run.recommendation else None
    curve = next((one for one in learning.curves if one.name == candidate), None) if learning else None
    if curve is None or curve.twice is None or not all(min(found) > 0 for found in curve.scores.values()):
        return None
    means = curve.means
    wanted = NEARLY * means[max(means)]
    return min(size for size in means if all(mean >= wanted for other, mean in means.items() if other >= size))


def _control(run: Run, row: Finalist) -> str:
    return f"{percent(row.valid_rate)} valid"


def _adaptability(run: Run, row: Finalist) -> str:
    if row.family == INSTRUCTED:
        return "free with each request"
    if row.family == "baseline":
        return "takes none"
    return f"made again: {figure(row.fit_seconds)} s"


def _complexity(run: Run, row: Finalist) -> str:
    methods = {one.method for one in run.finalists or () if one.family == row.family}
    trials = sum(trial.method in methods for trial in run.trials or ())
    learned = counted(row.trainable_parameters or 0, "value")
    return f"{learned}; {figure(row.artifact_mb)} MB; {counted(trials, 'trial')}"
