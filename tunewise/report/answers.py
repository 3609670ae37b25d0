"""What the pick answered on the test rows: confusions, samples, and the ten mistakes to read first.

A score says how often; these say what kind. Everything here is counted from the stored predictions.

>>> confusion(run).labels  # doctest: +SKIP
('description', 'entity', 'human')
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunewise import metrics
from tunewise.errors import SettingError
from tunewise.figures import counted
from tunewise.report import charts
from tunewise.report.records import Answered, Run
from tunewise.report.words import count, percent, score
from tunewise.task import Choices

MOST_LABELS = 30
MOST_PAIRS = 15
MOST_MISTAKES = 10
MOST_SAMPLES = 8
MOST_CHARACTERS = 700
BINS = 10
DEPTHS = 8
OTHER = "no valid label"


@dataclass(frozen=True)
class Cell:
    """One cell of the confusion matrix."""

    count: str
    share: str
    look: str
    """Class of the style sheet: the depth of its tint, and whether it is right."""
    text: str


@dataclass(frozen=True)
class ConfusionRow:
    """What the pick answered for the rows of one true label."""

    label: str
    cells: tuple[Cell, ...]
    total: str
    recall: str


@dataclass(frozen=True)
class Confusion:
    """Rows are true labels, columns answers."""

    labels: tuple[str, ...]
    rows: tuple[ConfusionRow, ...]
    summary: str


@dataclass(frozen=True)
class Pair:
    """A true label answered with another one."""

    target: str
    prediction: str
    count: str
    of: str
    bar: Markup


@dataclass(frozen=True)
class Shown:
    """A test row with its answer, to be read."""

    inputs: tuple[tuple[str, str], ...]
    place: str
    target: str
    prediction: str
    probability: str
    score: str
    valid: bool


@dataclass(frozen=True)
class Bin:
    """How many rows scored between two values."""

    name: str
    count: str
    bar: Markup


def is_choice(run: Run) -> bool:
    """Whether the task has a closed list of labels."""
    return isinstance(run.spec.answer, Choices)


def word(run: Run, label: str) -> str:
    """A label as the model reads it; anything else as it stands."""
    answer = run.spec.answer
    if isinstance(answer, Choices) and label in answer.labels and len(answer.words) == len(answer.labels):
        return answer.word(label)
    return label


def confusion(run: Run) -> Confusion | None:
    """The confusion matrix of the pick, or None when there are too many labels or no predictions."""
    answer = run.spec.answer
    if not run.answers or not isinstance(answer, Choices) or len(answer.labels) > MOST_LABELS:
        return None
    known = set(answer.labels)
    counts = Counter((one.target, _output(one, known)) for one in run.answers)
    columns = [*answer.labels, *([OTHER] if any(output == OTHER for _, output in counts) else [])]
    targets = [*answer.labels, *sorted({target for target, _ in counts} - known)]
    right = sum(number for (target, output), number in counts.items() if target == output)
    return Confusion(
        labels=tuple(word(run, label) for label in columns),
        rows=tuple(_confusion_row(run, target, columns, counts) for target in targets),
        summary=f"{count(right)} of {counted(len(run.answers), 'row')} on the diagonal.",
    )


def _output(one: Answered, known: set[str]) -> str:
    return one.prediction if one.prediction in known else OTHER


def _confusion_row(run: Run, target: str, columns: list[str], counts: Counter[tuple[str, str]]) -> ConfusionRow:
    total = sum(counts[target, column] for column in columns)
    cells = []
    for column in columns:
        number = counts[target, column]
        share = number / total if total else 0.0
        depth = 0 if not number else min(DEPTHS, 1 + int(share * DEPTHS))
        look = f"{'right' if column == target else 'wrong'} depth-{depth}"
        text = f"{word(run, target)} answered {word(run, column)}: {counted(number, 'row')}"
        cells.append(Cell(count(number) if number else "", percent(share) if number else "", look, text))
    recall = counts[target, target] / total if total else None
    return ConfusionRow(word(run, target), tuple(cells), count(total), percent(recall))


def confused_pairs(run: Run) -> tuple[Pair, ...]:
    """The pairs of a true label and a wrong answer that occur most often."""
    answers = run.answers or ()
    totals = Counter(one.target for one in answers)
    wrong = Counter((one.target, one.prediction) for one in answers if one.target != one.prediction)
    ranked = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:MOST_PAIRS]
    pairs = []
    for number, ((target, prediction), found) in enumerate(ranked, 1):
        share = found / totals[target]
        of = f"{percent(share)} of {counted(totals[target], 'row')}"
        bar = charts.share_bar(share, f"pair-{number}", f"{word(run, target)} answered {word(run, prediction)}")
        pairs.append(Pair(word(run, target), word(run, prediction), count(found), of, bar))
    return tuple(pairs)


def row_scores(run: Run) -> list[float]:
    """The score of each test row: by the task's metric where it is one per row, by chrF of the row otherwise."""
    answers = run.answers or ()
    if not answers:
        return []
    outputs, targets = [one.prediction for one in answers], [one.target for one in answers]
    found = _metric(run).rows(outputs, targets)
    if found is not None:
        return [float(value) for value in found]
    chrf = metrics.get("chrf")
    return [chrf.score([output], [target]) for output, target in zip(outputs, targets, strict=True)]


def row_metric(run: Run) -> str:
    """Name of the metric that `row_scores` gives."""
    return run.metric if run.answers and _metric(run).rows(["a"], ["a"]) is not None else "chrf"


def _metric(run: Run) -> metrics.Metric:
    """The task's metric; chrF where a newer version's metric is not known here."""
    try:
        return metrics.get(run.metric)
    except SettingError:
        return metrics.get("chrf")


def distribution(scores: Sequence[float]) -> tuple[Bin, ...]:
    """Rows by score, in tenths; a score of 1 counts in the last."""
    tally = Counter(min(max(int(value * BINS + 1e-9), 0), BINS - 1) for value in scores)
    bins = []
    for index in range(BINS):
        name = f"{index / BINS:.1f} to {(index + 1) / BINS:.1f}"
        share = tally[index] / max(max(tally.values(), default=1), 1)
        bins.append(
            Bin(name, count(tally[index]), charts.share_bar(share, f"bin-{index}", f"Rows scoring {name}"))
        )
    return tuple(bins)


def samples(run: Run, scores: Sequence[float]) -> tuple[Shown, ...]:
    """Answers to read, spread evenly from the best scored row to the worst."""
    answers = run.answers or ()
    ranked = sorted(range(len(answers)), key=lambda index: -scores[index])
    wanted = min(MOST_SAMPLES, len(ranked))
    spread = [ranked[round(at * (len(ranked) - 1) / max(wanted - 1, 1))] for at in range(wanted)]
    return _shown(run, [(answers[index], scores[index]) for index in spread])


def mistakes(run: Run, scores: Sequence[float] = ()) -> tuple[Shown, ...]:
    """The most confident wrong answers first; without probabilities, the lowest scored rows first."""
    answers = run.answers or ()
    values: Sequence[float | None] = scores if len(scores) == len(answers) else [None] * len(answers)
    wrong = [(one, value) for one, value in zip(answers, values, strict=True) if _is_wrong(one, value)]
    wrong.sort(key=lambda pair: (-(pair[0].probability or 0.0), pair[1] or 0.0))
    return _shown(run, wrong[:MOST_MISTAKES])


def _is_wrong(one: Answered, value: float | None) -> bool:
    """By the row's score where there is one: an exact match may forgive case and white space."""
    return one.target != one.prediction if value is None else value < 1 - 1e-9


def _shown(run: Run, chosen: Sequence[tuple[Answered, float | None]]) -> tuple[Shown, ...]:
    inputs = run.inputs({(one.source, one.row) for one, _ in chosen})
    return tuple(
        Shown(
            inputs=_fields(inputs.get((one.source, one.row), {})),
            place=f"{one.source} row {count(one.row)}",
            target=_cut(word(run, one.target)),
            prediction=_cut(word(run, one.prediction)),
            probability="" if one.probability is None else percent(one.probability),
            score="" if value is None else score(value),
            valid=one.valid,
        )
        for one, value in chosen
    )


def _fields(inputs: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, _cut(text)) for name, text in inputs.items())


def _cut(text: str) -> str:
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:MOST_CHARACTERS]} … ({count(len(text))} characters in all)"
