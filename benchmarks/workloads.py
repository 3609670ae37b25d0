"""What is trained on and scored: tasks, prompts, and the very tokens that every side gets.

TREC and the sentence pairs come from Tunewise's catalog. Banking77, CLINC150 and NLU++ come in no package: their
files stand in a folder named by `--data` or `TUNEWISE_BENCH_DATA`; docs/benchmarks.md says where to get them.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import DEFAULT_MODEL, BenchError

if TYPE_CHECKING:
    from tunewise import Task
    from tunewise.adapted import AdaptedModel
    from tunewise.prompt import Prompt

DATA_VARIABLE = "TUNEWISE_BENCH_DATA"
DEFAULT_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RANDOM: dict[str, dict[str, int]] = {
    "random-1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
    },
}
"""Models that are drawn: speed does not ask what weights are."""
OUT_OF_SCOPE = ("oos", "out_of_scope")
"""How files spell CLINC150's questions that belong to no intent."""


def data_folder(flag: str | None) -> Path:
    """The folder with the data that come in no package: the flag, the variable, or `../shared/data`."""
    return Path(flag or os.environ.get(DATA_VARIABLE) or DEFAULT_DATA)


def data_file(folder: Path, name: str) -> Path:
    """A file of the data folder; raises BenchError saying how to get it."""
    path = folder / name
    if not path.is_file():
        raise BenchError(
            f"{name} is not in {folder}. Get it as docs/benchmarks.md says, and name the folder with --data or "
            f"{DATA_VARIABLE}."
        )
    return path


def trec(rows: int, test_rows: int) -> Task:
    """TREC questions: `rows` to train on, the first `test_rows` of the official test split."""
    from tunewise import Task

    return _cut(Task.read("trec", validation=0, train_rows=rows), test_rows)


def nlupp(folder: Path, rows: int, test_rows: int) -> Task:
    """NLU++ banking: a sentence, and its intents and slots as JSON."""
    from tunewise import Task

    def read(name: str) -> list[dict[str, str]]:
        lines = data_file(folder, name).read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines if line]
        return [{"text": record["text"], "answer": _answer(record)} for record in records]

    task = Task.read(
        read("nlupp-banking-train.jsonl"),
        input="text",
        target="answer",
        kind="generation",
        metric="exact_match",
        instruction="Give the intents and the slots of the customer's sentence as JSON.",
        test=read("nlupp-banking-test.jsonl"),
        validation=0,
        train_rows=rows,
        name="nlupp",
    )
    return _cut(task, test_rows)


def intents(folder: Path, name: str, rows: int, test_rows: int) -> Task:
    """Banking77 or CLINC150 (without its out-of-scope rows), labels spelt with spaces."""
    from tunewise import Task

    target = {"banking77": "category", "clinc150": "intent"}[name]

    def read(split: str) -> list[dict[str, str]]:
        with data_file(folder, f"{name}-{split}.csv").open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
        return [{"text": row["text"], "label": row[target]} for row in found if row[target] not in OUT_OF_SCOPE]

    train = read("train")
    task = Task.read(
        train,
        input="text",
        target="label",
        kind="classification",
        labels={row["label"]: row["label"].replace("_", " ") for row in train},
        instruction="Classify the sentence by what the user wants.",
        test=_evenly(read("test"), test_rows),
        validation=0,
        train_rows=rows,
        name=name,
    )
    return task


def pack_task(task: Task, prompt: Prompt, folder: Path) -> dict[str, Any]:
    """A task, its prompt and the folder of the base model as plain values, for other processes."""
    return {
        "folder": str(folder),
        "name": task.name,
        "spec": task.spec.to_json(),
        "prompt": prompt.to_json(),
        "train": [[dict(example.inputs), example.target] for example in task.train],
        "test": [[dict(example.inputs), example.target] for example in task.test],
    }


def unpack_task(packed: Mapping[str, Any]) -> Task:
    """The inverse of `pack_task`, without validation rows: training keeps its last step."""
    from tunewise import Dataset, Example, Task, TaskSpec

    splits = [
        Dataset(tuple(Example(number, inputs, target) for number, (inputs, target) in enumerate(packed[name])))
        for name in ("train", "test")
    ]
    return Task(TaskSpec.from_json(packed["spec"]), splits[0], Dataset(()), splits[1], name=packed["name"])


def write_prepared(job: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    """Keep what `prepare` made for every side where `job` says."""
    Path(job["prepared"]).write_text(json.dumps(record))


def read_prepared(job: Mapping[str, Any]) -> dict[str, Any]:
    """What `prepare` made for every side."""
    record: dict[str, Any] = json.loads(Path(job["prepared"]).read_text())
    return record


def adapted_model(packed: Mapping[str, Any]) -> AdaptedModel:
    """The base model behind the prompt of a packed task, without weights of its own."""
    from tunewise import Choices, TaskSpec
    from tunewise.adapted import AdaptedModel, Constraint, reference
    from tunewise.prompt import Prompt

    spec = TaskSpec.from_json(packed["spec"])
    constraint = Constraint() if isinstance(spec.answer, Choices) else None
    return AdaptedModel(spec, reference(packed["folder"]), Prompt.from_json(packed["prompt"]), constraint)


def dtype_name(adapted: AdaptedModel) -> str:
    """The dtype that Tunewise computes in on this machine; peers are given the same."""
    from tunewise.adapted import loaded

    return str(loaded(adapted.base).dtype).removeprefix("torch.")


def model_folder(name: str) -> Path:
    """The base model as a Hugging Face folder, which is what peers load; `RANDOM` is drawn when first wanted."""
    from tunewise import catalog

    return _drawn(name) if name in RANDOM else Path(catalog.resolve_model(name))


def _drawn(name: str) -> Path:
    """A Llama of a given size with random weights and the default model's tokenizer, kept in the cache folder."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from tunewise import catalog
    from tunewise.fetching import cache_folder
    from tunewise.whole import put_folder

    folder = Path(cache_folder(), "models", name)
    if folder.is_dir():
        return folder
    source = Path(catalog.resolve_model(DEFAULT_MODEL))
    ends = {key: json.loads((source / "config.json").read_text())[key] for key in ("bos_token_id", "eos_token_id")}
    tokenizer = AutoTokenizer.from_pretrained(source)
    config = LlamaConfig(**RANDOM[name], vocab_size=len(tokenizer), tie_word_embeddings=True, **ends)
    torch.manual_seed(0)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as place:
        whole = Path(place, name)
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        put_folder(whole, folder)
    return folder


def without_chat_template(folder: Path, copy: Path) -> Path:
    """A copy of a model folder whose tokenizer knows no turns: prompts become plain text."""
    copy.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name != "chat_template.jinja":
            # Weights are linked, not copied; the tokenizer's settings are rewritten below.
            if path.suffix == ".safetensors":
                (copy / path.name).symlink_to(path.resolve())
            else:
                shutil.copy(path, copy / path.name)
    settings = json.loads((copy / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (copy / "tokenizer_config.json").write_text(json.dumps(settings))
    return copy


def shared_tokens(prompts: Sequence[Sequence[int]]) -> int:
    """How many leading tokens all prompts have in common."""
    first, *rest = prompts
    length = len(first)
    for prompt in rest:
        length = min(length, len(prompt))
        length = next((place for place in range(length) if prompt[place] != first[place]), length)
    return length


def _answer(record: Mapping[str, Any]) -> str:
    return json.dumps({"intents": record["intents"], "slots": record["slots"]}, ensure_ascii=False)


def _cut(task: Task, test_rows: int) -> Task:
    return replace(task, test=task.test.take(range(min(test_rows, len(task.test)))))


def _evenly(rows: list[dict[str, str]], count: int) -> list[dict[str, str]]:
    """`count` rows from all over a file that is sorted by label."""
    step = max(1, len(rows) // count)
    return rows[::step][:count]
