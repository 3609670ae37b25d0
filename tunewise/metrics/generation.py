"""Metrics of generation: exact match, chrF, BLEU and ROUGE-L.

chrF and BLEU are corpus scores (counts are summed over all rows before dividing), not means over sentences,
and equal sacrebleu's with its default settings; ROUGE-L is the mean over rows of the F-measure of
`rouge-score`.

>>> ExactMatch().score(["  The CAT "], ["the cat"]), round(ChrF().score(["the cat"], ["the cats"]), 3)
(1.0, 0.776)
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunewise.metrics.metric import Floats, Metric, OfSums, RowMean, ratio

CHRF_ORDER = 6
CHRF_BETA = 2
BLEU_ORDER = 4


@dataclass(frozen=True)
class ExactMatch(RowMean):
    """Share of rows whose output is the target, apart from case and white space.

    Both are Unicode-normalised (NFC), case-folded, stripped, and runs of white space become one space.
    Punctuation and articles count: unlike SQuAD's rule, this one is the same for every language.
    """

    name: str = "exact_match"
    kind: str = "generation"
    is_rate: bool = True

    def values(self, outputs: Sequence[str], targets: Sequence[str]) -> Floats:
        """1 where output and target agree, 0 elsewhere."""
        pairs = zip(outputs, targets, strict=True)
        return np.fromiter((_plain(output) == _plain(target) for output, target in pairs), dtype=np.float64)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


@dataclass(frozen=True)
class ChrF(OfSums):
    """Character n-gram F-score, orders 1 to 6, beta 2, over the corpus (Popović 2015; sacrebleu's chrF2).

    White space is ignored. An order for which the corpus holds no output or no target n-gram is left out.
    """

    name: str = "chrf"
    kind: str = "generation"

    def terms(self, outputs: Sequence[str], targets: Sequence[str]) -> Floats:
        """For each order, the n-grams in the output, in the target, and in both; shape (rows, 3 x orders)."""
        from sacrebleu.metrics.helpers import extract_all_char_ngrams

        terms = np.zeros((len(targets), CHRF_ORDER, 3))
        for row, (output, target) in enumerate(zip(outputs, targets, strict=True)):
            found = extract_all_char_ngrams(output, CHRF_ORDER, include_whitespace=False)
            wanted = extract_all_char_ngrams(target, CHRF_ORDER, include_whitespace=False)
            for order, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
                # sacrebleu does not hold output n-grams against a target too short to have any of that order.
                n_output = sum(ours.values()) if theirs else 0
                terms[row, order] = n_output, sum(theirs.values()), (ours & theirs).total()
        return terms.reshape(len(targets), -1)

    def from_sums(self, sums: Floats) -> Floats:
        """F-beta of the precision and recall averaged over orders."""
        n_output, n_target, n_both = np.moveaxis(sums.reshape(-1, CHRF_ORDER, 3), 2, 0)
        usable = (n_output > 0) & (n_target > 0)
        orders = usable.sum(axis=1)
        precision = ratio((ratio(n_both, n_output) * usable).sum(axis=1), orders)
        recall = ratio((ratio(n_both, n_target) * usable).sum(axis=1), orders)
        return ratio((1 + CHRF_BETA**2) * precision * recall, CHRF_BETA**2 * precision + recall)


@dataclass(frozen=True)
class Bleu(OfSums):
    """BLEU, orders 1 to 4, over the whole corpus (Papineni et al. 2002), as sacrebleu computes it.

    Tokenised by sacrebleu's `13a`; exponential smoothing of orders without a match (Chen and Cherry 2014,
    method 3); 0 where no n-gram matches or the corpus has no n-gram of order 4.
    """

    name: str = "bleu"
    kind: str = "generation"

    def terms(self, outputs: Sequence[str], targets: Sequence[str]) -> Floats:
        """Output length, target length, and matched and possible n-grams per order; shape (rows, 10)."""
        from sacrebleu.metrics.bleu import BLEU

        bleu = BLEU(effective_order=True, force=True)  # both only keep sacrebleu from logging advice
        scored = [bleu.sentence_score(output, [target]) for output, target in zip(outputs, targets, strict=True)]
        return np.array([[s.sys_len, s.ref_len, *s.counts, *s.totals] for s in scored], dtype=np.float64)

    def from_sums(self, sums: Floats) -> Floats:
        """Geometric mean of the smoothed precisions times the brevity penalty."""
        output_length, target_length = sums[:, 0], sums[:, 1]
        matched, possible = sums[:, 2 : 2 + BLEU_ORDER], sums[:, 2 + BLEU_ORDER :]
        unmatched = matched == 0
        smoothed = np.where(unmatched, 0.5 ** np.cumsum(unmatched, axis=1), matched)
        defined = (possible > 0).all(axis=1) & ~unmatched.all(axis=1)
        precision = np.where(defined[:, None], ratio(smoothed, possible), 1.0)
        brevity = np.exp(np.minimum(0.0, 1 - ratio(target_length, np.maximum(output_length, 1))))
        score: Floats = np.where(defined, brevity * np.exp(np.log(precision).mean(axis=1)), 0.0)
        return score


class _Words:
    """Tokens for ROUGE in any script: runs of letters, digits and marks, case-folded.

    The tokenizer of `rouge-score` keeps a-z and 0-9 only: it cuts `señor` into `se or` and leaves nothing
    of a Greek or Hindi sentence. On plain English both give the same tokens.
    """

    def tokenize(self, text: str) -> list[str]:
        kept = (char if unicodedata.category(char)[0] in "LNM" else " " for char in _plain(text))
        return "".join(kept).split()


@dataclass(frozen=True)
class RougeL(RowMean):
    """ROUGE-L F-measure over the longest common subsequence of words (Lin 2004), mean over rows, no stemming.

    Scripts that put no space between words give one token per run; prefer chrF there.
    """

    name: str = "rouge_l"
    kind: str = "generation"
    is_rate: bool = False

    def values(self, outputs: Sequence[str], targets: Sequence[str]) -> Floats:
        """The F-measure of every row."""
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rougeL"], tokenizer=_Words())
        pairs = zip(outputs, targets, strict=True)
        measures = (scorer.score(target, output)["rougeL"].fmeasure for output, target in pairs)
        return np.fromiter(measures, dtype=np.float64)


METRICS: tuple[Metric, ...] = (ExactMatch(), ChrF(), Bleu(), RougeL())
