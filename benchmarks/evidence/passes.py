"""How tuned trials stand on their way, against the best prompt: what a trial is worth that is cut short.

Of every tuned method its first setting, on the validation rows of each cell: the best score up to each pass minus
that of the best prompt, the mean over cells, and on how many the prompt is better. The best of more checks is
higher by chance too, and so is the best prompt of several. Last, how far into its steps a tuned trial of any
setting is at its best on validation, where the study uses it.

    python benchmarks/evidence/passes.py
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from outcomes import Case, cases, is_tuned

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


def best_at(case: Case) -> list[float]:
    """The step that each tuned trial of one cell is used at, over all its steps."""
    return [line["step"] / line["checks"][-1]["step"] for line in case.listed() if is_tuned(line)]


if __name__ == "__main__":
    found = list(cases())
    print(table([ahead(case) for case in found]))
    shares = [share for case in found for share in best_at(case)]
    print(f"{len(shares)} tuned trials are used at {statistics.fmean(shares):.2f} of their steps in the mean")
