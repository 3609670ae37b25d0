"""What cannot be read, and what the message says about it: where, what was found, what to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tunewise.errors import DataError, RequestError, SettingError
from tunewise.reading import read

GOOD = "text,label\n" + "".join(f"sentence {n},{'ab'[n % 2]}\n" for n in range(20))


@dataclass(frozen=True)
class Bad:
    """A file that is no task."""

    content: str | bytes
    parts: tuple[str, ...]
    """What the message must contain."""
    name: str = "it.csv"
    settings: dict[str, Any] = field(default_factory=dict)
    error: type[RequestError] = DataError


BAD = {
    "empty": Bad("", ("empty (0 bytes)", "expected column names")),
    "blank": Bad("\n \n", ("empty (3 bytes)",)),
    "empty jsonl": Bad("", ("empty (0 bytes)",), "it.jsonl"),
    "empty parquet": Bad("", ("empty (0 bytes)",), "it.parquet"),
    "header only": Bad("text,label\n", ("column names (text, label) but no rows",)),
    "too few fields": Bad("text,label\na,b\nc\n", ("line 3", "found 1 field, expected 2 (text, label)")),
    "too many fields": Bad("text,label\na,b\nc,d,e\nf,g,h\n", ("line 3", "found 3 fields", "on line 4")),
    "ragged after a long field": Bad('text,label\n"a\nb",c\nd\n', ("line 4", "found 1 field")),
    "ragged tsv": Bad("text\tlabel\na\tb\tc\n", ("line 2", "found 3 fields"), "it.tsv"),
    "open quote": Bad('text,label\na,b\n"open,b\nc,d\n', ("line 3", "never closed")),
    "open quote after a long field": Bad('text,label\n"a\nb","c\nd,e\n', ("line 3", "never closed")),
    "very late end": Bad('text,label\n"open,b\n' + "c,d\n" * 50_000, ("line 2", "never closed")),
    "quote closed by the next": Bad('text,label\n"open,b\nc,d\n"x",y\n', ("line 2", "ends on line 4")),
    "text after a quote": Bad('text,label\n"a" b,c\n', ("line 2", "text follows a closing quote", "twice")),
    "open quote in tsv": Bad('text\tlabel\n"a\tb\tc\nd\te\n', ("line 2", "never closed"), "it.tsv"),
    "latin-1": Bad("text,label\na,b\nKöln, près de la forêt,c\n".encode("latin-1"), ("line 3", "0xf6", "offset 16",
                   "cp1252", "UTF-8")),
    "utf-16": Bad(GOOD.encode("utf-16"), ("UTF-16", "byte order mark", "iconv")),
    "utf-16 without mark": Bad(GOOD.encode("utf-16-le"), ("UTF-16 without",)),
    "utf-32": Bad(GOOD.encode("utf-32"), ("UTF-32",)),
    "nul": Bad("text,label\na\0b,c\n", ("line 2", "NUL byte at byte offset 12")),
    "bad json line": Bad('{"text": "a"}\n\n{"text": \n', ("line 3", "not valid JSON", '{"text":'), "it.jsonl"),
    "json line is a list": Bad('{"text": "a"}\n[1]\n', ("line 2", "a list", "expected an object"), "it.jsonl"),
    "json line is null": Bad("null\n", ("line 1", "found null"), "it.ndjson"),
    "json object": Bad('{"text": ["a"]}', ("found an object", "expected a list of objects"), "it.json"),
    "json lines as json": Bad('{"a": 1}\n{"a": 2}\n', ("line 2", "JSON Lines", ".jsonl"), "it.json"),
    "json list of texts": Bad('["a"]', ("row 0", "found a text"), "it.json"),
    "deep json": Bad("[" * 100_000, ("nested too deeply",), "it.json"),
    "half an emoji": Bad('{"text": "a\\ud83d", "label": "b"}\n', ("half a surrogate", "line 1"), "it.jsonl"),
    "no parquet": Bad("PAR1 something", ("cannot be read as Parquet",), "it.parquet"),
    "unknown suffix": Bad("a", ("'.xlsx'", ".csv", ".parquet", "Convert"), "it.xlsx"),
    "same column twice": Bad("text,label,text\na,b,c\n", ("line 1", "column name text more than once", "Rename")),
    "one column": Bad("text\na\nb\n", ("only one column (text)", "delimiter")),
    "which columns": Bad("a,b,c\n1,2,3\n", ("Found: a, b, c", "--input COL", "--target COL", "target=")),
    "which input": Bad("a,b,c\n1,2,3\n", ("--input COL",), settings={"target": "c"}),
    "wrong input": Bad(GOOD, ('no column "txt"', 'Did you mean "text"?'), settings={"input": "txt"}),
    "wrong target": Bad(GOOD, ('no column "zzz". Found: text, label',), settings={"target": "zzz"}),
    "wrong group": Bad(GOOD, ('no column "user"',), settings={"group": "user"}),
    "input is target": Bad(GOOD, ("'text' is named twice",), settings={"input": "text", "target": "text"}),
    "no target": Bad("text,label\na,x\nb,\nc, \nd,y\n", ("2 rows have no target", '"label"', "rows 1, 2",
                     "lines 3, 4", "--drop-incomplete", "drop_incomplete=True")),
    "no input": Bad("text,label\n,x\nb,y\n", ("1 row has no input", "row 0", "line 2")),
    "no input of two": Bad("title,body,label\n,,x\na,,y\n", ("1 row has no input (columns", "row 0"),
                           settings={"input": ["title", "body"]}),
    "no group": Bad("text,label,user\na,x,u\nb,y,\n", ("no group", "row 1"), settings={"group": "user"}),
    "nothing complete": Bad("text,label\na,\n", ("no complete row",), settings={"drop_incomplete": True}),
    "one label": Bad("text,label\na,x\nb,x\nc,x\n", ('one label only, "x", in all 3 rows', "--target")),
    "rare labels": Bad("text,label\na,x\nb,x\nc,y\nd,z\n", ('labels "y", "z"', "rows 2, 3", "at least two")),
    "rare after cleaning": Bad("text,label\na,x\nb,x\nc,y\nC!,y\n", ('label "y"', "1 repeated or leaked")),
    "too few rows": Bad("text,label\na,long one\nb,two\nc,three\n", ("too few rows", "found 3 rows", "--test"),
                        settings={"kind": "generation"}),
    "one group": Bad("text,label,user\n" + "".join(f"s {n},{'ab'[n % 2]},u\n" for n in range(20)),
                     ("too few rows", "1 sets of rows that belong together"), settings={"group": "user"}),
    "too many for validation": Bad(GOOD, ("validation=50", "at most 14"), settings={"validation": 50}),
    "too many for training": Bad(GOOD, ("train_rows=99", "found 13 rows"), settings={"train_rows": 99}),
    "unknown labels in the test": Bad(GOOD, ('label "zz"', "row 1", 'that', '"a", "b"'),
        settings={"test": [{"text": "new", "label": "a"}, {"text": "newer", "label": "zz"}]}),
    "unknown labels in validation": Bad(GOOD, ("given for validation", 'label "zz"'),
        settings={"validation": [{"text": "newer", "label": "zz"}]}),
    "test without the column": Bad(GOOD, ("given for test", 'no column "label"'),
        settings={"test": [{"text": "new"}]}),
    "all leaked": Bad(GOOD, ("every row also stands",), settings={
        "test": [{"text": f"Sentence {n}.", "label": "a"} for n in range(20)]}),
    "label without a word": Bad(GOOD, ('no word is given for the label "b"',), settings={"labels": {"a": "x"}}),
    "same word twice": Bad(GOOD, ("one word for several labels", 'a → "x", b → "x"'),
                           settings={"labels": {"a": "x", "b": "x "}}),
    "empty word": Bad(GOOD, ("empty word for the label 'b'",), settings={"labels": {"a": "x", "b": " "}}),
    "labels file missing": Bad(GOOD, ("none.json", "cannot be read"), settings={"labels": "none.json"}),
    "labels of generation": Bad(GOOD, ("classification only",),
                                settings={"labels": {"a": "x"}, "kind": "generation"}),
    "test as a share": Bad(GOOD, ("test=0.2",), settings={"test": 0.2}, error=SettingError),
    "unknown kind": Bad(GOOD, ('Did you mean "generation"?',), settings={"kind": "generatoin"},
                        error=SettingError),
    "unknown metric": Bad(GOOD, ('Did you mean "accuracy"?',), settings={"metric": "acuracy"}, error=SettingError),
    "metric of another kind": Bad(GOOD, ("metric=bleu", "accuracy, macro_f1, mcc"), settings={"metric": "bleu"},
                                  error=SettingError),
    "no training rows": Bad(GOOD, ("train_rows=0",), settings={"train_rows": 0}, error=SettingError),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_useful_message(case: str, tmp_path: Path) -> None:
    bad = BAD[case]
    path = tmp_path / bad.name
    path.write_bytes(bad.content.encode() if isinstance(bad.content, str) else bad.content)
    with pytest.raises(bad.error) as caught:
        read(path, **bad.settings)
    message = str(caught.value)
    assert [part for part in bad.parts if part not in message] == [], message
    assert len(message) < 700, message


@pytest.mark.parametrize(
    ("data", "parts"),
    [
        ("tickts.csv", 'tickts.csv: no such file. Did you mean "tickets.csv"?'),
        ("tickets", 'Did you mean "tickets.csv"?'),
        ("nowhere/tickets.csv", "there is no folder nowhere"),
        ("sub", "found a folder"),
        ("completely-else.csv", "no such file; expected a path"),
        ("x" * 5000, "unknown data set"),
        ("x" * 5000 + ".csv", "no such file"),
        (3, "found data of the type int"),
        ([], "found no rows"),
        (["a"], "the list, row 0 (counted from 0): found a text"),
        ({"a": [], "b": []}, "found data of the type dict"),
    ],
)
def test_what_is_not_there_is_refused(
    data: Any, parts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tickets.csv").write_text(GOOD)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError) as caught:
        read(data)
    assert parts in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("w.json", "[1]", "expected an object"),
        ("w.json", "{", "w.json: cannot be read"),
        ("w.json", '{"a": ["x"], "b": "y"}', "expected one word or phrase"),
        ("w.csv", "a,x\nb\n", "line 2: found 1 field"),
        ("w.csv", "a,x\na,y\n", "two words for the label 'a'"),
        ("w.toml", "a = ", "w.toml: cannot be read"),
        ("w.yaml", "a: x", "'.yaml'"),
    ],
)
def test_a_bad_file_of_words_is_refused(name: str, content: str, parts: str, tmp_path: Path) -> None:
    (tmp_path / "it.csv").write_text(GOOD)
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "it.csv", labels=tmp_path / name)
    assert parts in str(caught.value)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "it.csv").write_text(GOOD)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"it\.csv: cannot be read \(Permission denied\)"):
        read(tmp_path / "it.csv")
