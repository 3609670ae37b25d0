"""The page built from a run folder: complete, offline, escaped, and equal to the files."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import itertools
import json
import random
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.run_folder import LABELS, Shape, write_run
from tunewise.errors import CandidateError
from tunewise.reading import Profile
from tunewise.report import build, facts, words
from tunewise.report.charts import Point, against_cost, pareto
from tunewise.report.journal import fold
from tunewise.report.placement import Box, place
from tunewise.report.svg import FAMILIES, cost_scale, score_scale
from tunewise.run_files import Fields

SECTIONS = (
    *("verdict", "leaderboard", "cost", "aspects", "trials", "answers"),
    *("mistakes", "data", "use", "settings", "reading"),
)
VOID = frozenset({"meta", "link", "br", "hr", "img", "input", "col", "source", "wbr"})
HOSTILE = """ <script>alert(1)</script>"><img src=x onerror=alert(2)>{{ 7 * 7 }}'"""


class Page(HTMLParser):
    """Ids, texts by section and table row, and every attribute of a page; fails on tags that do not nest."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.section = ""
        self.texts: dict[str, list[str]] = {}
        self.rows: dict[str, list[list[str]]] = {}
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append((tag, given))
        if tag not in VOID:
            self.open.append(tag)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "section":
            self.section = str(given["id"])
        elif tag == "tr":
            self.rows.setdefault(self.section, []).append([])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "section":
            self.section = ""

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if text and "style" not in self.open:
            self.texts.setdefault(self.section, []).append(text)
            if "tr" in self.open and "svg" not in self.open:
                self.rows[self.section][-1].append(text)

    def text(self, section: str) -> str:
        return " ".join(self.texts.get(section, []))

    def row(self, section: str, first: str) -> list[str]:
        return next(row for row in self.rows[section] if row and row[0] == first)


def read(folder: Path) -> Page:
    return Page(build(folder))


def records(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def change(folder: Path, file: str, **fields: Any) -> None:
    (folder / file).write_text(json.dumps(records(folder, file) | fields), encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture(
    scope="module",
    params=[
        Shape(),
        Shape(kind="generation", test_rows=40),
        Shape(labels=tuple(f"intent {number}" for number in range(77)), test_rows=200),
        Shape(labels=tuple(f"intent {number}" for number in range(24)), text=HOSTILE, status="undecided"),
    ],
    ids=["six labels", "generation", "many labels", "hostile text"],
)
def any_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tests of a shape: they read it, and write nothing but the page."""
    return write_run(tmp_path_factory.mktemp("any") / "run", request.param)


def test_every_section_stands_in_order_and_ids_are_unique(any_run: Path) -> None:
    page = read(any_run)
    assert [one for one in page.ids if one in SECTIONS] == list(SECTIONS)
    assert len(page.ids) == len(set(page.ids))
    targets = {str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a"}
    assert targets <= set(page.ids)


def test_nothing_is_fetched_and_no_script_can_run(any_run: Path) -> None:
    page = read(any_run)
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "img", "iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") or name in ("src", "srcset", "style") for name in attributes)
        assert str(attributes.get("href", "#")).startswith("#")
    style = page.source.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    policy = next(str(a["content"]) for t, a in page.tags if t == "meta" and "http-equiv" in a)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")


def test_text_of_the_data_stays_text(tmp_path: Path) -> None:
    page = read(write_run(tmp_path / "run", Shape(text=HOSTILE)))
    assert "<script" not in page.source
    assert "<img" not in page.source
    wanted = " ".join(HOSTILE.split())
    for section in ("", "verdict", "answers", "mistakes", "data"):
        assert wanted in page.text(section), section


def test_lone_surrogates_do_not_stop_the_page(run: Path) -> None:
    change(run, "run.json", name="odd \ud800 name")
    assert "odd ? name" in read(run).text("")


def test_every_drawing_has_a_title_and_a_description(any_run: Path) -> None:
    page = read(any_run)
    drawings = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(drawings) > 20
    for attributes in drawings:
        if attributes.get("aria-hidden") != "true":
            assert all(name in page.ids for name in str(attributes["aria-labelledby"]).split())


def test_leaderboard_shows_the_numbers_of_the_file(any_run: Path) -> None:
    page = read(any_run)
    with (any_run / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        board = list(csv.DictReader(file))
    assert [row[0] for row in page.rows["leaderboard"][1:]] == [row["candidate"] for row in board]
    differences = records(any_run, "recommendation.json")["differences"]
    for row in board:
        shown = page.row("leaderboard", row["candidate"])
        if row["status"] == "failed":
            assert "No score: failed" in " ".join(shown)
            continue
        assert f"{float(row['score']):.3f}" in shown
        assert f"[{float(row['ci_low']):.3f}, {float(row['ci_high']):.3f}]" in shown
        assert f"{int(row['trainable_parameters']):,}" in shown
        for key in ("fit_seconds", "ms_per_example", "artifact_mb"):
            assert words.figure(float(row[key])) in shown
        if row["candidate"] in differences:
            assert words.points(differences[row["candidate"]]["value"]) in shown


def test_whiskers_stand_where_the_numbers_are(run: Path) -> None:
    page = read(run)
    ends = []
    for tag, attributes in page.tags:
        if tag == "line" and "whisker" in str(attributes.get("class")) and attributes["y1"] == attributes["y2"]:
            ends.append((float(str(attributes["x1"])), float(str(attributes["x2"]))))
    with (run / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        rows = [(float(row["ci_low"]), float(row["ci_high"])) for row in csv.DictReader(file) if row["score"]]
    # All rows share one scale, so units per score are the same for every pair of rows.
    unit = (ends[0][0] - ends[-1][0]) / (rows[0][0] - rows[-1][0])
    for (x1, x2), (low, high) in zip(ends, rows, strict=True):
        assert x2 - x1 == pytest.approx(unit * (high - low), abs=0.05)


@pytest.mark.parametrize(
    ("status", "words_of_it"),
    [
        ("superior", "better than every other finalist"),
        ("non-inferior", "with no finalist more than 2 points better"),
        ("undecided", "the test cannot tell it from"),
        ("too_few_rows", "too few rows to claim"),
    ],
)
def test_verdict_says_the_status_in_plain_words(tmp_path: Path, status: str, words_of_it: str) -> None:
    folder = write_run(tmp_path / "run", Shape(status=status))
    told, text = records(folder, "recommendation.json"), read(folder).text("verdict")
    assert words_of_it in text
    assert f"accuracy {told['score']:.3f} [{told['ci'][0]:.3f}, {told['ci'][1]:.3f}] on 500 test rows" in text
    assert f"{words.points(told['difference']['value'])} points against the runner-up {told['runner_up']}" in text
    for sentence in (*told["reasons"], *told["warnings"]):
        assert sentence in text


def test_undecided_beside_none_that_is_tied_says_what_was_not_shown(run: Path) -> None:
    change(run, "recommendation.json", status="undecided", rows_needed=None, tied_with=[], nominee="lora")
    text = read(run).text("verdict")
    assert "though the test could not show it within 2 points of every other finalist;" in text
    assert "more test rows" not in text
    change(run, "recommendation.json", nominee="few-shot")
    assert "as the test could not show the cheaper few-shot within 2 points" in read(run).text("verdict")


def test_costs_are_told_with_where_each_breaks_even(run: Path) -> None:
    told, page = records(run, "recommendation.json"), read(run)
    for name, costs in told["costs"].items():
        row = page.row("cost", name)
        for key in ("peak_mb", "labels"):
            assert words.count(costs["setup"][key]) in row
        assert words.figure(costs["per_1000_requests"]["milliseconds"] / 1000) in row
        assert row[-1] in {"full": ("41,000",), told["pick"]: (words.NOTHING,)}.get(
            name, ("always cheaper", "always dearer")
        )
        assert ("front" in row) == (name in told["front"])
    assert f"What would change it {told['conditions'][0]}" in page.text("verdict")
    assert "It counts 1 set-up of each." in page.text("cost")


def test_a_run_from_before_costs_were_told_has_a_page_without_them(run: Path) -> None:
    told = records(run, "recommendation.json")
    for name in ("conditions", "costs", "break_even_requests", "front", "demand"):
        del told[name]
    (run / "recommendation.json").write_text(json.dumps(told))
    page = read(run)
    assert "Even with the pick" not in page.text("cost")
    assert "What would change it" not in page.text("verdict")


def test_confusion_counts_equal_the_predictions(run: Path) -> None:
    page = read(run)
    answers = lines(run, "predictions/lora-1-test.jsonl")
    right = sum(line["target"] == line["prediction"] for line in answers)
    assert f"{right} of 500 rows on the diagonal" in page.text("answers")
    for number, label in enumerate(LABELS):
        own = [line for line in answers if line["target"] == str(number)]
        shown = page.row("answers", label)
        hits = sum(line["prediction"] == str(number) for line in own)
        assert str(hits) in shown
        assert shown[-2:] == [str(len(own)), words.percent(hits / len(own))]


def test_answers_outside_the_labels_have_a_column_of_their_own(run: Path) -> None:
    path = run / "predictions" / "lora-1-test.jsonl"
    answers = lines(run, "predictions/lora-1-test.jsonl")
    answers[0] |= {"prediction": "something else", "valid": False, "probability": 0.9999}
    path.write_text("".join(json.dumps(line) + "\n" for line in answers))
    page = read(run)
    assert "no valid label" in page.rows["answers"][0]
    assert "not a valid answer" in page.text("mistakes")


def test_many_labels_give_pairs_instead_of_a_matrix(tmp_path: Path) -> None:
    labels = tuple(f"intent {number}" for number in range(77))
    page = read(write_run(tmp_path / "run", Shape(labels=labels, test_rows=300)))
    assert len(page.rows["answers"]) == 1 + 15
    assert "a matrix cannot be read" in page.text("answers")


def test_mistakes_are_the_most_confident_wrong_answers_with_their_text(run: Path) -> None:
    answers = lines(run, "predictions/lora-1-test.jsonl")
    wrong = sorted(
        (line for line in answers if line["target"] != line["prediction"]), key=lambda x: -x["probability"]
    )
    inputs = {row["row"]: row["inputs"]["text"] for row in lines(run, "rows.jsonl")}
    found = [text for text in read(run).texts["mistakes"] if re.fullmatch(r"test row [\d,]+", text)]
    assert found == [f"test row {line['row']}" for line in wrong[:10]]
    assert inputs[wrong[0]["row"]] in read(run).text("mistakes")


def test_generation_shows_samples_and_a_distribution(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", Shape(kind="generation", test_rows=40))
    page = read(folder)
    assert "Rows by chrF" in page.text("answers")
    assert sum(int(row[-1]) for row in page.rows["answers"][1:]) == 40
    assert "From the best row to the worst" in page.text("answers")
    assert "The lowest scored answers first" in page.text("mistakes")


def test_every_trial_is_on_the_page_with_its_reason(run: Path) -> None:
    page = read(run)
    for line in lines(run, "trials.jsonl"):
        if line["event"] in ("failed", "out_of_budget", "pruned"):
            assert line["reason"] in " ".join(page.row("trials", line["trial"]))
        elif line["event"] == "finished":
            row = page.row("trials", line["trial"])
            assert "finished" in row
            assert f"{line['value']:.3f}" in row
        elif line["event"] == "message":
            assert line["text"] in page.text("trials")
    leads = [one for tag, one in page.tags if tag == "polyline" and "lead" in str(one["class"])]
    assert len(leads) == 4


def test_settings_are_shown_with_their_origin(run: Path) -> None:
    text = read(run).text("settings")
    assert "train_rows 256 flag" in text
    assert "model smollm2-135m tunewise.toml" in text
    assert "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53" in text


def test_profile_is_shown_and_unknown_keys_are_skipped(run: Path) -> None:
    text = read(run).text("data")
    for wanted in (
        "Repeated rows, left out 72",
        "Inputs with conflicting targets 3",
        "Train rows 256",
        "p95",
        "abbreviation",
    ):
        assert wanted in text
    assert "some_later_key" not in text
    change(run, "task.json", profile={"labels": [1, 2], "lengths": "long", "duplicates": {"a": "b"}})
    assert "task.json holds no profile" in read(run).text("data")


def test_the_page_knows_the_counts_of_a_profile() -> None:
    assert set(facts.FINDINGS) <= {field.name for field in dataclasses.fields(Profile)}


def test_plain_libraries_follow_from_the_candidate_files(run: Path) -> None:
    page = read(run)
    assert 'model = PeftModel.from_pretrained(base, "candidates/lora")' in page.text("use")
    assert "tunewise predict candidates/lora new.csv -o out.csv" in page.text("use")
    assert "tunewise report runs/trec" in page.text("use")
    candidate = run / "candidates" / "lora"
    (candidate / "adapter_config.json").unlink()
    assert "no weights of its own" in read(run).text("use")
    (candidate / "config.json").write_text("{}")
    assert 'AutoModelForCausalLM.from_pretrained("candidates/lora")' in read(run).text("use")


def test_a_run_that_has_only_begun_still_has_a_page(run: Path) -> None:
    for name in ("leaderboard.csv", "recommendation.json", "trials.jsonl", "rows.jsonl"):
        (run / name).unlink()
    shutil.rmtree(run / "predictions")
    page = read(run)
    assert [one for one in page.ids if one in SECTIONS] == [one for one in SECTIONS if one != "aspects"]
    assert "No recommendation yet" in page.text("verdict")
    assert "no leaderboard.csv yet" in page.text("leaderboard")
    assert "no trials.jsonl" in page.text("trials")
    assert "no test predictions" in page.text("answers")
    assert "no pick to use" in page.text("use")


def test_missing_inputs_are_said_to_be_missing(run: Path) -> None:
    (run / "rows.jsonl").unlink()
    assert "its text is not in the run folder" in read(run).text("mistakes")


@pytest.mark.parametrize(
    ("name", "says", "advice"),
    [
        ("trials.jsonl", "trials.jsonl is missing", "restore it from a copy, or compare again with a new --out"),
        ("recommendation.json", "recommendation.json is missing", "run `tunewise resume`"),
        ("leaderboard.csv", "leaderboard.csv is missing", "run `tunewise resume`"),
        ("predictions/full-1-test.jsonl", "full-1 was tested", "run `tunewise resume`"),
    ],
)
def test_a_file_that_the_journal_tells_of_is_missed(run: Path, name: str, says: str, advice: str) -> None:
    (run / name).unlink()
    with pytest.raises(CandidateError, match=f"{re.escape(says)}.*{re.escape(advice)}"):
        build(run)


def test_a_run_that_was_stopped_before_its_verdict_still_has_a_page(run: Path) -> None:
    events = [event for event in lines(run, "trials.jsonl") if event["event"] not in ("nominated", "tested")]
    (run / "trials.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    for name in ("leaderboard.csv", "recommendation.json"):
        (run / name).unlink()
    assert "No recommendation yet" in read(run).text("verdict")


def test_a_run_all_of_whose_finalists_failed_in_the_folds_is_not_damaged(run: Path) -> None:
    events = [event for event in lines(run, "trials.jsonl") if event["event"] not in ("nominated", "tested")]
    finished = [event for event in events if event["event"] == "finished"]
    methods = sorted({event["trial"].rpartition("-")[0] for event in finished})
    failed = [
        {**event, "event": "failed", "reason": "in fold 2: no memory", "error": "Error"} for event in finished
    ]
    screened = {**finished[0], "event": "screened", "trial": None, "finalists": methods, "left_out": []}
    all_events = [*events, screened, *failed]
    (run / "trials.jsonl").write_text("".join(json.dumps(event) + "\n" for event in all_events))
    for name in ("leaderboard.csv", "recommendation.json"):
        (run / name).unlink()
    page = read(run)
    assert "No recommendation yet" in page.text("verdict")
    assert "no memory" in page.text("trials")


@pytest.mark.parametrize("left", ["in the race", "for want of time", "another seed", "from an earlier turn"])
def test_a_run_that_was_stopped_while_one_was_still_to_be_tested_has_a_page(run: Path, left: str) -> None:
    events = lines(run, "trials.jsonl")
    tested = [event for event in events if event["event"] == "tested"]
    before = [event for event in events if event["event"] not in ("nominated", "tested")]
    methods = sorted({event["trial"].rpartition("-")[0] for event in tested})
    screened = {**tested[0], "event": "screened", "trial": None, "finalists": methods, "left_out": []}
    last = tested[-1]
    if left == "in the race":  # a trial of it failed there, another one is on its way through the folds
        told = [*before, {**last, "event": "failed", "reason": "x", "error": "Error"}, screened, *tested[:-1]]
    elif left == "for want of time":  # it was told so, and another one is on its way
        told = [*before, screened, *tested[:-2], {**last, "event": "pruned", "reason": "x"}]
    elif left == "from an earlier turn":  # others were screened since
        second = {**screened, "finalists": methods[-1:]}
        told = [*before, {**screened, "finalists": methods[:-1]}, second, *tested[:-1]]
        told = [event for event in told if not (event["event"] == "tested" and event is tested[0])] + [last]
    else:
        again = {**last, "event": "finished", "trial": "lora-9", "repeats": last["trial"]}
        told = [*before, again, {**screened, "event": "nominated"}, *tested]
    (run / "trials.jsonl").write_text("".join(json.dumps(event) + "\n" for event in told))
    for name in ("leaderboard.csv", "recommendation.json"):
        (run / name).unlink()
    assert "No recommendation yet" in read(run).text("verdict")
    with (run / "trials.jsonl").open("a") as file:  # nothing is awaited any more
        waited = {"in the race": last, "for want of time": tested[-2], "from an earlier turn": tested[0]}
        trial = waited.get(left, {**last, "trial": "lora-9"})
        file.write(json.dumps({**trial, "event": "failed", "reason": "x", "error": "Error"}) + "\n")
    with pytest.raises(CandidateError, match=r"leaderboard\.csv is missing"):
        build(run)


def test_missing_answers_of_another_seed_are_missed_by_nobody(run: Path) -> None:
    (first, *_) = (event for event in lines(run, "trials.jsonl") if event["event"] == "tested")
    again = {**first, "trial": "lora-9", "repeats": first["trial"]}
    with (run / "trials.jsonl").open("a") as file:
        for kind in ("started", "finished", "tested"):
            file.write(json.dumps({**again, "event": kind}) + "\n")
    assert read(run).text("verdict")


def test_an_empty_leaderboard_points_to_the_trials(run: Path) -> None:
    header = (run / "leaderboard.csv").read_text().splitlines()[0]
    (run / "leaderboard.csv").write_text(header + "\n")
    change(run, "recommendation.json", pick=None, runner_up=None, difference=None, score=None, ci=None)
    page = read(run)
    assert "The leaderboard is empty" in page.text("leaderboard")
    assert "No recommendation yet: no trial finished." in page.text("verdict")


@pytest.mark.parametrize("torn", [b'{"event": "started", "tri', '{"text": "“'.encode()[:-1]])
def test_a_torn_last_line_of_the_journal_is_dropped(run: Path, torn: bytes) -> None:
    before = read(run).text("trials")
    with (run / "trials.jsonl").open("ab") as file:
        file.write(torn)
    assert read(run).text("trials") == before


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("run.json", "{", "run.json: not JSON"),
        ("run.json", "[]", "expected a JSON object"),
        ("run.json", '{"format": 2}', "format 2"),
        ("task.json", '{"format": 1, "spec": {"kind": "classification"}}', "task.json, spec"),
        ("trials.jsonl", '{"event": "st\n{"event": "message"}\n', "trials.jsonl, line 1"),
        ("trials.jsonl", '{"trial": "lora-1"}\n', "trials.jsonl, line 1: 'event' is None"),
        ("predictions/full-1-test.jsonl", '{"row": 1}\n{', "predictions/full-1-test.jsonl, line 2: not JSON"),
        ("predictions/full-1-test.jsonl", "", "predictions/full-1-test.jsonl: found no predictions"),
        ("leaderboard.csv", "name,score\nlora,0.5\n", "column 'candidate' is missing"),
        ("leaderboard.csv", "candidate,method,score,status\nlora,lora,high,finished\n", "expected a number"),
        ("leaderboard.csv", "candidate,method,score,status\nlora,lora\n", "expected 4 values"),
        ("recommendation.json", '{"pick": ["lora"]}', "'pick' is ['lora']"),
        ("recommendation.json", '{"pick": "lora", "ci": [0.1]}', "expected [low, high]"),
        ("predictions/lora-1-test.jsonl", '{"target": "1"}\n', "expected a row number"),
        ("rows.jsonl", "\xff", "not UTF-8"),
    ],
)
def test_damage_is_one_clear_error_and_leaves_the_old_page(run: Path, name: str, content: str, says: str) -> None:
    old = build(run).read_bytes()
    (run / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(CandidateError, match=re.escape(says)):
        build(run)
    assert (run / "report.html").read_bytes() == old
    assert not list(run.glob(".report*"))


NUMBERS = (-1, 1e308, float("nan"), 10**400)
ODD: tuple[Any, ...] = (None, True, *NUMBERS, "", "x", "\ud800", [], [1], {}, {"a": [None]})


def damaged(value: Any, rng: random.Random) -> Any:
    """`value` with one part of it, at any depth, left out or replaced by something odd."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        rest = {name: one for name, one in value.items() if name != key}
        return rest if rng.random() < 0.2 else value | {key: damaged(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [*value[:place], damaged(value[place], rng), *value[place + 1 :]]
    return rng.choice(ODD)


@pytest.mark.parametrize("name", ["run.json", "task.json", "recommendation.json", "trials.jsonl", "rows.jsonl"])
def test_any_damage_gives_a_page_or_a_clear_error(tmp_path: Path, name: str) -> None:
    folder = write_run(tmp_path / "run", Shape(test_rows=20))
    whole = lines(folder, name) if name.endswith("l") else [records(folder, name)]
    refusals: list[str] = []
    for seed in range(12):
        content = damaged(whole, random.Random(f"{name} {seed}"))
        kept = content if isinstance(content, list) else whole
        (folder / name).write_text("\n".join(map(json.dumps, kept)), encoding="utf-8")
        try:
            Page(build(folder))
        except CandidateError as error:
            refusals.append(str(error))
    assert len(refusals) < 12
    assert all(name in text for text in refusals)


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match="no such folder"):
        build(tmp_path / "nothing")
    with pytest.raises(CandidateError, match=r"not a run folder, run\.json is missing"):
        build(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_names_with_separators_do_not_lead_out_of_the_folder(run: Path) -> None:
    outside = run.parent / "secret-test.jsonl"
    shutil.copy(run / "predictions" / "lora-1-test.jsonl", outside)
    text = (run / "leaderboard.csv").read_text().replace("lora-1,", "../../secret,", 1)
    (run / "leaderboard.csv").write_text(text)
    change(run, "recommendation.json", pick="lora")
    assert "no test predictions" in read(run).text("answers")
    change(run, "recommendation.json", pick="../../elsewhere")
    assert "no pick to use" in read(run).text("use")


def test_building_twice_gives_the_same_page(run: Path) -> None:
    assert build(run).read_bytes() == build(run).read_bytes()


def test_a_trial_continued_after_a_kill_is_one_line() -> None:
    events: list[dict[str, Any]] = [
        {"event": "started", "elapsed": 1, "method": "lora"},
        {"event": "reported", "elapsed": 5, "step": 6, "epoch": 1.0, "value": 0.4, "seconds": 4},
        {"event": "started", "elapsed": 9, "method": "lora"},
        {"event": "reported", "elapsed": 12, "step": 6, "epoch": 1.0, "value": 0.5, "seconds": 3},
        {"event": "paused", "elapsed": 13, "step": 6, "value": 0.5},
        {"event": "continued", "elapsed": 18, "method": "lora", "stage": "full run"},
        {"event": "reported", "elapsed": 20, "step": 12, "epoch": 1.0, "value": 0.7, "seconds": 8},
        {"event": "something new", "elapsed": 21},
    ]
    (trial,), _ = fold(Fields("trials.jsonl", {"trial": "lora-1", **event}) for event in events)
    assert trial.status == "unfinished"
    assert [(point.step, point.value) for point in trial.curve] == [(6, 0.5), (12, 0.7)]
    assert trial.spans == ((1, 5), (9, 13), (18, 20))
    assert (trial.stage, trial.seconds) == ("full run", 10)


def test_a_trial_that_never_started_is_named_by_its_end() -> None:
    end = {"event": "out_of_budget", "trial": "full-2", "method": "full", "reason": "no work left"}
    (trial,), _ = fold([Fields("trials.jsonl", end)])
    assert (trial.method, trial.status, trial.reason) == ("full", "out_of_budget", "no work left")
    assert (trial.value, trial.seconds, trial.spans) == (None, None, ())


names = st.text("abcdefghij-@", min_size=1, max_size=16)
spots = st.tuples(st.floats(0, 400), st.floats(0, 250))


@given(st.lists(st.tuples(names, spots), max_size=14))
@settings(deadline=None, max_examples=40)
def test_labels_never_overlap_each_other_or_leave_the_chart(found: list[tuple[str, tuple[float, float]]]) -> None:
    bounds = Box(0, 0, 400, 250)
    placed = [one.box for one in place([spot for _, spot in found], [name for name, _ in found], bounds) if one]
    assert all(box.inside(bounds) for box in placed)
    assert not any(a.meets(b) for index, a in enumerate(placed) for b in placed[:index])


points = st.builds(
    Point, names, st.just("hybrid"), st.floats(0, 1e6), st.floats(-1, 1, allow_subnormal=False), st.booleans()
)


@given(st.lists(points, min_size=1, max_size=8))
@settings(deadline=None, max_examples=40)
def test_any_scores_and_costs_can_be_drawn(found: list[Point]) -> None:
    assert "nan" not in against_cost(found, "seconds", "scatter-1")
    front = pareto(found)
    for point in found:
        beaten = any(other.cost <= point.cost and other.score >= point.score for other in front)
        assert beaten or point in front
    assert [one.score for one in front] == sorted(one.score for one in front)


def test_axes_turn_logarithmic_above_a_range_of_twenty() -> None:
    assert not cost_scale([1.0, 20.0], 0, 100).log
    wide = cost_scale([0.0, 1.0, 21.0], 0, 100)
    assert wide.log
    assert wide(0.0) == 0.0
    assert 0.0 < wide(1.0) < wide(21.0) < 100.0
    assert score_scale([0.2, 0.97], 0, 100).high == 1.0


def palettes() -> Iterator[dict[str, tuple[float, ...]]]:
    style = (Path(words.__file__).parent / "style.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)[:2]
    for block in (light, dark):
        yield {
            name: tuple(int(code[at : at + 2], 16) / 255 for at in (0, 2, 4))
            for name, code in re.findall(r"--([a-z-]+): #([0-9a-f]{6});", block)
        }


def luminance(colour: tuple[float, ...]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """WCAG 2.2, contrast ratio."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_colours_have_the_contrast_that_wcag_aa_asks_for() -> None:
    for colours in palettes():
        for text, ground in (
            *(("ink", "paper"), ("muted", "paper"), ("accent", "paper"), ("ink", "panel"), ("muted", "panel")),
            *(("caution", "caution-panel"), ("ink", "caution-panel"), ("paper", "accent"), ("caution", "paper")),
        ):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for family in ("baseline", "prompt-engineering", "prompt-tuning", "fine-tuning", "hybrid", "strong"):
            assert contrast(colours[family], colours["paper"]) >= 3, family


def learning_of(told: Any) -> dict[str, Any]:
    """Learning curves of two candidates, as a recommendation holds them."""
    sizes = {"8": 0.4, "16": 0.5, "32": 0.6, "64": 0.7, "256": 0.8}
    band = {"value": 0.84, "low": 0.79, "high": 0.9}
    one = {"four_times": None, "overtakes": None, "overtaken": None, "advantage": None, "advantage_ci": None}
    return {
        "labels": 256,
        "validation": 200,
        "candidates": {
            told["pick"]: {
                **one,
                "family": "fine-tuning",
                "scores": {size: [mean - 0.01, mean, mean + 0.01] for size, mean in sizes.items()},
                "twice": band,
                "four_times": {"value": 0.88, "low": 0.8, "high": 0.95},
            },
            "few-shot": {
                **one,
                "family": "prompt engineering",
                "scores": {size: [0.3, 0.31, 0.32] for size in list(sizes)[:3]},
                "twice": None,
                "advantage": 112.4,
                "advantage_ci": [-10.0, 240.6],
            },
        },
        "constant": {"majority": 0.188},
        "unmeasured": ["few-shot", "full"],
    }


def test_learning_curves_are_drawn_and_told(run: Path) -> None:
    told = records(run, "recommendation.json")
    change(run, "recommendation.json", learning=learning_of(told))
    page = read(run)
    assert page.row("learning", told["pick"])[1:] == [
        *("0.400", "0.500", "0.600", "0.700", "0.800"),
        "0.840 [0.790, 0.900]",
        "0.880 [0.800, 0.950]",
        "the pick",
    ]
    assert page.row("learning", "few-shot")[4:] == ["–", "–", "–", "–", "+112 [−10, +241]"]
    bare = learning_of(told)
    bare["candidates"]["few-shot"]["advantage_ci"] = None
    change(run, "recommendation.json", learning=bare)
    assert read(run).row("learning", "few-shot")[-1] == "–", "without an interval it may be all chance"
    text = page.text("learning")
    assert "the same 200 validation rows at every size" in text
    assert "More labels change nothing for majority (0.188)." in text
    assert "Not measured, or not to the end: few-shot and full." in text
    assert f"With all 256 training rows: {told['pick']} 0.800; few-shot 0.310." in text
    assert ("a", {"href": "#learning"}) in page.tags


def test_a_run_without_learning_curves_has_no_section_for_them(run: Path) -> None:
    assert 'id="learning"' not in read(run).source
    change(run, "recommendation.json", learning={})
    assert 'href="#learning"' not in read(run).source


@pytest.mark.parametrize(
    "scores", [{"8": "many"}, {"eight": [0.1]}, {"0": [0.1]}, {"8": []}, {"8": [True]}, ["8"], {"8": [{}]}]
)
def test_a_damaged_learning_curve_is_refused_by_name(run: Path, scores: Any) -> None:
    learning = learning_of(records(run, "recommendation.json"))
    learning["candidates"]["few-shot"]["scores"] = scores
    change(run, "recommendation.json", learning=learning)
    with pytest.raises(CandidateError, match=r"recommendation.json.*tunewise resume"):
        read(run)


def test_names_at_the_ends_of_curves_do_not_overlap() -> None:
    from tunewise.report.learning import _apart

    for wanted in ([20.0, 21.0, 22.0, 380.0], [379.0, 380.0, 381.0], [100.0] * 9):
        places = _apart(wanted, 14.0, 20.0, 384.0)
        assert all(b - a >= 14.0 - 1e-9 for a, b in itertools.pairwise(places))
        assert places[-1] <= 384.0


def test_families_are_compared_aspect_by_aspect_in_measured_figures(run: Path) -> None:
    told = records(run, "recommendation.json")
    change(run, "recommendation.json", learning=learning_of(told))
    page = read(run)
    with (run / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["score"]]
    families = [name for name in FAMILIES if any(row["family"] == name for row in rows)]
    assert page.row("aspects", "Aspect")[1:] == families
    best = [
        max((row for row in rows if row["family"] == name), key=lambda row: float(row["score"]))
        for name in families
    ]
    # The first two texts of a row are its name and how it was measured.
    assert page.row("aspects", "Method")[2:] == [
        f"{row['candidate']}: {words.score(float(row['score']))}" for row in best
    ]
    seconds = [words.figure(float(row["fit_seconds"])) for row in best]
    assert [cell.partition(" s;")[0] for cell in page.row("aspects", "Efficiency")[2:]] == seconds
    free = [cell == "free with each request" for cell in page.row("aspects", "Adaptability")[2:]]
    assert free == [name == "prompt engineering" for name in families]
    place = [row["candidate"] for row in best].index(told["pick"])
    assert page.row("aspects", "Data requirement")[2 + place].endswith("95 % of its score with 256")
