"""Compares two result files: what has become slower, with noise taken into account.

Our times are compared relative to those of the other contestants in the same turns, a matrix product among them. Each
other contestant has a level, its median over the file. The median of their deviations from these levels in a turn is
the machine's drift within the file; the median shift of the levels between the files is its drift between the files. A
machine that is slower today, or slows down for a while, slows all contestants alike, which leaves the relative times as
they are.

Another contestant may itself have changed. So contestants whose package has another version in the second file are left
out, and more than half of the rest must have shifted alike, within ``AGREEMENT`` plus the standard error of the
difference: the median shift is then one of theirs, wherever the rest went. If they have not shifted alike, the
machine's drift is unknown: a row then counts as slower, or faster, only if it is so relative to each other contestant,
and is unknown otherwise. A single other contestant is trusted. If none is left, raw times are compared. Contestants
that run this project's code, such as its references, are never used as others.

Other load on the machine lasts for seconds, and does not slow all calls alike: memory-bound calls suffer from other
load than compute-bound ones. The repetitions of a row, taken within a second, do not show that. So ``--quick`` makes 8
passes over a suite, and the median of the repetitions in a pass is one observation. In a file of one pass each
repetition is an observation, relative to the others' times in its turn and in the two adjacent turns.

A row is slower, or faster, if an exact two-sided Mann-Whitney test, corrected by Holm's method over all rows, finds a
difference of more than ``least_effect``. The difference is the Hodges-Lehmann estimate, the median over all pairs of
observations of the two files; its interval is that of the test, with Bonferroni's correction. Two processes that run
the same code differ as well, which repetitions within a process do not show: in the suite ``bmu``, the only one in
which processes were compared, searches differed by a few percent. So ``least_effect`` should not be set much below its
default. The geometric mean of all rows is judged by the same limit with a bootstrap interval: it shows an overall
slow-down that noise hides in each single row.

The test determines how many observations are needed. With n in each file its smallest p-value is 2 / C(2n, n), which
must be at most .05 divided by the number of rows: 7 observations for up to 85 rows, 8 for up to 321, see
:func:`least_observations`. Rows whose smallest p-value is above .05 are not counted among them.
``python_tests/bench/test_compare.py`` measures the power on pairs of files with known noise. On an otherwise idle
machine, where times scatter by 3 %, a slow-down of 20 % is found in each of 30 rows. On two cores shared by six
processes, where a third of the repetitions take 10 to 60 % longer and passes differ by 6 %, hardly any row shows it,
but the mean of ten rows does in most pairs of files; single rows need an idle machine, or more passes.

Sources: H. B. Mann and D. R. Whitney, Ann. Math. Stat. 18 (1947); S. Holm, Scand. J. Stat. 6 (1979); J. L. Hodges and
E. L. Lehmann, Ann. Math. Stat. 34 (1963). Shortest interval that holds more than half of the values: P. J. Rousseeuw,
J. Am. Stat. Assoc. 79 (1984).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from somvae_ext.bench.rows import Row
from somvae_ext.bench.timing import threads_text

ALPHA = 0.05  # chance that any row is reported to differ although none does
LEAST_EFFECT = 0.1
WINDOW = 1  # in a single pass, drift is estimated from this many turns before and after each turn
DRAWS = 2000  # bootstrap samples of the overall mean
AGREEMENT = 0.1  # largest difference between shifts that count as alike, in the logarithm of times
OUR_CODE = {"ops.bmu", "reference"}  # never used as others: a slow-down of our code would hide in them

OTHERS, DISAGREEING, NOTHING = "others", "disagreeing others", "nothing"  # what times are relative to

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """The observations of one of our contestants in a row of both files.

    Attributes:
        first, second: logarithms of times, up to a constant.
        beside: what they are relative to: ``"others"``, ``"disagreeing others"``, or ``"nothing"`` for raw times.
    """

    first: Values
    second: Values
    beside: str

    @property
    def least_p(self) -> float:
        """The smallest p-value that this many observations can give."""
        return 2 / math.comb(len(self.first) + len(self.second), len(self.first))


@dataclass(frozen=True)
class Compared:
    """The comparison of one of our contestants in a row of both files.

    Attributes:
        ratio: time in the second file divided by that in the first; ``low`` to ``high`` is its interval, infinite if
            there are too few observations for one.
        p: corrected p-value of the test; 1 if there are too few observations for any number of rows.
        beside: as in :class:`Observed`.
        enough: whether there are enough observations for a difference to count.
        verdict: ``"slower"``, ``"faster"``, ``"same"``, or ``"unknown"`` if there are not enough observations, or if
            the others disagree and our shift lies within the range of theirs.
    """

    label: str
    ratio: float
    low: float
    high: float
    p: float
    beside: str
    observations: tuple[int, int]
    enough: bool
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """The comparison of two files.

    Attributes:
        rows: one entry for each of our contestants in each row of both files.
        corrected_for: how many rows the test is corrected for.
        mean: geometric mean of the ratios and its 95 % interval, over the rows with enough observations whose other
            contestants do not disagree.
        overall: verdict on this mean.
        only_in_first, only_in_second: labels of our contestants that only this file has timed.
    """

    rows: list[Compared]
    corrected_for: int
    mean: tuple[float, float, float]
    overall: str
    only_in_first: list[str]
    only_in_second: list[str]

    @property
    def slower(self) -> bool:
        """Whether any row, or the geometric mean, is slower."""
        return self.overall == "slower" or bool(self.with_verdict("slower"))

    def with_verdict(self, verdict: str) -> list[Compared]:
        return [row for row in self.rows if row.verdict == verdict]


def compare(
    first: Sequence[Row], second: Sequence[Row], least_effect: float = LEAST_EFFECT, changed: Collection[str] = ()
) -> Comparison:
    """Compares our contestants in rows of the same case, sizes, dtype, device and threads.

    Args:
        least_effect: differences below this share do not count.
        changed: other contestants whose packages have another version in the second file.
    """
    sides = [own_contestants(side) for side in (first, second)]
    pairs = [(*sides[0][key], sides[1][key][0]) for key in sides[0] if key in sides[1]]
    observed = [observe(row, other, name, changed) for row, name, other in pairs]
    effect = math.log1p(least_effect)
    tested = [item for item in observed if item.least_p <= ALPHA]
    p_values = dict(zip(map(id, tested), holm([distinct(item, effect) for item in tested]), strict=True))
    alpha = ALPHA / max(1, len(tested))
    rows = []
    for (row, name, _), item in zip(pairs, observed, strict=True):
        shift, low, high = shift_interval(item.first, item.second, alpha)
        p, enough = p_values.get(id(item), 1.0), item.least_p <= alpha
        verdict = direction(shift, effect) if p <= ALPHA else "same"
        if not enough or (verdict == "same" and item.beside == DISAGREEING):
            verdict = "unknown"
        counts = (len(item.first), len(item.second))
        ratios = (math.exp(shift), *exponentials(low, high))
        rows.append(Compared(label_of(row, name), *ratios, p, item.beside, counts, enough, verdict))
    known = [item for item in observed if item.least_p <= alpha and item.beside != DISAGREEING]
    mean, low, high = geometric_mean([(item.first, item.second) for item in known])
    overall = direction(mean, effect) if low > effect or high < -effect else "same"
    unmatched = [[label_of(*sides[i][key]) for key in sides[i] if key not in sides[1 - i]] for i in (0, 1)]
    return Comparison(rows, len(tested), (math.exp(mean), *exponentials(low, high)), overall, *unmatched)


def direction(shift: float, effect: float) -> str:
    """The verdict on a shift of the logarithm of times; ``"same"`` if it is below ``effect``."""
    return "same" if abs(shift) < effect else "slower" if shift > 0 else "faster"


def label_of(row: Row, name: str) -> str:
    """Labels a row, with the name of our contestant if it is a variant."""
    threads = f", {threads_text(row.threads)}" if row.threads else ""
    return f"{row.suite}: {row.label}{threads}" + ("" if name == row.ours else f" [{name}]")


def own_contestants(rows: Sequence[Row]) -> dict[tuple[object, ...], tuple[Row, str]]:
    """Our contestants that have samples, by the key of their row and their name."""
    return {(*row.key, name): (row, name) for row in rows for name in row.own if row.samples.get(name)}


def observe(first: Row, second: Row, name: str, changed: Collection[str]) -> Observed:
    """A contestant's times in both rows, relative to those of the other contestants if there are any."""
    references = [
        other
        for other in first.samples
        if other not in {*first.own, *second.own, *OUR_CODE, *changed}
        and all(other in row.samples and takes_turns(row, other, name) for row in (first, second))
    ]
    ours = [observations(row, name) for row in (first, second)]
    if not references:
        return Observed(ours[0], ours[1], NOTHING)
    times = [np.array([observations(row, other) for other in references]) for row in (first, second)]
    levels = [np.median(part, axis=1, keepdims=True) for part in times]
    variance = 0.0
    for part, level, values, row in zip(times, levels, ours, (first, second), strict=True):
        machine = drift(part - level, row.passes)
        values -= machine
        variance += np.pi / 2 * float(np.var(part - level - machine)) / part.shape[1]  # variance of a median
    shifts = (levels[1] - levels[0]).ravel()
    if agree(shifts, AGREEMENT + math.sqrt(2 * variance)):
        return Observed(ours[0], ours[1] - np.median(shifts), OTHERS)
    nearest = np.clip(np.median(ours[1]) - np.median(ours[0]), shifts.min(), shifts.max())
    return Observed(ours[0], ours[1] - nearest, DISAGREEING)


def agree(shifts: Values, tolerance: float) -> bool:
    """Whether more than half of the shifts lie within ``tolerance`` of each other."""
    majority = len(shifts) // 2 + 1
    ordered = np.sort(shifts)
    return bool((ordered[majority - 1 :] - ordered[: len(shifts) - majority + 1]).min() <= tolerance)


def observations(row: Row, name: str) -> Values:
    """Logarithms of a contestant's times: the median of each pass, or all repetitions of a single pass."""
    parts = row.by_pass(name)
    return np.log([statistics.median(part) for part in parts] if len(parts) > 1 else parts[0])


def takes_turns(row: Row, other: str, name: str) -> bool:
    """Whether each observation of ``other`` was made in the same turn as one of ``name``."""
    return len(observations(row, other)) == len(observations(row, name))


def drift(deviations: Values, passes: int) -> Values:
    """The machine's drift in each observation, from the contestants' deviations ``[R, n]`` from their levels."""
    window = 0 if passes > 1 else WINDOW
    turns = range(deviations.shape[1])
    return np.array([np.median(deviations[:, max(0, turn - window) : turn + window + 1]) for turn in turns])


# --- Statistics ------------------------------------------------------------------------------------------------------


@lru_cache
def rank_counts(n: int, m: int) -> Values:
    """The share of the orders of n and m values in which the statistic U is 0, 1, ..., n * m."""
    counts = np.zeros(n * m + 1)
    counts[0] = 1
    for i in range(1, n + 1):  # Gaussian binomial coefficient: product of (1 - q^(m + i)) / (1 - q^i)
        for u in range(n * m, m + i - 1, -1):
            counts[u] -= counts[u - m - i]
        for u in range(i, n * m + 1):
            counts[u] += counts[u - i]
    return counts / counts.sum()


def mann_whitney(a: Values, b: Values) -> float:
    """Exact two-sided p-value of equal distributions; ties count half, rounded conservatively."""
    differences = b[None] - a[:, None]
    u = (differences > 0).sum() + 0.5 * (differences == 0).sum()
    extreme = math.floor(min(u, differences.size - u) + 0.5)
    return min(1.0, 2 * float(rank_counts(len(a), len(b))[: extreme + 1].sum()))


def distinct(observed: Observed, effect: float) -> float:
    """The p-value of the hypothesis that the files differ by at most ``effect`` in either direction."""
    a, b = observed.first, observed.second
    shift = float(np.median(b[None] - a[:, None]))
    return mann_whitney(a + math.copysign(effect, shift), b) if abs(shift) > effect else 1.0


def shift_interval(a: Values, b: Values, alpha: float) -> tuple[float, float, float]:
    """The Hodges-Lehmann shift from ``a`` to ``b``, and the interval of the rank test at level ``alpha``."""
    differences = np.sort((b[None] - a[:, None]).ravel())
    below = np.cumsum(rank_counts(len(a), len(b)))
    cut = int(np.searchsorted(below, alpha / 2, side="right"))  # how many values of U the test rejects at each end
    low, high = (differences[cut - 1], differences[-cut]) if cut else (-math.inf, math.inf)
    return float(np.median(differences)), float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected p-values: if all that are at most alpha are rejected, the chance of any error is at most alpha."""
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def geometric_mean(samples: Sequence[tuple[Values, Values]]) -> tuple[float, float, float]:
    """Mean over the rows of the shift of the median, and its 95 % bootstrap interval, all in logarithms."""
    if not samples:
        return 0.0, 0.0, 0.0
    rng = np.random.default_rng(0)
    shifts = [float(np.median(b) - np.median(a)) for a, b in samples]
    drawn = np.zeros(DRAWS)
    for a, b in samples:
        drawn += np.median(rng.choice(b, (DRAWS, len(b))), axis=1) - np.median(rng.choice(a, (DRAWS, len(a))), axis=1)
    low, high = np.quantile(drawn / len(samples), [0.025, 0.975])
    return math.fsum(shifts) / len(shifts), float(low), float(high)


def exponentials(low: float, high: float) -> tuple[float, float]:
    return math.exp(low), math.exp(high)


def least_observations(rows: int) -> int:
    """How many passes, or repetitions in one pass, two files need so that a difference in one of the rows can count."""
    n = 1
    while 2 / math.comb(2 * n, n) > ALPHA / rows:
        n += 1
    return n
