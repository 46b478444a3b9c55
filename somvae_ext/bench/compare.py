"""Whether something has become slower between two result files, noise taken into account.

What is compared is our time relative to that of the others in the same turns, a matrix product among them. Each of
these contestants has a level, the median over its file. How far they are from their levels in a turn, in the median, is
what the machine did then, and how far their levels have moved between the files, in the median, is what the machine did
between them. A machine that is slower today, or slows down for a while, slows them all, and the difference stays.

One of the others may have changed by itself. So a contestant whose package has another version in the second file is
left out, and more than half of the rest have to have moved alike, within ``AGREEMENT`` and the standard error of the
difference: then the median is among them, wherever others went. Where they have not, what the machine did cannot be
told: a row then counts as slower, or faster, if it is so relative to each of them, and is otherwise unknown. A single
other contestant is believed. Where none is left, raw times are compared. Contestants that run this project's code, such
as its references, are never among them.

What else runs on a machine lasts for seconds, and does not slow all calls alike: those that need the memory suffer from
other things than those that compute. The repetitions of a row, taken within a second, do not show that. So ``--quick``
goes through a suite in 8 passes, and the median of the repetitions in a pass is one observation; a file of one pass has
its repetitions as observations, each relative to the others' in the turn and the two beside it.

A row is slower, or faster, if a two-sided Mann-Whitney test, exact and corrected by Holm's method over all rows, says
that the difference is more than ``least_effect``. The difference itself is Hodges and Lehmann's, the median over all
pairs of observations of the two files, and its interval the one that belongs to the test, with Bonferroni's correction.
Two processes that run the same code differ as well, and repeating it within them does not show that: searches of the
suite ``bmu`` did by a few percent, the one suite whose processes were compared. That is a reason not to set
``least_effect`` much below its default. The geometric mean of all rows is judged by the same limit and a bootstrap: a
slow-down of everything is seen in it where noise hides it in each row.

How many observations this takes follows from the test. With n in each file its smallest p-value is 2 / C(2n, n), which
has to be below .05 divided by the number of rows: :func:`least_observations`, 7 up to 85 rows, 8 up to 321. Rows with
so few that no number of rows would do are not counted among them. The power is measured in
``python_tests/bench/test_compare.py``, in pairs of files with known noise. On a machine alone, where times scatter by
3 %, a slow-down of 20 % is found in each of 30 rows. On two cores that six processes want, where a third of the
repetitions take 10 to 60 % longer and passes differ by 6 %, hardly any row shows it, and the mean of ten rows does in
most pairs of files: there it takes an idle machine, or more passes.

Sources: H. B. Mann and D. R. Whitney, Ann. Math. Stat. 18 (1947); S. Holm, Scand. J. Stat. 6 (1979); J. L. Hodges and
E. L. Lehmann, Ann. Math. Stat. 34 (1963). The shortest interval that holds more than half: P. J. Rousseeuw, J. Am.
Stat. Assoc. 79 (1984).
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

ALPHA = 0.05  # chance that any of all rows is said to differ where none does
LEAST_EFFECT = 0.1
WINDOW = 1  # turns before and after one of a single pass that tell the machine's speed in it
DRAWS = 2000  # of the bootstrap of the overall mean
AGREEMENT = 0.1  # by how much contestants that moved alike may differ, in the logarithm of their times
OUR_CODE = {"ops.bmu", "reference"}  # beside ours, and no measure of it: what becomes slower would hide behind it

OTHERS, DISAGREEING, NOTHING = "others", "disagreeing others", "nothing"  # what times are relative to

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """One contestant of ours in a row of both files.

    Attributes:
        first, second: logarithms of times, but for a constant.
        beside: what they are relative to: ``"others"``, ``"disagreeing others"``, or ``"nothing"`` for raw times.
    """

    first: Values
    second: Values
    beside: str

    @property
    def least_p(self) -> float:
        """The smallest p-value that so many observations can have."""
        return 2 / math.comb(len(self.first) + len(self.second), len(self.first))


@dataclass(frozen=True)
class Compared:
    """What came of one contestant of ours in a row of both files.

    Attributes:
        ratio: time in the second file over that in the first; ``low`` to ``high`` its interval, infinite where there
            are too few repetitions for one.
        p: of the test, corrected; 1 where there are too few repetitions for any number of rows.
        beside: as in :class:`Observed`.
        enough: whether there are enough observations for a difference to count.
        verdict: ``"slower"``, ``"faster"``, ``"same"``, or ``"unknown"`` where there are not enough observations, or
            where others disagree and ours is not outside of what they did.
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
    """All rows of two files; the geometric mean of the ratios of those with enough observations, where others do not
    disagree, with its interval of 95 % and a verdict of its own; and the labels of our contestants that one file alone
    has timed.

    Attributes:
        corrected_for: how many rows the test is corrected for.
    """

    rows: list[Compared]
    corrected_for: int
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
    found = [observe(row, other, name, changed) for row, name, other in pairs]
    effect = math.log1p(least_effect)
    tested = [each for each in found if each.least_p <= ALPHA]
    p_values = dict(zip(map(id, tested), holm([distinct(each, effect) for each in tested]), strict=True))
    alpha = ALPHA / max(1, len(tested))
    rows = []
    for (row, name, _), each in zip(pairs, found, strict=True):
        shift, low, high = shift_interval(each.first, each.second, alpha)
        p, enough = p_values.get(id(each), 1.0), each.least_p <= alpha
        judged = direction(shift, effect) if p <= ALPHA else "same"
        if not enough or (judged == "same" and each.beside == DISAGREEING):
            judged = "unknown"
        times = (len(each.first), len(each.second))
        ratios = (math.exp(shift), *exponentials(low, high))
        rows.append(Compared(label_of(row, name), *ratios, p, each.beside, times, enough, judged))
    known = [each for each in found if each.least_p <= alpha and each.beside != DISAGREEING]
    mean, low, high = geometric_mean([(each.first, each.second) for each in known])
    overall = direction(mean, effect) if low > effect or high < -effect else "same"
    only = [[label_of(*sides[i][key]) for key in sides[i] if key not in sides[1 - i]] for i in (0, 1)]
    return Comparison(rows, len(tested), (math.exp(mean), *exponentials(low, high)), overall, *only)


def direction(shift: float, effect: float) -> str:
    """What a shift of the logarithm of times is called, if it is at least ``effect``."""
    return "same" if abs(shift) < effect else "slower" if shift > 0 else "faster"


def label_of(row: Row, name: str) -> str:
    """Names a row, and in it our contestant if that is a variant."""
    threads = f", {threads_text(row.threads)}" if row.threads else ""
    return f"{row.suite}: {row.label}{threads}" + ("" if name == row.ours else f" [{name}]")


def own_contestants(rows: Sequence[Row]) -> dict[tuple[object, ...], tuple[Row, str]]:
    """Our contestants of all rows that have timed them."""
    return {(*row.key, name): (row, name) for row in rows for name in row.own if row.samples.get(name)}


def observe(first: Row, second: Row, name: str, changed: Collection[str]) -> Observed:
    """A contestant's times in both rows, relative to others' where there are others."""
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
        variance += np.pi / 2 * float(np.var(part - level - machine)) / part.shape[1]  # of a median
    moved = (levels[1] - levels[0]).ravel()
    if agree(moved, AGREEMENT + math.sqrt(2 * variance)):
        return Observed(ours[0], ours[1] - np.median(moved), OTHERS)
    nearest = np.clip(np.median(ours[1]) - np.median(ours[0]), moved.min(), moved.max())
    return Observed(ours[0], ours[1] - nearest, DISAGREEING)


def agree(moved: Values, tolerance: float) -> bool:
    """Whether more than half of the contestants moved alike, no two of these farther apart than ``tolerance``."""
    most = len(moved) // 2 + 1
    ordered = np.sort(moved)
    return bool((ordered[most - 1 :] - ordered[: len(moved) - most + 1]).min() <= tolerance)


def observations(row: Row, name: str) -> Values:
    """Logarithms of a contestant's times: the median of each pass, or of one pass all repetitions."""
    parts = row.by_pass(name)
    return np.log([statistics.median(part) for part in parts] if len(parts) > 1 else parts[0])


def takes_turns(row: Row, other: str, name: str) -> bool:
    """Whether each observation of another contestant was made beside one of this one."""
    return len(observations(row, other)) == len(observations(row, name))


def drift(deviations: Values, passes: int) -> Values:
    """What the machine did in each observation, from how far all contestants ``[R, n]`` were from their levels."""
    window = 0 if passes > 1 else WINDOW
    turns = range(deviations.shape[1])
    return np.array([np.median(deviations[:, max(0, turn - window) : turn + window + 1]) for turn in turns])


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


def distinct(observed: Observed, effect: float) -> float:
    """The p-value of a shift between the files of at most ``effect`` in either direction."""
    a, b = observed.first, observed.second
    shift = float(np.median(b[None] - a[:, None]))
    return mann_whitney(a + math.copysign(effect, shift), b) if abs(shift) > effect else 1.0


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
