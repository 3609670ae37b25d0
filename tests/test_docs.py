"""The documentation says what the code says."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from tunewise.methods import names, registered
from tunewise.methods.table import _parameters, markdown

ROOT = Path(__file__).parents[1]


def test_the_table_of_methods_is_the_code() -> None:
    assert (ROOT / "docs" / "methods.md").read_text() == markdown()


def test_every_hyperparameter_is_explained() -> None:
    for method in registered().values():
        fields = {field.name for field in dataclasses.fields(method)}
        assert {name for name, _, text in _parameters(method) if text} == fields, method.name


def test_the_readme_tree_names_every_room() -> None:
    readme = (ROOT / "README.md").read_text()
    for path in (ROOT / "tunewise").iterdir():
        if path.name.startswith(("_", ".")):
            continue
        assert re.search(rf"^\s+{re.escape(path.name)}/?\s", readme, re.MULTILINE), path.name


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_readme_names_every_method() -> None:
    readme = (ROOT / "README.md").read_text()
    assert all(f"`{name}`" in readme for name in names())
