"""Intervals, paired tests, non-inferiority and the rows that a claim would need.

Every score Tunewise shows carries an interval, and every claim that one candidate is better, or no worse,
rests on a test of the same rows. Scores, differences and margins are shares (0.02 is two points).

>>> interval = wilson(45, 50)
>>> round(interval.low, 3), round(interval.high, 3)
(0.786, 0.957)
"""

from tunewise.statistics.comparing import Difference, holm, paired_difference, score_interval
from tunewise.statistics.interval import CONFIDENCE, Interval, for_all
from tunewise.statistics.margins import rows_needed, rows_needed_continuous, smallest_margin
from tunewise.statistics.proportions import mcnemar_exact, tango, wilson
from tunewise.statistics.resampling import RESAMPLES, Bootstrap, Floats, ScoresOf, bca, bootstrap
from tunewise.statistics.seeds import MethodDifference, method_difference
from tunewise.statistics.selection import ROUNDING, Choice, corrected_choice, out_of_fold_choice

__all__ = [
    "CONFIDENCE",
    "RESAMPLES",
    "ROUNDING",
    "Bootstrap",
    "Choice",
    "Difference",
    "Floats",
    "Interval",
    "MethodDifference",
    "ScoresOf",
    "bca",
    "bootstrap",
    "corrected_choice",
    "for_all",
    "holm",
    "mcnemar_exact",
    "method_difference",
    "out_of_fold_choice",
    "paired_difference",
    "rows_needed",
    "rows_needed_continuous",
    "score_interval",
    "smallest_margin",
    "tango",
    "wilson",
]
