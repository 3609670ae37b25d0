"""What it means that two inputs are alike: the TF-IDF features that the baselines without a model share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def joined(inputs: Mapping[str, str]) -> str:
    """All input fields of an example as one text."""
    return "\n".join(inputs.values())


def vectorizer() -> Any:
    """Sublinear TF-IDF over words and word pairs; single characters count too, so no text is empty."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[^\w\s]")
