"""How far a figure may be from what it estimates: it is computed anew from rounds that are drawn.

Contributions are sums over hundreds of times, each a quantile over rounds, so their intervals are
no order statistics. As many rounds as there are, drawn with replacement, give another set of times
and another figure; the distances of these from the figure are its error (Efron 1979, Bootstrap
methods: another look at the jackknife). A round is drawn for all programs at once: what disturbs a
round disturbs all of them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from operator import itemgetter
from statistics import NormalDist

from ablation_report.stats import QUARTILE, Interval, percentile

# The error of a standard deviation of so many is 7 %.
N_DRAWS = 100
# Every call draws the same rounds, so that a run gives the same figures each time.
_SEED = 18


def drawn_times(by_program: Sequence[Sequence[float]]) -> list[list[float]]:
    """Return the time of each program by every draw of rounds, from its times by round; all have
    the same rounds. Empty below two rounds."""
    n_rounds = len(by_program[0]) if by_program else 0
    if n_rounds < 2:
        return []
    generator = random.Random(_SEED)
    whole = [[round(time) for time in times] for times in by_program]
    rounds = range(n_rounds)
    found = []
    for _ in range(N_DRAWS):
        drawn = generator.choices(rounds, k=n_rounds)
        of_draw = itemgetter(*drawn)
        found.append([percentile(of_draw(times), QUARTILE) for times in whole])
    return found


def interval_of(
    estimate: float, draws: Sequence[float], n_rounds: int, odds: int, sampling_error: float = 0.0
) -> Interval:
    """Return an estimate with the interval that misses once in `odds` times.

    Its half is the root mean square distance of the draws from the estimate, times Student's t of
    `n_rounds` - 1 degrees of freedom, and the error of sampled orders times the normal quantile. n
    is the number of rounds, 1 without draws.
    """
    share = 1 - 1 / (2 * odds)
    half = NormalDist().inv_cdf(share) * sampling_error
    if not draws:
        return Interval(estimate, estimate - half, estimate + half, 1)
    error = math.sqrt(math.fsum((draw - estimate) ** 2 for draw in draws) / len(draws))
    half += student_quantile(share, n_rounds - 1) * error
    return Interval(estimate, estimate - half, estimate + half, n_rounds)


def student_quantile(share: float, freedom: int) -> float:
    """Return the quantile of Student's t by the expansion in 1 / freedom (Abramowitz and Stegun
    1964, 26.7.5); within 1 % from five degrees of freedom on for shares up to 0.998."""
    z = NormalDist().inv_cdf(share)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))
