"""`tunewise predict`: rows in, rows out."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.fake_api import SPEC, FakeApi, run
from tunewise.adapted import Prediction
from tunewise.errors import WorkError
from tunewise.task import Choices

CSV = 'id,text,note\n7,"one, two",x\n3,"three\nfour",\n'


def test_columns_and_order_are_kept(api: FakeApi, tmp_path: Path) -> None:
    Path("new.csv").write_text(CSV)
    result = run("predict", "runs/t", "new.csv", "-o", "out.csv")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "wrote 2 rows to out.csv\n")
    name, given, _ = api.only_call()
    rows = [{"id": "7", "text": "one, two", "note": "x"}, {"id": "3", "text": "three\nfour", "note": ""}]
    assert (name, given) == ("predict", (Path("runs/t"), rows))
    with Path("out.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["id", "text", "note", "prediction", "probability"],
            ["7", "one, two", "x", "a", "0.904731"],
            ["3", "three\nfour", "", "a", "0.904731"],
        ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "out.csv"]


def test_without_o_the_answer_goes_to_standard_output(api: FakeApi) -> None:
    Path("new.tsv").write_text("text\none\n")
    assert run("predict", "runs/t", "new.tsv").stdout == "text\tprediction\tprobability\none\ta\t0.904731\n"


def test_the_suffix_of_the_output_decides_its_format(api: FakeApi) -> None:
    Path("new.jsonl").write_text('{"text": "é", "n": 1}\n\n{"text": null, "n": [1, 2]}\n')
    run("predict", "runs/t", "new.jsonl", "-o", "out.jsonl")
    assert api.only_call()[1][1] == [{"text": "é", "n": "1"}, {"text": "", "n": "[1, 2]"}]
    assert [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()] == [
        {"text": "é", "n": 1, "prediction": "a", "probability": 0.904731},
        {"text": None, "n": [1, 2], "prediction": "a", "probability": 0.904731},
    ]
    run("predict", "runs/t", "new.jsonl", "-o", "out.tsv")
    assert Path("out.tsv").read_text().splitlines()[2] == "\t[1, 2]\ta\t0.904731"


def test_parquet_is_read(api: FakeApi) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["one", "two"], "n": [1, 2]}), "new.parquet")
    assert run("predict", "runs/t", "new.parquet").stdout.splitlines()[1] == "one,1,a,0.904731"


def test_free_text_has_valid_instead_of_a_probability(api: FakeApi) -> None:
    api.answers["predict"] = [Prediction("hola", valid=False)]
    assert run("predict", "runs/t", "-", stdin="hello\n").stdout == "text,prediction,valid\nhello,hola,false\n"


def test_a_taken_column_name_is_kept(api: FakeApi) -> None:
    result = run("predict", "runs/t", "-", "--format", "csv", stdin="text,prediction\none,old\n")
    header, row = result.stdout.splitlines()
    assert header == "text,prediction,tunewise_prediction,probability"
    assert row == "one,old,a,0.904731"


def test_lines_of_standard_input_are_texts(api: FakeApi) -> None:
    result = run("predict", "runs/t", "-", stdin="one, two\r\n\nthree\n")
    assert api.only_call()[1][1] == ["one, two", "", "three"]
    assert result.stdout.splitlines()[1:] == ['"one, two",a,0.904731', ",a,0.904731", "three,a,0.904731"]


@pytest.mark.parametrize("arguments", [["--text", "my card"], ["my card"], ["card"], ["Why? A.B."]])
def test_one_text(api: FakeApi, arguments: list[str]) -> None:
    result = run("predict", "runs/t", *arguments)
    assert api.only_call()[1][1] == [arguments[-1]]
    assert result.stdout == "a\t0.905\n"


def test_one_row_of_several_columns(api: FakeApi) -> None:
    api.answers["spec_of"] = replace(SPEC, inputs=("title", "body"))
    run("predict", "runs/t", "--text", '{"title": "A", "body": "B"}')
    assert api.only_call()[1][1] == [{"title": "A", "body": "B"}]


def test_one_text_to_a_file_is_a_table(api: FakeApi) -> None:
    assert run("predict", "runs/t", "--text", "my card", "-o", "out.csv").exit_code == 0
    assert Path("out.csv").read_text() == "text,prediction,probability\nmy card,a,0.904731\n"


def test_a_byte_order_mark_is_no_part_of_the_first_column(api: FakeApi) -> None:
    Path("new.csv").write_bytes(b"\xef\xbb\xbftext\r\none\r\n")
    run("predict", "runs/t", "new.csv")
    assert api.only_call()[1][1] == [{"text": "one"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "new.csv: "),
        (b"text\n", "new.csv: "),
        (b"a,b\n1,2\n3\n", "line 3"),
        (b'a,b\n1,"2\n3,4\n', "new.csv"),
        (b"a\n\xe9t\xe9\n", "UTF-8"),
        (b"a,a\n1,2\n", "new.csv"),
    ],
)
def test_bad_rows_are_refused(api: FakeApi, content: bytes, message: str) -> None:
    Path("new.csv").write_bytes(content)
    result = run("predict", "runs/t", "new.csv", "-o", "out.csv")
    assert result.exit_code == 2
    assert message in result.stderr
    assert api.calls == []
    assert not Path("out.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "the text to predict for is empty"),
        (["--text", " "], "the text to predict for is empty"),
        (["new.csv", "--text", "x"], "found both"),
        (["gone.csv"], "gone.csv"),
        (["new.csv", "-o", "out.xlsx"], "found the suffix '.xlsx'; expected .csv, .tsv or .jsonl"),
        (["new.csv", "-o", "no/where.csv"], "no such folder"),
        (["new.csv", "-o", "new.csv"], "this is the file that is read"),
        (["new.csv", "--format", "csv"], "--format is for standard input"),
        (["-", "--format", "cvs"], 'unknown format "cvs". Did you mean "csv"?'),
    ],
)
def test_impossible_requests_are_refused(api: FakeApi, arguments: list[str], message: str) -> None:
    Path("new.csv").write_text("text\none\n")
    result = run("predict", "runs/t", *arguments, stdin="x\n")
    assert result.exit_code == 2
    assert message in result.stderr
    assert api.calls == []


@pytest.mark.parametrize(("content", "line"), [('{"a": 1}\n{', "line 2"), ("[1]", "line 1")])
def test_a_bad_line_of_json_is_named(api: FakeApi, content: str, line: str) -> None:
    Path("new.jsonl").write_text(content)
    result = run("predict", "runs/t", "new.jsonl")
    assert result.exit_code == 2
    assert line in result.stderr


CODES = replace(SPEC, answer=Choices(("a", "b"), ("arrival", "billing")))


def test_a_code_is_shown_with_its_word(api: FakeApi) -> None:
    api.answers["spec_of"] = CODES
    assert run("predict", "runs/t", "my card").stdout == "a (arrival)\t0.905\n"
    lines = run("predict", "runs/t", "-", stdin="one\n").stdout.splitlines()
    assert lines == ["text,prediction,prediction_word,probability", "one,a,arrival,0.904731"]


def test_a_label_that_only_spells_its_word_otherwise_needs_none(api: FakeApi) -> None:
    api.answers["spec_of"] = replace(SPEC, answer=Choices(("a", "b_c"), ("a", "b c")))
    assert run("predict", "runs/t", "-", stdin="one\n").stdout.startswith("text,prediction,probability\n")


def test_no_added_column_takes_the_name_of_one_that_came_in(api: FakeApi) -> None:
    api.answers["spec_of"] = CODES
    content = "text,prediction_word,tunewise_prediction_word\none,x,y\n"
    header, row = run("predict", "runs/t", "-", "--format", "csv", stdin=content).stdout.splitlines()
    names = (
        "text prediction_word tunewise_prediction_word prediction tunewise_tunewise_prediction_word probability"
    )
    assert header.split(",") == names.split()
    assert row == "one,x,y,a,arrival,0.904731"


def test_empty_inputs_are_counted_and_named(api: FakeApi) -> None:
    result = run("predict", "runs/t", "-", stdin="one\n\n \n" + "\n" * 6)
    assert result.exit_code == 0
    assert "warning: standard input: 8 rows of 9 have no input (rows 1, 2, 3, 4, 5 and 3 others" in result.stderr
    assert "1 row of 2 has no input (row 1, counted from 0)" in run("predict", "runs/t", stdin="a\n\n").stderr
    assert "warning" not in run("predict", "runs/t", "-", stdin="one\n").stderr


def test_what_is_piped_in_needs_no_name(api: FakeApi) -> None:
    assert run("predict", "runs/t", stdin="one\n").stdout == run("predict", "runs/t", "-", stdin="one\n").stdout
    result = run("predict", "runs/t", stdin="")
    assert result.exit_code == 2
    assert "standard input: found nothing; expected at least one row. Name a file" in result.stderr


def test_a_missing_column_is_seen_before_anything_is_loaded(api: FakeApi) -> None:
    Path("new.csv").write_text("txt\none\n")
    result = run("predict", "runs/t", "new.csv")
    assert result.exit_code == 2
    assert 'new.csv: input column "text" is missing; found txt' in result.stderr
    assert [name for name, *_ in api.calls] == ["spec_of"]


def test_failed_work_leaves_the_old_output(api: FakeApi, tmp_path: Path) -> None:
    Path("new.csv").write_text("text\none\n")
    Path("out.csv").write_text("old")
    api.answers["predict"] = WorkError("no memory")
    assert run("predict", "runs/t", "new.csv", "-o", "out.csv").exit_code == 1
    assert Path("out.csv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "out.csv"]
