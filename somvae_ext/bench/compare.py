"""Whether something has become slower between two result files, noise taken into account.

What is compared is our time relative to that of the others in the same turns: the logarithm of ours less that of all
contestants that are not ours, a matrix product among them. Each of these has a level, the median over its file; how far
they are from their levels in a turn, in the median, is what the machine did then. A machine that is slower today, or
slows down for a while, slows them all, and the difference stays. Where a row has no other contestant, raw times are
compared.

What others do on a machine lasts for seconds, and does not slow all calls alike: those that need the memory suffer from
others than those that compute. The repetitions of a row, taken within a second, do not show that. So ``--quick`` goes
through a suite in 8 passes, and the median of the repetitions in a pass is one observation; a file of one pass has its
repetitions as observations, each relative to the others' in the turn and the two beside it.

A row is slower, or faster, if

- the difference is at least ``least_effect``. It is Hodges and Lehmann's, the median over all pairs of observations of
  the two files; and
- a two-sided Mann-Whitney test, exact and corrected by Holm's method over all rows, says that it is more than half of
  ``least_effect``: between processes times differ by a few percent with the addresses of their memory, and repeating
  them does not show that.

The interval of a row is the one that belongs to the test, with Bonferroni's correction. The geometric mean of all rows
is judged by the same two limits and a bootstrap: a slow-down of everything is seen in it where noise hides it in each
row.

How many observations this takes follows from the test. With n in each file its smallest p-value is 2 / C(2n, n), which
has to be below .05 divided by the number of rows: :func:`least_observations`, 7 up to 85 rows, 8 up to 321. The power
is measured in ``python_tests/bench/test_compare.py``, in pairs of files with known noise. On a machine
alone, where times scatter by 3 %, a slow-down of 20 % is found in each of 30 rows. On two cores that six processes
want, where a third of the repetitions take 10 to 60 % longer and passes differ by 6 %, it is found in one row of ten,
and in the mean of ten rows nearly always: what only one row shows takes an idle machine there, or more passes.

Sources: H. B. Mann and D. R. Whitney, Ann. Math. Stat. 18 (1947); S. Holm, Scand. J. Stat. 6 (1979); J. L. Hodges and
E. L. Lehmann, Ann. Math. Stat. 34 (1963).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from somvae_ext.bench.rows import Row
from somvae_ext.bench.timing import threads_text

ALPHA = 0.05  # chance that any of all rows is said to differ where none does
LEAST_EFFECT = 0.1
WINDOW = 1  # turns before and after one of a single pass that tell the machine's speed in it
DRAWS = 2000  # of the bootstrap of the overall mean
OWN_CEILINGS = {"ops.bmu"}  # which is ours, too: a search that becomes slower would hide behind it

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """One contestant of ours in a row of both files.

    Attributes:
        ratio: time in the second file over that in the first; ``low`` to ``high`` its interval, infinite where there
            are too few repetitions for one.
        p: of the test, corrected.
        relative: whether times are relative to other contestants'.
        verdict: ``"slower"``, ``"faster"``, ``"same"``, or ``"unknown"`` where no difference could have counted.
    """

    label: str
    ratio: float
    low: float
    high: float
    p: float
    relative: bool
    observations: tuple[int, int]
    verdict: str


@dataclass(frozen=True)
class Comparison:
    """All rows of two files; the geometric mean of the ratios of those that are not unknown, with its interval of 95 %
    and a verdict of its own."""

    rows: list[Compared]
    mean: tuple[float, float, float]
    overall: str
    only_in_first: list[str]
    only_in_second: list[str]

    @property
    def slower(self) -> bool:
        """Whether any row is, or all are together."""
        return self.overall == "slower" or bool(self.with_verdict("slower"))

    def with_verdict(self, verdict: str) -> list[Compared]:
        return [row for row in self.rows if row.verdict == verdict]


def compare(first: Sequence[Row], second: Sequence[Row], least_effect: float = LEAST_EFFECT) -> Comparison:
    """Compares our contestants in rows of the same case, sizes, dtype, device and threads.

    Args:
        least_effect: differences below this share do not count.
    """
    pairs = list(matched(first, second))
    samples = [log_times(a, b, name) for a, b, name in pairs]
    effect, tolerated = math.log1p(least_effect), math.log1p(least_effect / 2)
    corrected = holm([distinct(a, b, tolerated) for a, b, _ in samples])
    rows = []
    for (row, _, name), (a, b, relative), p in zip(pairs, samples, corrected, strict=True):
        shift, low, high = shift_interval(a, b, ALPHA / len(pairs))
        judged = direction(shift, effect) if p <= ALPHA else "same"
        if 2 / math.comb(len(a) + len(b), len(a)) > ALPHA / len(pairs):
            judged = "unknown"
        label = label_of(row) + ("" if name == row.ours else f" [{name}]")
        times = (len(a), len(b))
        rows.append(Compared(label, math.exp(shift), *exponentials(low, high), p, relative, times, judged))
    known = [(a, b) for (a, b, _), row in zip(samples, rows, strict=True) if row.verdict != "unknown"]
    mean, low, high = geometric_mean(known)
    overall = direction(mean, effect) if low > tolerated or high < -tolerated else "same"
    keys = [{row.key: label_of(row) for row in side if row.ours in row.samples} for side in (first, second)]
    only = [[label for key, label in keys[i].items() if key not in keys[1 - i]] for i in (0, 1)]
    return Comparison(rows, (math.exp(mean), *exponentials(low, high)), overall, *only)


def direction(shift: float, effect: float) -> str:
    """What a shift of the logarithm of times is called, if it is at least ``effect``."""
    return "same" if abs(shift) < effect else "slower" if shift > 0 else "faster"


def label_of(row: Row) -> str:
    return f"{row.suite}: {row.label}" + (f", {threads_text(row.threads)}" if row.threads else "")


def matched(first: Sequence[Row], second: Sequence[Row]) -> Iterator[tuple[Row, Row, str]]:
    """Rows of both files with one of our contestants that both have timed equally often in every pass."""
    others = {row.key: row for row in second}
    for row in first:
        other = others.get(row.key)
        for name in row.own if other is not None else ():
            assert other is not None
            times = [side.samples.get(name, ()) for side in (row, other)]
            if all(times) and not any(len(part) % side.passes for part, side in zip(times, (row, other), strict=True)):
                yield row, other, name


def log_times(first: Row, second: Row, name: str) -> tuple[Values, Values, bool]:
    """Observations of a contestant in both rows: logarithms of times, relative to others' where there are others."""
    references = [
        other
        for other in first.samples
        if other not in first.own
        and other not in second.own
        and other not in OWN_CEILINGS
        and len(first.samples[other]) == len(first.samples[name])
        and len(second.samples.get(other, ())) == len(second.samples[name])
    ]
    values = []
    for row in (first, second):
        times = np.log([row.samples[name]])
        speed = machine_speed(np.log([row.samples[other] for other in references]), row.passes) if references else 0.0
        values.append(np.median(blocks(times, row.passes), axis=(0, 2)) - speed)
    return values[0], values[1], bool(references)


def blocks(times: Values, passes: int) -> Values:
    """Times ``[R, n]`` of R contestants by observation, ``[R, observations, turns]``."""
    return times.reshape(len(times), passes if passes > 1 else times.shape[1], -1)


def machine_speed(references: Values, passes: int) -> Values:
    """The level of other contestants' logarithms ``[R, n]``, and how far they were from it in each observation."""
    levels = np.median(references, axis=1, keepdims=True)
    deviations = blocks(references - levels, passes)
    window = 0 if passes > 1 else WINDOW
    observations = range(deviations.shape[1])
    near = [deviations[:, max(0, number - window) : number + window + 1] for number in observations]
    return np.array([np.median(part) for part in near]) + levels.mean()


# --- Statistics ------------------------------------------------------------------------------------------------------


@lru_cache
def rank_counts(n: int, m: int) -> Values:
    """In how many orders of n and m values the statistic U is 0, 1, ..., n * m; as shares of all."""
    counts = np.zeros(n * m + 1)
    counts[0] = 1
    for i in range(1, n + 1):  # Gaussian binomial coefficient: product of (1 - q^(m + i)) / (1 - q^i)
        for u in range(n * m, m + i - 1, -1):
            counts[u] -= counts[u - m - i]
        for u in range(i, n * m + 1):
            counts[u] += counts[u - i]
    return counts / counts.sum()


def mann_whitney(a: Values, b: Values) -> float:
    """Two-sided p-value of equal distributions, exact; ties count half, rounded to the safe side."""
    differences = b[None] - a[:, None]
    u = (differences > 0).sum() + 0.5 * (differences == 0).sum()
    extreme = math.floor(min(u, differences.size - u) + 0.5)
    return min(1.0, 2 * float(rank_counts(len(a), len(b))[: extreme + 1].sum()))


def distinct(a: Values, b: Values, tolerated: float) -> float:
    """The p-value of a shift between ``a`` and ``b`` of at most ``tolerated``, in the direction that it has."""
    towards = math.copysign(tolerated, float(np.median(b[None] - a[:, None])))
    return mann_whitney(a + towards, b)


def shift_interval(a: Values, b: Values, alpha: float) -> tuple[float, float, float]:
    """How far ``b`` lies above ``a`` by Hodges and Lehmann, and the interval of the rank test at level ``alpha``."""
    differences = np.sort((b[None] - a[:, None]).ravel())
    below = np.cumsum(rank_counts(len(a), len(b)))
    cut = int(np.searchsorted(below, alpha / 2, side="right"))  # values of U that the test rejects
    low, high = (differences[cut - 1], differences[-cut]) if cut else (-math.inf, math.inf)
    return float(np.median(differences)), float(low), float(high)


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrected p-values: all that are at most alpha may be rejected with a chance of alpha that any is wrong."""
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def geometric_mean(samples: Sequence[tuple[Values, Values]]) -> tuple[float, float, float]:
    """Mean over the rows of the shift of the median, and its bootstrap interval of 95 %; of logarithms."""
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
    """How many passes, or repetitions in one pass, two files need for a difference in one of so many rows to count."""
    n = 1
    while 2 / math.comb(2 * n, n) > ALPHA / rows:
        n += 1
    return n
