"""Everything the page's template is given, section by section.

>>> sorted(sections(run))  # doctest: +SKIP
['board', 'confusion', ...]
"""

from __future__ import annotations

from typing import Any

from tunewise.figures import in_points
from tunewise.report import answers, aspects, costs, facts, learning, tables
from tunewise.report.records import Run
from tunewise.report.usage import how_to_use
from tunewise.report.verdict import verdict
from tunewise.report.words import metric_name

TITLES = {
    "verdict": "Verdict",
    "leaderboard": "Leaderboard",
    "cost": "Score against cost",
    "aspects": "The families, aspect by aspect",
    "learning": "What more labels are worth",
    "trials": "Every trial",
    "answers": "What the pick answered",
    "mistakes": "Ten mistakes",
    "data": "The data",
    "use": "Use the winner",
    "settings": "Settings and versions",
    "reading": "How to read this page",
}


def sections(run: Run) -> dict[str, Any]:
    """The template's variables: words and drawings, nothing left to compute."""
    choice = answers.is_choice(run)
    scores = [] if choice else answers.row_scores(run)
    margin = run.recommendation.margin if run.recommendation else None
    folds, has_test = len(run.task.values.get("folds", ())), bool(run.task.section("splits").values.get("test"))
    return {
        "titles": _titles(run),
        "name": run.info.text("name") or run.folder.resolve().name,
        "about": _about(run),
        "metric": metric_name(run.metric),
        "margin": "" if margin is None else in_points(margin),
        "chosen_in": folds if has_test else 0,
        "folds": 0 if has_test else folds,
        "verdict": verdict(run),
        "board": tables.board(run),
        "has_board": run.finalists is not None,
        "charts": tables.cost_charts(run),
        "costs": costs.rows(run),
        "costs_summary": costs.summary(run),
        "aspects": aspects.table(run),
        "learning": learning.section(run),
        "trials": tables.trial_rows(run),
        "has_journal": run.trials is not None,
        "trial_summary": tables.trial_summary(run),
        "messages": run.messages,
        "panels": tables.panels(run),
        "has_answers": bool(run.answers),
        "is_choice": choice,
        "confusion": answers.confusion(run),
        "pairs": answers.confused_pairs(run) if choice else (),
        "samples": () if choice else answers.samples(run, scores),
        "bins": () if choice else answers.distribution(scores),
        "row_metric": metric_name(answers.row_metric(run)),
        "mistakes": answers.mistakes(run, scores),
        "has_inputs": (run.folder / "rows.jsonl").exists(),
        "profile": facts.profile(run),
        "usage": how_to_use(run),
        "settings": facts.settings(run),
    }


def _titles(run: Run) -> dict[str, str]:
    """The sections that the page has."""
    told = run.recommendation
    absent = set() if told is not None and told.learning else {"learning"}
    absent |= set() if any(row.score is not None for row in run.finalists or ()) else {"aspects"}
    return {name: title for name, title in TITLES.items() if name not in absent}


def _about(run: Run) -> tuple[str, ...]:
    """The line under the run's name."""
    created = run.info.text("created")
    parts = (
        run.info.section("model").text("name"),
        f"budget {run.info.section('budget').text('text')}" if run.info.section("budget").text("text") else "",
        f"seed {run.info.text('seed')}" if run.info.text("seed") else "",
        f"{created[:10]} {created[11:16]} UTC".strip() if created else "",
    )
    return tuple(part for part in parts if part)
