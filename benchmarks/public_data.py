"""Make the data files that come in no package out of clones of the repositories that publish them.

    git clone https://github.com/PolyAI-LDN/task-specific-datasets
    git clone https://github.com/clinc/oos-eval
    python benchmarks/public_data.py --polyai task-specific-datasets --clinc oos-eval --out bench-data

Banking77 and NLU++ are CC BY 4.0, CLINC150 is CC BY 3.0; none of them is part of this project.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

TRAIN_FOLDS, TEST_FOLDS = range(14), range(14, 20)


def banking77(clone: Path, out: Path) -> None:
    """Copy the two files, which have the columns `text` and `category` already."""
    for split in ("train", "test"):
        shutil.copy(clone / "banking_data" / f"{split}.csv", out / f"banking77-{split}.csv")


def nlupp(clone: Path, out: Path) -> None:
    """Join the folds of the banking domain; a slot's value is its text."""
    for split, folds in (("train", TRAIN_FOLDS), ("test", TEST_FOLDS)):
        files = [clone / "nlupp" / "data" / "banking" / f"fold{fold}.json" for fold in folds]
        records = [record for file in files for record in json.loads(file.read_text(encoding="utf-8"))]
        lines = [json.dumps(_plain(record), ensure_ascii=False) + "\n" for record in records]
        (out / f"nlupp-banking-{split}.jsonl").write_text("".join(lines), encoding="utf-8")


def clinc150(clone: Path, out: Path) -> None:
    """The questions that belong to an intent."""
    published = json.loads((clone / "data" / "data_full.json").read_text(encoding="utf-8"))
    for split in ("train", "test"):
        _write_csv(out / f"clinc150-{split}.csv", ("text", "intent"), published[split])


def _plain(record: Mapping[str, Any]) -> dict[str, Any]:
    slots = {name: value["text"] for name, value in record.get("slots", {}).items()}
    return {"text": record["text"], "intents": record.get("intents", []), "slots": slots}


def _write_csv(path: Path, head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


def main() -> None:
    """Read the flags and write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--polyai", type=Path, help="clone of PolyAI-LDN/task-specific-datasets")
    parser.add_argument("--clinc", type=Path, help="clone of clinc/oos-eval")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    if flags.polyai:
        banking77(flags.polyai, flags.out)
        nlupp(flags.polyai, flags.out)
    if flags.clinc:
        clinc150(flags.clinc, flags.out)


if __name__ == "__main__":
    main()
