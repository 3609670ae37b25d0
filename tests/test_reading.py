"""What can be read: every format and source gives the same task; what is guessed, and what is counted."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pandas
import pytest

from tunewise import catalog
from tunewise.errors import CandidateError, DataError, FetchError, SettingError
from tunewise.reading import Profile, read, read_rows, write_rows
from tunewise.reading.answers import guess_kind, metric_of
from tunewise.reading.cells import texts
from tunewise.reading.columns import choose
from tunewise.reading.splits import wanted_validation
from tunewise.reading.tables import from_records
from tunewise.task import Choices, Task, Text

Rows = list[dict[str, Any]]


def rows(count: int = 40, labels: Sequence[str] = ("good", "bad")) -> Rows:
    """Rows with different texts, the labels in turn."""
    return [
        {"text": f"sentence {number}, of words", "label": labels[number % len(labels)]} for number in range(count)
    ]


def write_csv(path: Path, content: Rows) -> Path:
    pandas.DataFrame(content).to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


def write_json(path: Path, content: Rows) -> Path:
    lines = path.suffix != ".json"
    text = "\n".join(json.dumps(row) for row in content) if lines else json.dumps(content)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def write_parquet(path: Path, content: Rows) -> Path:
    pandas.DataFrame(content).to_parquet(path)
    return path


FORMS: dict[str, Callable[[Path, Rows], Any]] = {
    "csv": lambda folder, content: write_csv(folder / "it.csv", content),
    "tsv": lambda folder, content: str(write_csv(folder / "it.tsv", content)),
    "jsonl": lambda folder, content: write_json(folder / "it.jsonl", content),
    "ndjson": lambda folder, content: write_json(folder / "it.ndjson", content),
    "json": lambda folder, content: write_json(folder / "it.json", content),
    "parquet": lambda folder, content: write_parquet(folder / "it.parquet", content),
    "frame": lambda folder, content: pandas.DataFrame(content),
    "list": lambda folder, content: content,
    "dataset": lambda folder, content: datasets.Dataset.from_list(content),
}


def content_of(task: Task) -> list[list[tuple[int, dict[str, str], str]]]:
    return [
        [(example.row, dict(example.inputs), example.target) for example in split]
        for split in (task.train, task.validation, task.test)
    ]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_task(form: str, tmp_path: Path) -> None:
    content = [*rows(), {"text": 'a "quoted"\nword, ünïcödé', "label": "good"}]
    task = read(FORMS[form](tmp_path, content))
    assert content_of(task) == content_of(read(content))
    assert task.spec == read(content).spec
    assert task.spec.answer == Choices(("bad", "good"), ("bad", "good"))
    assert sorted(row for split in content_of(task) for row, *_ in split) == list(range(41))
    assert task.source["guessed"] == {"input": ["text"], "target": "label", "kind": "classification"}
    if form in ("csv", "tsv", "jsonl", "ndjson", "json", "parquet"):
        assert task.name == "it"
        assert Path(task.source["path"]).is_absolute()
        assert len(task.source["sha256"]) == 64
    json.dumps(task.source)


def test_source_and_rows_name_the_file_a_row_came_from(tmp_path: Path) -> None:
    given = [{"text": f"other {number}", "label": "good"} for number in range(5)]
    checked = [{"text": f"third {number}", "label": "bad"} for number in range(5)]
    task = read(rows(), test=write_csv(tmp_path / "t.csv", given), validation=checked)
    assert [(example.source, example.row) for example in task.test] == [("test", row) for row in range(5)]
    assert {(example.source, example.row) for example in task.validation} == {
        ("validation", row) for row in range(5)
    }
    assert {example.source for example in task.train} == {"data"}
    assert len(task.train) == 40
    assert task.source["test"]["path"] == str(tmp_path / "t.csv")
    assert task.source["validation"]["rows"] == 5


def test_semicolons_a_byte_order_mark_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "it.csv"
    lines = [f"{row['text'].replace(',', '')};{row['label']}" for row in rows()]
    path.write_bytes(("\ufefftext; label\r\n" + "\r\n\r\n".join(lines) + "\r\n").encode())
    task = read(path)
    assert task.spec.inputs == ("text",)
    assert sorted(example.row for split in (task.train, task.validation, task.test) for example in split) == list(
        range(40)
    )


def test_quotes_of_a_plain_tsv_are_ordinary_characters(tmp_path: Path) -> None:
    path = tmp_path / "it.tsv"
    path.write_text("text\tlabel\n" + "".join(f'"Word{n}" he said\t{"ab"[n % 2]}\n' for n in range(20)))
    task = read(path)
    assert task.source["guessed"]["quotes"] == "ordinary characters"
    assert '"Word0" he said' in [e.inputs["text"] for s in (task.train, task.validation, task.test) for e in s]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([1, 0], ["1", "0"]),
        ([1.0, float("nan"), 0.0], ["1", None, "0"]),
        ([1.0, 2.5], ["1.0", "2.5"]),
        ([True, False, None], ["true", "false", None]),
        (["1.0", " ", "nan", " a "], ["1.0", None, "nan", " a "]),
        ([["é", 1], {"a": None}], ['["é", 1]', '{"a": null}']),
        ([pandas.NA, pandas.NaT], [None, None]),
        (list(pandas.Series([1, 2])), ["1", "2"]),
    ],
)
def test_cells_become_the_same_text(cells: list[Any], expected: list[str | None]) -> None:
    assert texts(cells) == expected


def test_coded_targets_are_the_same_from_a_frame_with_gaps() -> None:
    frame = pandas.DataFrame(rows(labels=("0", "1"))).astype({"label": float})
    frame.loc[3, "label"] = float("nan")
    task = read(frame, drop_incomplete=True)
    assert isinstance(task.spec.answer, Choices)
    assert task.spec.answer.labels == ("0", "1")
    assert task.profile is not None
    assert (task.profile.incomplete, task.profile.incomplete_rows) == (1, (3,))


@pytest.mark.parametrize(
    ("columns", "given", "inputs", "target"),
    [
        (["text", "label"], {}, ("text",), "label"),
        (["label", "text"], {}, ("text",), "label"),
        (["foo", "bar"], {}, ("foo",), "bar"),
        (["Unnamed: 0", "bar", "Sentence"], {}, ("Sentence",), "bar"),
        (["id", "keyword", "location", "text", "target"], {}, ("text",), "target"),
        (["text", "intent", "domain"], {}, ("text",), "intent"),
        (["title", "body", "label"], {"inputs": ("title", "body")}, ("title", "body"), "label"),
        (["a", "b", "text"], {"target": "b"}, ("text",), "b"),
        (["a", "b"], {"inputs": ("b",)}, ("b",), "a"),
        (["text", "label", "user"], {"group": "user"}, ("text",), "label"),
    ],
)
def test_columns_are_guessed(
    columns: list[str], given: Mapping[str, Any], inputs: tuple[str, ...], target: str
) -> None:
    table = from_records([dict.fromkeys(columns, str(number)) for number in range(4)], "it")
    chosen = choose(table, given.get("inputs", ()), given.get("target"), given.get("group"))
    assert (chosen.inputs, chosen.target) == (inputs, target)
    assert set(chosen.guessed) == {
        name for name, asked in (("input", "inputs"), ("target", "target")) if asked not in given
    }


def test_of_two_unknown_columns_the_one_that_repeats_is_the_target() -> None:
    table = from_records([{"colour": "rb"[n % 2], "stone": f"stone {n}"} for n in range(10)], "it")
    assert choose(table, (), None, None).target == "colour"


@pytest.mark.parametrize(
    ("targets", "column", "kind"),
    [
        (["a", "b"] * 3, "x", "classification"),
        (["a", "b", "c"], "label", "classification"),
        (["a", "b", "c"], "x", "generation"),
        ([str(n % 20) for n in range(100)], "x", "classification"),
        ([str(n % 20) for n in range(99)], "x", "generation"),
        ([str(n % 20) for n in range(40)], "intent", "classification"),
        ([str(n % 201) for n in range(2010)], "intent", "generation"),
        (["a" * 61, "b"] * 10, "label", "generation"),
        (["a\nb", "b"] * 10, "label", "generation"),
    ],
)
def test_kind_is_guessed_from_the_targets(targets: list[str], column: str, kind: str) -> None:
    assert guess_kind(targets, column) == kind


@pytest.mark.parametrize(
    ("given", "kind", "targets", "metric"),
    [
        (None, "classification", ["a"] * 7 + ["b"] * 3, "accuracy"),
        (None, "classification", ["a"] * 8 + ["b"] * 2, "macro_f1"),
        (None, "generation", ["42", "7 apples"], "exact_match"),
        (None, "generation", ["a sentence of five words"], "chrf"),
        ("Macro-F1", "classification", ["a", "b"], "macro_f1"),
        ("ROUGE-L", "generation", ["a"], "rouge_l"),
    ],
)
def test_metric_follows_kind_and_targets(given: str | None, kind: str, targets: list[str], metric: str) -> None:
    assert metric_of(given, kind, targets) == metric


def test_several_inputs_may_have_an_empty_field() -> None:
    content = [
        {"title": f"title {n}" if n % 3 else "", "body": f"body {n}", "label": "ab"[n % 2]} for n in range(20)
    ]
    task = read(content, input=["title", "body"])
    assert task.spec.inputs == ("title", "body")
    assert task.spec.instruction == "Classify the title and body as one of the labels."
    assert (
        sum(example.inputs["title"] == "" for s in (task.train, task.validation, task.test) for example in s) == 7
    )


def test_generation_leaves_room_for_the_answer() -> None:
    content = [{"english": f"number {n}", "spanish": f"número {n} " * (1 + n)} for n in range(30)]
    task = read(content)
    assert task.spec.kind == "generation"
    assert task.spec.instruction == "Write the spanish for the english."
    assert isinstance(task.spec.answer, Text)
    longest = max(len(example.target) for example in (*task.train, *task.validation))
    assert longest / 4 < task.spec.answer.max_tokens < longest


WORD_FILES = {
    "it.json": '{"0": "calm", "1": "storm", "2": "unused"}',
    "nested.json": '{"labels": {"0": "calm", "1": "storm"}}',
    "it.csv": "value,word\n0,calm\n1,storm\n",
    "it.tsv": "1\tstorm\n0\tcalm\n",
    "it.toml": '0 = "calm"\n1 = "storm"\n',
    "nested.toml": '[labels]\n0 = "calm"\n1 = "storm"\n',
}


@pytest.mark.parametrize("name", WORD_FILES)
def test_words_for_labels_come_from_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(WORD_FILES[name])
    answer = read(rows(labels=("0", "1")), labels=tmp_path / name).spec.answer
    assert isinstance(answer, Choices)
    assert {label: answer.word(label) for label in answer.labels} == {"0": "calm", "1": "storm"}


def test_words_may_be_a_mapping_with_numbers_and_decide_the_kind() -> None:
    content = [{"text": f"text {n}", "score": n} for n in range(8)]
    content += [{"text": f"more {n}", "score": n} for n in range(8)]
    task = read(content, labels={n: f"level {n}" for n in range(8)}, validation=0)
    assert isinstance(task.spec.answer, Choices)
    assert task.spec.answer.words[2] == "level 2"


def test_underscores_are_spaces_unless_words_would_be_equal() -> None:
    assert read(rows(labels=("top_up", "card_lost"))).spec.answer == Choices(
        ("card_lost", "top_up"), ("card lost", "top up")
    )
    assert read(rows(labels=("top_up", "top up"))).spec.answer == Choices(
        ("top up", "top_up"), ("top up", "top_up")
    )


def test_names_of_class_labels_are_the_words() -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    data = datasets.Dataset.from_list(rows(labels=("neg", "pos")), features=features)
    assert read(data).spec.answer == Choices(("0", "1"), ("neg", "pos"))


def test_what_is_left_out_is_counted() -> None:
    content = [
        *rows(30),
        {"text": "Sentence 0 of WORDS!", "label": "good"},  # row 30 repeats row 0
        {"text": "sentence 1 of words", "label": "good"},  # row 31 conflicts with row 1
        {"text": "sentence 100", "label": "good"},  # row 32 is in the test
        {"text": " ", "label": "good"},  # row 33 is incomplete
    ]
    test = [{"text": "Sentence 100.", "label": "good"}, {"text": "another", "label": "bad"}] * 2
    task = read(content, test=test, drop_incomplete=True, validation=5)
    profile = task.profile
    assert profile is not None
    assert (profile.rows_read, profile.rows_used) == (34, 31)
    assert (profile.incomplete, profile.incomplete_rows) == (1, (33,))
    assert (profile.duplicates, profile.duplicate_rows) == (1, (30,))
    assert (profile.leaks, profile.leak_rows) == (1, (32,))
    assert (profile.conflicts, profile.conflict_samples[0].rows) == (1, (1, 31))
    assert profile.conflict_samples[0].targets == ("bad", "good")
    assert profile.test_duplicates == 2
    assert profile.rows == {"train": 26, "validation": 5, "test": 4}
    assert profile.labels["test"] == {"bad": 2, "good": 2}
    said = " ".join(profile.warnings)
    for part in (
        "1 row without an input",
        "1 row that only repeats an earlier row",
        "conflicting labels (rows 1, 31",
        "below 100",
    ):
        assert part in said
    assert len(task.test) == 4, "a given test file is kept as it is"


def test_imbalance_absent_labels_and_odd_labels_are_said() -> None:
    content = rows(100, labels=("a",) * 24 + ("nan",))
    profile = read(content, validation=2).profile
    assert profile is not None
    said = " ".join(profile.warnings)
    for part in (
        '96 % of the rows have the label "a"',
        'No row of the validation split has the label "nan"',
        'the label "nan", which may stand for a missing target',
        "fewer than 10 rows",
    ):
        assert part in said


def test_few_rows_of_a_label_are_said_of_training_and_test() -> None:
    content = rows(60, labels=("a", "a", "b"))
    lone = [{"text": f"odd thing number {number} {number * 7}", "label": "c"} for number in range(8)]
    profile = read([*content, *lone]).profile
    assert profile is not None
    said = [text for text in profile.warnings if "fewer than 10 rows" in text]
    assert [text.partition(",")[0] for text in said] == ["For training", "In the test"]
    assert 'the label "c" has fewer' in said[0]
    full = read(rows(600)).profile
    assert full is not None
    assert not [text for text in full.warnings if "fewer than 10 rows" in text]


PRICES = [
    {"text": f"item {number} of the list {number * 13}", "price": f"{number * 1.37:.2f}"} for number in range(60)
]


def test_numbers_that_were_taken_for_texts_are_said() -> None:
    profile = read(PRICES).profile
    assert profile is not None
    (notice,) = [text for text in profile.warnings if "different numbers" in text]
    assert notice.startswith('The column "price" holds 60 different numbers; they were taken as texts to write')
    assert "give --kind classification" in notice


def test_numbers_are_not_said_where_the_kind_was_given_or_the_targets_are_words() -> None:
    words = [{**row, "price": f"about {row['price']} euros"} for row in PRICES]
    for profile in (read(PRICES, kind="generation").profile, read(words).profile):
        assert profile is not None
        assert not [text for text in profile.warnings if "different numbers" in text]


def test_profile_survives_json() -> None:
    content = [*rows(30), *rows(2), {"text": "sentence 1, of words", "label": "good"}]
    profile = read(content).profile
    assert profile is not None
    stored = json.loads(json.dumps(profile.to_json()))
    assert Profile.from_json(stored) == profile
    assert Profile.from_json({**stored, "from_a_later_version": 1}) == profile
    assert stored["lengths"]["input"]["max"] == 21


def test_rows_are_stored_and_read_back_exactly(tmp_path: Path) -> None:
    content = [{**row, "user": f"u{number % 9}"} for number, row in enumerate(rows())]
    content[0]["text"] = "line\u2028end\x85 'é' \u0000 \n"
    task = read(content, group="user", test=[{"text": "new", "label": "bad", "user": "v"}] * 3)
    path = tmp_path / "rows.jsonl"
    write_rows(task, path)
    splits = {name: [[e.source, e.row] for e in getattr(task, name)] for name in ("train", "validation", "test")}
    again = read_rows(path, task.spec, name=task.name, source=task.source, profile=task.profile, splits=splits)
    assert again == task
    assert [entry.name for entry in tmp_path.iterdir()] == ["rows.jsonl"]
    splits["train"] = splits["train"][1:]
    with pytest.raises(CandidateError, match=r"train split has other rows"):
        read_rows(path, task.spec, splits=splits)


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("{", "line 41: found '{'; expected an object"),
        ('{"split": "train"}', "line 41"),
        ('{"split": "dev", "source": "data", "row": 1, "inputs": {}, "target": "a", "group": null}', "line 41"),
        (
            '{"split": "test", "source": "data", "row": 1, "inputs": {"body": ""}, "target": "a", "group": null}',
            "line 41: found the input ['body']; expected ['text']",
        ),
        (
            '{"split": "test", "source": "data", "row": 1, "inputs": {"text": ""}, "target": "x", "group": null}',
            "line 41: found the label 'x'",
        ),
    ],
)
def test_damaged_rows_are_refused(line: str, parts: str, tmp_path: Path) -> None:
    task, path = read(rows()), tmp_path / "rows.jsonl"
    write_rows(task, path)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(CandidateError) as caught:
        read_rows(path, task.spec)
    assert parts in str(caught.value)


def test_missing_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CandidateError, match=r"rows\.jsonl: cannot be read"):
        read_rows(tmp_path / "rows.jsonl", read(rows()).spec)


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalog whose `trec` is in a folder here."""
    write_csv(tmp_path / "in.csv", rows(labels=("0", "1")))
    write_csv(tmp_path / "in-test.csv", [{"text": f"asked {n}", "label": n % 2} for n in range(6)])
    entry = replace(
        catalog.data("trec"),
        inputs=("text",),
        target="label",
        instruction="Sort the question.",
        labels={"0": "description", "1": "entity"},
        kind="classification",
        metric="mcc",
        attribution="somebody",
    )
    found = catalog.FetchedData(entry, tmp_path / "in.csv", tmp_path / "in-test.csv")
    monkeypatch.setattr(catalog, "fetch_data", lambda name: found)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_catalog_name_brings_its_columns_words_and_test(fetched: Path) -> None:
    task = read("trec", validation=5)
    assert task.name == "trec"
    assert task.spec.answer == Choices(("0", "1"), ("description", "entity"))
    assert (task.spec.instruction, task.spec.metric) == ("Sort the question.", "mcc")
    assert len(task.test) == 6
    assert task.source["guessed"] == {}
    assert task.source["attribution"] == "somebody"


def test_explicit_arguments_override_the_catalog(fetched: Path) -> None:
    test = [{"text": f"new {n}", "label": 1} for n in range(4)]
    task = read("trec", instruction="Other.", metric="accuracy", labels={"0": "zero", "1": "one"}, test=test)
    assert task.spec.answer == Choices(("0", "1"), ("zero", "one"))
    assert (task.spec.instruction, task.spec.metric, len(task.test)) == ("Other.", "accuracy", 4)
    generation = read("trec", kind="generation")
    assert isinstance(generation.spec.answer, Text)
    assert generation.spec.metric == "exact_match"


def test_a_file_wins_over_a_catalog_name(fetched: Path) -> None:
    (fetched / "trec").mkdir()
    with pytest.raises(DataError, match="trec: found a folder"):
        read("trec")


def test_hub_data_are_read_with_their_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(name: str, configuration: str | None) -> datasets.DatasetDict:
        asked.append((name, configuration))
        hidden = datasets.Dataset.from_list(
            [{"text": "hidden", "label": -1}],
            features=datasets.Features(
                {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["n", "p"])}
            ),
        )
        parts = {"train": rows(), "validation": [{"text": f"v {n}", "label": "good"} for n in range(4)]}
        return datasets.DatasetDict(
            {**{name: datasets.Dataset.from_list(part) for name, part in parts.items()}, "test": hidden}
        )

    monkeypatch.setattr(datasets, "load_dataset", load)
    task = read("hf:org/set:plain")
    assert asked == [("org/set", "plain")]
    assert (task.name, len(task.validation), len(task.test)) == ("set", 4, 8)


def test_no_network_says_what_to_do_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, configuration: str | None) -> None:
        raise ConnectionError("Couldn't reach 'org/set' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(FetchError) as caught:
        read("hf:org/set")
    for part in ("hf:org/set", "Couldn't reach", "network", "CSV", "tunewise data"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [(None, 0.2), ("0.25", 0.25), ("200", 200), (7, 7), (7.0, 7), (0, 0), ("0", 0), ("v.csv", "v.csv")],
)
def test_validation_is_a_share_a_count_or_rows(given: Any, wanted: Any) -> None:
    found = wanted_validation(given)
    assert (found, type(found)) == (wanted, type(wanted))


@pytest.mark.parametrize("given", [-1, 1.5, "2.5", "nan", float("inf"), True])
def test_other_numbers_are_no_validation(given: Any) -> None:
    with pytest.raises(SettingError, match="expected a share between 0 and 1"):
        wanted_validation(given)


def test_encoding_is_named_without_charset_normalizer_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "charset_normalizer", None)
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext,label\nK\xf6ln,a\n")
    with pytest.raises(
        DataError, match=r"a\.csv, line 2: .* 0xf6 at byte offset 15; .* cp1252\. Save it as UTF-8"
    ):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("text", "encoding", "named"),
    [
        ("Mañana iré al café\n", "latin-1", "cp1252"),
        ("it’s fine\n", "cp1252", "cp1252"),
        ("Привет, я потерял карту вчера\n" * 9, "cp1251", "cp1251"),
        ("注文をキャンセルしたいです\n" * 9, "shift_jis", "cp932"),
        ("我想取消订单,你好世界\n" * 9, "gb18030", "gb18030"),
    ],
)
def test_the_encoding_found_is_named(text: str, encoding: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,label\n" + text.encode(encoding))
    with pytest.raises(DataError, match=f"line 2: not UTF-8: .* seems to be {named}"):
        read(tmp_path / "a.csv")


def test_reading_needs_no_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=type("DataFrame", (), {})))
    assert len(read(rows()).test) == 8
