"""Every metric against its reference implementation, and every resampler against scoring the drawn rows."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewise import metrics
from tunewise.errors import DataError, SettingError

LABELS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcx")), min_size=1, max_size=40)
WORDS = ["the", "cat", "sat", "el", "niño", "comió", ".", "¿qué?", "it's"]
SENTENCE = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
TEXTS = st.lists(st.tuples(SENTENCE, SENTENCE.filter(bool)), min_size=1, max_size=12)


def split(pairs: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [output for output, _ in pairs], [target for _, target in pairs]


def test_names_follow_the_kind() -> None:
    assert metrics.names("classification") == ["accuracy", "macro_f1", "mcc"]
    assert metrics.names("generation") == ["exact_match", "chrf", "bleu", "rouge_l"]
    assert metrics.names() == metrics.names("classification") + metrics.names("generation")
    assert [metrics.get(name).name for name in metrics.names()] == metrics.names()


@pytest.mark.parametrize("spelling", ["macro_f1", "Macro-F1", " MACRO-f1 "])
def test_get_reads_dashes_and_case(spelling: str) -> None:
    assert metrics.get(spelling).name == "macro_f1"


def test_an_unknown_metric_is_named_with_the_nearest() -> None:
    with pytest.raises(SettingError, match='unknown metric "accurcy"\\. Did you mean "accuracy"'):
        metrics.get("accurcy")


@pytest.mark.parametrize("name", metrics.names())
def test_no_rows_and_unequal_lengths_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="no rows"):
        metrics.get(name).score([], [])
    with pytest.raises(DataError, match="found 2 outputs and 1 targets"):
        metrics.get(name).resampler(["a", "b"], ["a"])


@given(LABELS)
@settings(max_examples=60, deadline=None)
def test_classification_equals_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    from sklearn.metrics import confusion_matrix, f1_score

    outputs, targets = split(pairs)
    scores = metrics.all_scores("classification", outputs, targets)
    macro = f1_score(targets, outputs, labels=sorted(set(targets)), average="macro", zero_division=0)
    assert scores["macro_f1"] == pytest.approx(macro)
    assert scores["accuracy"] == np.mean([o == t for o, t in zip(outputs, targets, strict=True)])
    # MCC as a correlation of indicator variables, straight from the confusion matrix (Gorodkin 2004).
    labels = [*sorted({*targets, *outputs}), "never seen"]  # two at least, or scikit-learn warns
    table = confusion_matrix(targets, outputs, labels=labels).astype(float)
    true, said, n = table.sum(axis=1), table.sum(axis=0), table.sum()
    below = np.sqrt((n**2 - true @ true) * (n**2 - said @ said))
    assert scores["mcc"] == pytest.approx((np.trace(table) * n - true @ said) / below if below else 0.0)


def test_mcc_equals_scikit_learn_on_a_known_case() -> None:
    from sklearn.metrics import matthews_corrcoef

    outputs, targets = list("abbacabcca"), list("abcacabbca")
    assert metrics.get("mcc").score(outputs, targets) == pytest.approx(matthews_corrcoef(targets, outputs))


def test_macro_f1_sees_what_accuracy_hides() -> None:
    outputs, targets = ["ham"] * 100, ["ham"] * 95 + ["spam"] * 5
    scores = metrics.all_scores("classification", outputs, targets)
    assert scores["accuracy"] == pytest.approx(0.95)
    assert scores["macro_f1"] == pytest.approx(0.5 * (2 * 95 / 195))
    assert scores["mcc"] == 0


@given(TEXTS)
@settings(max_examples=60, deadline=None)
def test_chrf_and_bleu_equal_sacrebleu(pairs: list[tuple[str, str]]) -> None:
    import sacrebleu

    outputs, targets = split(pairs)
    chrf = sacrebleu.corpus_chrf(outputs, [targets]).score / 100
    bleu = sacrebleu.corpus_bleu(outputs, [targets], force=True).score / 100
    assert metrics.get("chrf").score(outputs, targets) == pytest.approx(chrf, abs=1e-12)
    assert metrics.get("bleu").score(outputs, targets) == pytest.approx(bleu, abs=1e-12)


def test_rouge_l_equals_rouge_score_on_plain_english() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    outputs, targets = ["The cat sat, at home!", "no"], ["the cat was sitting at home", "nothing at all"]
    scorer = RougeScorer(["rougeL"])
    expected = [scorer.score(t, o)["rougeL"].fmeasure for o, t in zip(outputs, targets, strict=True)]
    rows = metrics.get("rouge_l").rows(outputs, targets)
    assert rows is not None
    assert rows.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("text", ["señor", "καλημέρα κόσμε", "नमस्ते दुनिया", "Привет, мир"])
def test_rouge_l_reads_every_script(text: str) -> None:
    assert metrics.get("rouge_l").score([text], [text]) == 1
    assert metrics.get("rouge_l").score(["zzz"], [text]) == 0


def test_rouge_l_does_not_cut_words_at_accents() -> None:
    assert metrics.get("rouge_l").score(["se or"], ["señor"]) == 0


@pytest.mark.parametrize(
    ("output", "target", "same"),
    [
        ("  The CAT\n sat ", "the cat sat", 1),
        ("STRASSE", "straße", 1),
        ("cafe\u0301", "café", 1),
        ("a.", "a", 0),
    ],
)
def test_exact_match_ignores_case_and_white_space_only(output: str, target: str, same: int) -> None:
    assert metrics.get("exact_match").score([output], [target]) == same


@pytest.mark.parametrize("name", metrics.names())
def test_perfect_outputs_score_one(name: str) -> None:
    targets = ["one fine day it rained", "the other day it did not rain at all", "one fine day it rained"]
    assert metrics.get(name).score(targets, targets) == pytest.approx(1)


@pytest.mark.parametrize("name", metrics.names())
def test_rows_average_to_the_score_and_rates_are_binary(name: str) -> None:
    metric = metrics.get(name)
    outputs, targets = ["a b", "c d", "a b", "d"], ["a b", "a d", "c", "d"]
    rows = metric.rows(outputs, targets)
    assert (rows is None) == (name in ("macro_f1", "mcc", "chrf", "bleu"))
    if rows is not None:
        assert rows.mean() == pytest.approx(metric.score(outputs, targets))
        assert not metric.is_rate or set(rows) <= {0.0, 1.0}


@pytest.mark.parametrize("name", metrics.names())
@given(pairs=TEXTS, seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_a_resample_scores_as_the_drawn_rows_do(name: str, pairs: list[tuple[str, str]], seed: int) -> None:
    metric = metrics.get(name)
    outputs, targets = split(pairs)
    draws = np.random.default_rng(seed).integers(len(pairs), size=(3, len(pairs)))
    weights = np.stack([np.bincount(draw, minlength=len(pairs)) for draw in draws]).astype(float)
    found = metric.resampler(outputs, targets)(weights)
    expected = [metric.score([outputs[i] for i in draw], [targets[i] for i in draw]) for draw in draws]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)


def test_two_thousand_resamples_of_chrf_take_under_two_seconds() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 12)) for _ in range(1000)]
    weights = rng.integers(0, 3, size=(2000, 500)).astype(float)
    started = time.process_time()
    scores = metrics.get("chrf").resampler(texts[:500], texts[500:])(weights)
    assert scores.shape == (2000,)
    assert time.process_time() - started < 2
