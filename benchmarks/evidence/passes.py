"""How tuned trials stand on their way: what one is worth that is cut short, and where one ends that is made again.

Of every tuned method its first setting, on the validation rows of each cell: the best score up to each pass minus
that of the best prompt, the mean over cells, and on how many the prompt is better. The best of more checks is
higher by chance too, and so is the best prompt of several.

A finalist is made again in the other folds and from all rows. Two draws of a task, or two folds of it, are such
trainings of the same setting: at the last check of the first, the second scores more or less on its own validation
rows than at the check that those of the first preferred. The mean over all pairs of each task, and over tasks with
its interval.

    python benchmarks/evidence/passes.py
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence

from cells import Cell
from choosers import aligned, drawn_again
from outcomes import Case, Line, cases, in_folds, is_tuned, preferred_check
from replay import over_tasks, points

from tunewise import metrics
from tunewise.study.forecast import BATCH_SIZE, steps_of

Ahead = Mapping[tuple[str, int, int], float]
"""By method, pass and number of passes: the score minus that of the best prompt."""


def ahead(case: Case) -> Ahead:
    """Of one cell."""
    prompts = [line["value"] for line in case.lines if line["asks_a_model"] and not is_tuned(line)]
    found: dict[tuple[str, int, int], float] = {}
    for line in case.listed():
        name, parameters = line["method"], line["parameters"]
        if not is_tuned(line) or any(method == name for method, _, _ in found):
            continue
        steps = steps_of(case.facts["rows"]["train"], parameters.get("batch_size", BATCH_SIZE))
        for passes in range(1, parameters["epochs"] + 1):
            checked = [check["value"] for check in line["checks"] if check["step"] <= passes * steps]
            if checked:
                found[name, passes, parameters["epochs"]] = max(checked) - max(prompts)
    return found


def table(found: list[Ahead]) -> str:
    """One line a pass."""
    lines = [f"{len(found)} cells; points ahead of the best prompt, behind it on"]
    for key in sorted({key for one in found for key in one}):
        values = [one[key] for one in found if key in one]
        behind = sum(value < 0 for value in values)
        name, passes, whole = key
        mean = 100 * statistics.fmean(values)
        lines.append(f"  {name:18}{passes:3} of {whole:2} passes {mean:6.1f}   {behind:2} of {len(values)}")
    return "\n".join(lines)


def alike(found: Sequence[Case], folds: Sequence[Sequence[Case]]) -> Iterator[Sequence[Case]]:
    """Cells that were trained at the same settings: the draws of a task, and its folds."""
    yield from (aligned(some) for some in (*drawn_again(found), *folds) if len(some) > 1)


def made_again(trained: Sequence[Case]) -> Iterator[tuple[str, float]]:
    """Of each ordered pair: the method, and the second's score where the first ended minus where that was best."""
    for first, second in itertools.permutations(trained, 2):
        for one, other in zip(first.lines, second.lines, strict=True):
            if is_tuned(one):
                last = min(len(one["checks"]), len(other["checks"])) - 1
                preferred = min(preferred_check(one), last)
                yield one["method"], score_at(second, other, last) - score_at(second, other, preferred)


def score_at(case: Case, line: Line, place: int) -> float:
    """On the validation rows of the case, at one of the checks."""
    answers, targets = line["checks"][place]["outputs"], case.facts["targets"]["validation"]
    return float(metrics.get(case.spec.metric).score(case.texts(answers), case.texts(targets)))


def again_table(groups: Sequence[Sequence[Case]]) -> str:
    """One line a method and number of rows."""
    gained: dict[tuple[int, str], list[tuple[Cell, float]]] = {}
    for group in groups:
        for method, value in made_again(group):
            gained.setdefault((group[0].cell.rows, method), []).append((group[0].cell, value))
    lines = ["made again from other rows: points at the last check above the one that the first preferred"]
    for (rows, method), values in sorted(gained.items()):
        lines.append(f"  {rows:4} rows  {method:18}{points(over_tasks(values))}   {len(values)} pairs")
    return "\n".join(lines)


if __name__ == "__main__":
    found = list(cases())
    print(table([ahead(case) for case in found]))
    print(again_table(list(alike(found, list(in_folds())))))
