"""What a test could have shown: the smallest margin, and the rows that a claim would need."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunewise.errors import DataError
from tunewise.statistics.interval import CONFIDENCE, NORMAL
from tunewise.statistics.proportions import constrained_share


def smallest_margin(uppers: Sequence[float]) -> float:
    """The smallest margin, in points with one decimal, at which these bounds would have shown the nominee.

    Bounds must lie *below* the margin, so a largest bound of exactly 0.03 gives 3.1. Never below 0.1. Raises
    DataError for an empty sequence.
    """
    if not uppers:
        raise DataError("smallest margin: found no other finalist; expected at least one upper bound.")
    tenths = math.floor(round(max(uppers) * 1000, 6)) + 1
    return max(1, tenths) / 10


def rows_needed(discordance: float, margin: float, power: float = 0.8) -> int:
    """Test rows needed to show a rate non-inferior within `margin` (one-sided 95 %), if the two are equal.

    `discordance` is the share of rows on which exactly one of the two is right. Asymptotic sample size of the
    paired score test, with the constrained variance under the null (Nam 1997; Liu et al. 2002); it covers
    discordance 0, where rows are still needed to rule a difference out. Raises DataError unless
    0 <= discordance <= 1 and 0 < margin < 1.
    """
    if not 0 <= discordance <= 1 or not 0 < margin < 1:
        raise DataError(
            f"rows needed: found discordance {discordance} and margin {margin}; expected shares, margin > 0."
        )
    share = constrained_share(discordance / 2, discordance / 2, 1.0, margin)
    null_sd = math.sqrt(max(0.0, 2 * share + margin * (1 - margin)))
    reach = NORMAL.inv_cdf(CONFIDENCE) * null_sd + NORMAL.inv_cdf(power) * math.sqrt(discordance)
    return math.ceil((reach / margin) ** 2)


def rows_needed_continuous(sd: float, margin: float, power: float = 0.8) -> int:
    """The same for scores that are not rates; `sd` is the standard deviation of the difference for one row.

    For a corpus metric, `sd` is the standard error of the difference times the square root of the rows.
    """
    if sd < 0 or margin <= 0:
        raise DataError(f"rows needed: found sd {sd} and margin {margin}; expected sd >= 0 and margin > 0.")
    reach = (NORMAL.inv_cdf(CONFIDENCE) + NORMAL.inv_cdf(power)) * sd
    return max(2, math.ceil((reach / margin) ** 2))
