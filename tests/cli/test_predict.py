"""`tunewise predict`: rows in, rows out."""

import csv
import json
from pathlib import Path

import pytest

from tests.cli.fake_api import FakeApi, run
from tunewise.adapted import Prediction
from tunewise.errors import WorkError

CSV = 'id,text,note\n7,"one, two",x\n3,"three\nfour",\n'


def test_columns_and_order_are_kept(api: FakeApi, tmp_path: Path) -> None:
    Path("new.csv").write_text(CSV)
    result = run("predict", "runs/t", "new.csv", "-o", "out.csv")
    assert (result.exit_code, result.stdout) == (0, "")
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
        ([], "found neither"),
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


def test_failed_work_leaves_the_old_output(api: FakeApi, tmp_path: Path) -> None:
    Path("new.csv").write_text("text\none\n")
    Path("out.csv").write_text("old")
    api.answers["predict"] = WorkError("no memory")
    assert run("predict", "runs/t", "new.csv", "-o", "out.csv").exit_code == 1
    assert Path("out.csv").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "out.csv"]
