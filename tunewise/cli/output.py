"""Results on standard output: tables that fit 80 columns, and plain sentences.

On a terminal sentences are wrapped at its width; elsewhere each stays on one line, for grep.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tunewise import figures
from tunewise.cost import Works, always
from tunewise.figures import counted, in_points

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

WIDTH_ELSEWHERE = 100
"""Width of tables that are written to a file or a pipe."""
WIDTH_FOR_FAMILIES = 96
"""From this width on, the leaderboard has a column for the family."""

MOST_SHOWN = 12
"""Labels, or other parts of one finding, that are listed."""

STANDING = {
    "superior": "shown to be better than every other finalist",
    "non-inferior": "shown to lose less than {margin} to every other finalist",
    "too_few_rows": "there are too few rows to tell",
}


STAGES = {
    "rung": "rung only: a short trial, to choose the learning rate. The best at the rung goes on to a full run, "
    "the others end there. Which it will be cannot be known before; the plan shows the first.",
    "full run": "full run: trained to its end. Of a tuned method only such trials meet the test.",
    "another seed": "another seed: the two leading tuned methods again, whichever they will be, so that claims "
    "count the luck of training.",
    "next rate": "next rate: what is left over buys the next learning rate of the method that leads, whichever it "
    "will be.",
}
"""What a stage is, where its name does not say it."""


class Entry(Protocol):
    """A model or data set of the catalog."""

    name: str
    description: str
    licence: str
    size_mb: float
    pulled: bool
    """Whether it is in the cache."""


def console() -> Console:
    """A console for standard output, as it is now."""
    from rich.console import Console

    free_width = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(
        width=None if free_width else WIDTH_ELSEWHERE,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


def show(renderable: RenderableType, *, style: str | None = None, wrap: bool = True) -> None:
    """Print what rich renders, through `print`: a reader that goes away is then seen as BrokenPipeError."""
    out = console()
    with out.capture() as captured:
        out.print(renderable, style=style, soft_wrap=not wrap)
    for line in captured.get().splitlines():
        print(line.rstrip())


def say(text: str = "", *, style: str | None = None) -> None:
    """One sentence or line."""
    show(figures.clean(text), style=style, wrap=sys.stdout.isatty())


def say_each(title: str, sentences: Iterable[str]) -> None:
    """A title and a bullet for each sentence; nothing when there are none."""
    for number, sentence in enumerate(sentences):
        if number == 0:
            say()
            say(title, style="bold")
        say(f"- {sentence}")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, bold: int | None = None) -> None:
    """Columns as wide as they must be; a heading that starts with `>` aligns its column to the right."""
    from rich.table import Table

    grid = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        right = heading.startswith(">")
        grid.add_column(
            heading.removeprefix(">"), justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    for number, row in enumerate(rows):
        grid.add_row(*(figures.clean(cell) for cell in row), style="bold" if number == bold else None)
    show(grid)


def print_study(study: Any) -> None:
    """Leaderboard, recommendation, what was guessed, and what to do next."""
    recommendation = study.recommendation
    say()
    print_leaderboard(study.leaderboard, recommendation.pick)
    _print_verdict(recommendation)
    _print_learning(recommendation)
    say_each("How the data were read", reading_notes(study.task))
    say()
    say(f"Report: {study.folder / 'report.html'}")
    say()
    say("Next", style="bold")
    for command in recommendation.next_commands:
        print(f"  {command}")


def print_recommendation(recommendation: Any, *, costs: bool = True) -> None:
    """The verdict, what more labels are worth, and what each finalist costs to make and to run."""
    _print_verdict(recommendation)
    _print_learning(recommendation)
    if costs:
        _print_costs(recommendation)


def _print_learning(recommendation: Any) -> None:
    """The learning curves, where they were measured."""
    told = recommendation.learning
    if not told:
        return
    labels = told["labels"]
    sizes = sorted({int(size) for one in told["candidates"].values() for size in one["scores"]})
    most = 6 if console().width >= WIDTH_FOR_FAMILIES else 3
    if len(sizes) > most:  # the smallest, the largest, and some between
        sizes = [sizes[round(place * (len(sizes) - 1) / (most - 1))] for place in range(most)]
    say()
    say(
        f"What more labels are worth: mean {recommendation.metric} by training rows, {2 * labels:,} extrapolated, "
        f"and rows that {recommendation.pick} saves",
        style="bold",
    )
    headings = ["candidate", *(f">{size:,}" for size in sizes), f">{2 * labels:,}", ">rows saved"]
    table(headings, [_learning_row(name, one, sizes) for name, one in told["candidates"].items()])
    if told["unmeasured"]:
        say(f"Not measured, or not to the end: {', '.join(told['unmeasured'])}.")


def _learning_row(name: str, told: Mapping[str, Any], sizes: Sequence[int]) -> list[str]:
    drawn = [told["scores"].get(str(size)) for size in sizes]
    means = [figures.score(sum(found) / len(found)) if found else figures.NOTHING for found in drawn]
    twice = told["twice"]
    expected = (
        f"{figures.score(twice['value'])} ({figures.interval(twice['low'], twice['high'])})" if twice else ""
    )
    fewer = figures.NOTHING
    if told["advantage_ci"]:
        low, high = told["advantage_ci"]
        fewer = f"{told['advantage']:,.0f} ({low:,.0f} to {high:,.0f})"
    return [name, *means, expected, fewer]


def _print_costs(recommendation: Any) -> None:
    demand = recommendation.demand
    say()
    say(
        f"What they cost, and after how many requests with {demand['updates']:g} set-up"
        f"{'' if demand['updates'] == 1 else 's'} each has cost as much as the pick",
        style="bold",
    )
    headings = ["candidate", ">set-up s", ">work", ">s/1,000", ">work/1,000", ">tokens/1,000", ">even at"]
    if any("money" in costs["setup"] for costs in recommendation.costs.values()):
        headings += [">set-up price", ">price/1,000"]
    table(headings, [_cost_row(recommendation, name) for name in recommendation.costs])
    say()
    others = "other finalist that does what is asked" if recommendation.left_out else "other finalist"
    say(f"No {others} is better and cheaper at once than any of: {', '.join(recommendation.front)}.")


def _cost_row(recommendation: Any, name: str) -> list[str]:
    costs = recommendation.costs[name]
    setup, each = costs["setup"], costs["per_1000_requests"]
    even = recommendation.break_even_requests.get(name)
    if name == recommendation.pick:
        standing = "the pick"
    elif even is not None:
        standing = figures.short(even)
    else:
        pick = recommendation.costs[recommendation.pick]
        standing = always(_works(costs), _works(pick), recommendation.demand["updates"])
    milliseconds = each["milliseconds"]
    return [
        name,
        figures.short(setup["seconds"]),
        figures.operations(setup["work"]),
        figures.short(None if milliseconds is None else milliseconds / 1000),
        figures.operations(each["work"]),
        figures.short(each["prompt_tokens"]),
        standing,
        *(figures.short(part["money"]) for part in (setup, each) if "money" in part),
    ]


def _works(costs: Mapping[str, Any]) -> Works:
    return Works(costs["setup"]["work"], costs["per_1000_requests"]["work"] / 1000)


def _print_verdict(recommendation: Any) -> None:
    say()
    say(headline(recommendation), style="bold")
    for reason in recommendation.reasons:
        say(f"- {reason}")
    say_each("What would change it", recommendation.conditions)
    say_each("Warnings", recommendation.warnings)


def headline(recommendation: Any) -> str:
    """The recommendation in one sentence."""
    low, high = recommendation.ci
    pick, nominee, margin = recommendation.pick, recommendation.nominee, recommendation.margin
    if recommendation.runner_up is None:
        standing = "it is the only finalist"
    elif recommendation.status == "undecided":
        decided = "" if pick == nominee else ", so the highest validation score decided"
        standing = figures.not_shown(pick, nominee, margin, "this test") + decided
    else:
        standing = STANDING[recommendation.status].format(margin=in_points(margin))
    if recommendation.left_out:
        standing += ", of those that do what is asked"
    rows = counted(recommendation.n_test, "test row")
    if recommendation.folds:
        rows = f"{counted(recommendation.n_test, 'row')} in {recommendation.folds - 1} folds"
    return (
        f"Recommended: {recommendation.pick}, {recommendation.metric} {figures.score(recommendation.score)} "
        f"(95 % interval {figures.interval(low, high)}, {rows}); "
        f"{standing}."
    )


def reading_notes(task: Any) -> list[str]:
    """Which columns, kind and metric the task has, and which of these were guessed."""
    spec, source = task.spec, task.source
    labels = getattr(spec.answer, "labels", ())
    target = source.get("target")
    return [
        f"Input: {', '.join(spec.inputs)}." + (f" Target: {target}." if target else ""),
        f"Kind: {spec.kind}{f' with {len(labels)} labels' if labels else ''}. Metric: {spec.metric}.",
        _splits_of(task),
        *_guessed_of(task),
    ]


def _splits_of(task: Any) -> str:
    if task.folds:
        rows = sum(map(len, task.folds))
        last = "the others as the test" if task.tested_in_folds else f"and {len(task.test):,} for the test"
        return f"Rows: {rows:,} in {len(task.folds)} folds, the first to screen candidates, {last}."
    return (
        f"Rows: {len(task.train):,} for training, {len(task.validation):,} for validation, "
        f"{len(task.test):,} for the test."
    )


def _guessed_of(task: Any) -> list[str]:
    guessed: Mapping[str, Any] = task.source.get("guessed") or {}
    shown = [f"{name} {', '.join(v) if isinstance(v, list) else v}" for name, v in guessed.items()]
    return [f"Guessed: {'; '.join(shown)}. To change a guess, give the flag of its name."] if shown else []


def print_leaderboard(rows: Sequence[Mapping[str, Any]], pick: str) -> None:
    """The finalists, best first; the pick is marked, a method without a finished trial says why."""
    families = console().width >= WIDTH_FOR_FAMILIES
    unfinished = any(row["status"] != "finished" for row in rows)
    headings = ["candidate", *(["family"] if families else []), ">score", ">95 % interval"]
    headings += [">fit time", ">ms/row", ">MB", *(["status"] if unfinished else [])]
    lines, bold = [], None
    for number, row in enumerate(rows):
        chosen = row["candidate"] == pick
        bold = number if chosen else bold
        line = [("* " if chosen else "  ") + str(row["candidate"] or row["method"])]
        line += [str(row["family"])] if families else []
        line += [figures.score(row["score"]), figures.interval(row["ci_low"], row["ci_high"])]
        line += [figures.duration(row["fit_seconds"]), figures.short(row["ms_per_example"])]
        line += [figures.short(row["artifact_mb"])]
        lines.append(line + ([str(row["status"]).replace("_", " ")] if unfinished else []))
    table(headings, lines, bold=bold)


def print_runs(records: Sequence[Any], folder: Path) -> None:
    """Every run with its pick."""
    if not records:
        say(f"No runs in {folder}. Start one: tunewise compare DATA")
        return
    table(
        ["run", "created", "status", "pick", ">score"],
        [
            [
                str(one.path),
                str(one.created)[:16].replace("T", " "),
                one.status,
                one.pick or "",
                figures.score(one.score),
            ]
            for one in records
        ],
    )


def print_entries(entries: Sequence[Entry], command: str) -> None:
    """What the catalog holds."""
    table(
        ["name", ">MB", "fetched", "licence", "description"],
        [
            [one.name, figures.short(one.size_mb), "yes" if one.pulled else "no", one.licence, one.description]
            for one in entries
        ],
    )
    say()
    say(f"Fetch one now: tunewise {command} pull NAME")


def print_plan(plan: Any, data: str) -> None:
    """What the data look like, which trials would run, and what they would take."""
    found = profile_notes(plan.profile, folds=bool(plan.task.folds))
    say_each(f"Data: {data}", [*reading_notes(plan.task)[:2], *_guessed_of(plan.task), *found])
    say_each("Tokens", [f"{_name(name)}: {figures.short(value)}" for name, value in plan.token_lengths.items()])
    say()
    table(
        ["trial", "stage", "hyper-parameters", ">time", ">memory MB"],
        [
            [
                one.trial,
                _stage(one),
                figures.parameters(one.parameters),
                figures.duration(one.forecast_seconds),
                figures.short(one.forecast_memory_mb),
            ]
            for one in plan.trials
        ],
    )
    stages = dict.fromkeys(one.stage for one in plan.trials)
    say_each("Stages", [STAGES[stage] for stage in stages if stage in STAGES])
    say()
    of = f" of {figures.duration(plan.budget_seconds)}" if plan.budget_seconds else ""
    say(f"In all about {figures.duration(plan.total_seconds)}{of}, as measured on this machine.", style="bold")
    if plan.task.folds:
        test = "" if plan.task.tested_in_folds else " and the test; other seeds of the best take what is left"
        say(f"- Of that {figures.duration(plan.test_seconds)} are for the finalists in the other folds{test}.")
    for note in plan.notes:
        say(f"- {note}")
    families = ", then ".join(plan.advice.families)
    say_each(f"To expect most from, on tasks like this one: {families}", plan.advice.reasons)


def _stage(trial: Any) -> str:
    name = "rung only" if trial.stage == "rung" else str(trial.stage)
    if trial.passes is None:
        return name
    of = f" of {trial.all_passes}" if trial.passes != trial.all_passes else ""
    return f"{name}: {trial.passes}{of} pass{'' if trial.passes == trial.all_passes == 1 else 'es'}"


def profile_notes(profile: Any, *, folds: bool = False) -> list[str]:
    """What reading found, a line each, findings of nothing left out; `folds` says whether rows stand in folds."""
    if profile is None:
        return []
    rows, lengths = profile.rows, profile.lengths
    test = f"{rows['test']:,} for the test" if rows["test"] else "no test split, see below"
    notes = [
        f"Rows: {profile.rows_read:,} read; {rows['train']:,} for training, "
        f"{rows['validation']:,} {'to screen on' if folds else 'for validation'}, {test}."
    ]
    train = profile.labels.get("train", {})
    if train:
        shown = ", ".join(f"{label} {count:,}" for label, count in list(train.items())[:MOST_SHOWN])
        more = f" and {len(train) - MOST_SHOWN} more" if len(train) > MOST_SHOWN else ""
        share = (
            f"; the most frequent is {100 * profile.majority_share:.0f} % of all rows"
            if profile.majority_share
            else ""
        )
        notes.append(f"Training rows by label: {shown}{more}{share}.")
    for name, figure in lengths.items():
        notes.append(
            f"{name.capitalize()} length in characters: median {figure['median']:.0f}, 95 % below "
            f"{figure['p95']:.0f}, longest {figure['max']:,.0f}."
        )
    if profile.groups:
        notes.append(f"Groups: {profile.groups:,}; each stays in one split.")
    if profile.near_duplicates:
        notes.append(f"Near-duplicates: {counted(profile.near_duplicates, 'row')}; those alike stay in one split.")
    notes += [_conflict(sample) for sample in profile.conflict_samples[:3]]
    return [*notes, *profile.warnings]


def _conflict(sample: Any) -> str:
    text = sample.text if len(sample.text) <= 60 else sample.text[:57] + "…"
    return (
        f'Conflict: "{text}" stands with {" and ".join(sample.targets)} (rows {", ".join(map(str, sample.rows))}).'
    )


def _name(key: str) -> str:
    return key.replace("_", " ").capitalize()
