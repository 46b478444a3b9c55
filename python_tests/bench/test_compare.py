"""The comparison of two result files: what it detects in noise like that of a shared machine, and what it ignores."""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest

from somvae_ext.bench import compare as comparing
from somvae_ext.bench.compare import Comparison, compare, holm, least_observations, mann_whitney, shift_interval
from somvae_ext.bench.rows import OURS, Row

ROWS, PAIRS = 10, 40
DRIFT = 0.3  # largest drift of the machine while a file is measured, up or down, as a logarithm
OFFSET = 0.01  # standard deviation between two files of the same code, caused by memory addresses, for example
SLOWER = 1.2


@dataclass(frozen=True)
class Noise:
    """Noise of the times' logarithms, drawn for each contestant by itself.

    Args:
        scatter: standard deviation between repetitions.
        spells: standard deviation between passes.
        busy: fraction of the repetitions that take 10 to 60 % longer.
        passes: number of passes over a row.
        repetitions: number of repetitions per pass.
    """

    scatter: float
    spells: float
    busy: float
    passes: int
    repetitions: int


IDLE = Noise(0.03, 0.0, 0.0, passes=1, repetitions=9)  # an otherwise idle machine
QUICK = Noise(0.03, 0.0, 0.0, passes=8, repetitions=2)  # the same with --quick
SHARED = Noise(0.06, 0.06, 0.3, passes=8, repetitions=2)  # a machine that others use, too


def measured(
    rng: np.random.Generator, factor: float = 1.0, *, alone: bool = False, noise: Noise = SHARED, rows: int = ROWS
) -> list[Row]:
    """Simulates a file: ours, two peers and a matrix product take turns on a drifting machine, each with its own noise.

    ``factor`` multiplies our times. With ``alone`` there are no other contestants.
    """
    made = []
    shape = (noise.passes, noise.repetitions)
    for number in range(rows):
        drift = rng.uniform(-DRIFT, DRIFT) + rng.uniform(-DRIFT, DRIFT) * np.linspace(0, 1, noise.passes)[:, None]

        def times(seconds: float, drift: np.ndarray = drift) -> list[float]:
            late = np.where(rng.random(shape) < noise.busy, rng.uniform(1.1, 1.6, shape), 1)
            spells = rng.normal(0, OFFSET) + rng.normal(0, noise.spells, (noise.passes, 1))
            return list((seconds * late * np.exp(drift + spells + rng.normal(0, noise.scatter, shape))).ravel())

        samples = {OURS: times(0.01 * factor)}
        if not alone:
            samples |= {"torch": times(0.03), "faiss": times(0.05), "mm float32": times(0.02)}
        repetitions = {name: [noise.repetitions] * noise.passes for name in samples if noise.passes > 1}
        made.append(
            Row(
                "bmu",
                f"case {number}",
                {"N": 10},
                threads=1,
                samples=samples,
                repetitions=repetitions,
                ceilings={"mm float32": 1.0},
            )
        )
    return made


def precise(rng: np.random.Generator, ours: float, **others: float) -> Row:
    """Simulates a row with hardly any noise, in which each contestant takes the given multiple of 10 ms."""
    samples = {
        name: list(0.01 * factor * np.exp(rng.normal(0, 0.002, 9))) for name, factor in {OURS: ours, **others}.items()
    }
    return Row("ops", "case", {}, threads=1, samples=samples)


def verdicts(compared: Comparison) -> set[str]:
    return {row.verdict for row in compared.rows}


@pytest.mark.parametrize("noise", [IDLE, SHARED])
def test_equal_files_are_the_same_in_forty_pairs(noise: Noise) -> None:
    rng = np.random.default_rng(0)
    pairs = [compare(measured(rng, noise=noise), measured(rng, noise=noise)) for _ in range(PAIRS)]
    assert not any(compared.overall == "slower" for compared in pairs)
    # In at most one pair of twenty, one of the ten rows differs by chance; by more than the least effect, more rarely.
    assert sum(verdicts(compared) != {"same"} for compared in pairs) <= 1


@pytest.mark.parametrize("noise", [IDLE, QUICK])
def test_a_slow_down_of_a_fifth_is_found_in_forty_pairs(noise: Noise) -> None:
    rng = np.random.default_rng(1)
    pairs = [compare(measured(rng, noise=noise), measured(rng, SLOWER, noise=noise)) for _ in range(PAIRS)]
    assert all(compared.overall == "slower" for compared in pairs)
    # How many single rows show it is a matter of the test's power.
    assert sum(len(compared.with_verdict("slower")) for compared in pairs) > 0.97 * ROWS * PAIRS


def test_the_mean_shows_a_slow_down_of_a_fifth_on_a_shared_machine_in_most_pairs() -> None:
    rng = np.random.default_rng(16)
    pairs = [compare(measured(rng), measured(rng, SLOWER)) for _ in range(PAIRS)]
    assert sum(compared.overall == "slower" for compared in pairs) > PAIRS / 2
    assert sum(len(compared.with_verdict("slower")) for compared in pairs) < 0.1 * ROWS * PAIRS


def test_nine_repetitions_find_a_slow_down_in_each_of_thirty_rows() -> None:
    rng = np.random.default_rng(12)
    files = [(measured(rng, noise=IDLE, rows=30), measured(rng, SLOWER, noise=IDLE, rows=30)) for _ in range(10)]
    found = [len(compare(*pair).with_verdict("slower")) for pair in files]
    assert np.mean(found) > 0.97 * 30


@pytest.mark.parametrize("noise", [IDLE, QUICK])
def test_a_slow_down_of_a_fifth_in_one_row_is_found_ten_times_out_of_ten(noise: Noise) -> None:
    rng = np.random.default_rng(2)
    for _ in range(10):
        first, second = measured(rng, noise=noise), measured(rng, noise=noise)
        second[3] = measured(rng, SLOWER, noise=noise)[3]
        compared = compare(first, second)
        assert [row.label for row in compared.with_verdict("slower")] == ["bmu: case 3 N=10, 1 thread"]
        assert compared.overall == "same"


def test_a_speed_up_is_found_like_a_slow_down() -> None:
    rng = np.random.default_rng(3)
    assert verdicts(compare(measured(rng, SLOWER, noise=QUICK), measured(rng, noise=QUICK))) == {"faster"}


def test_drift_of_the_machine_neither_hides_nor_feigns_a_difference() -> None:
    """A machine half as fast on the second day is no slow-down, unless there is no contestant to compare with."""
    rng = np.random.default_rng(4)
    first, second = measured(rng), measured(rng)
    tired = [
        dataclasses.replace(row, samples={name: [2 * time for time in times] for name, times in row.samples.items()})
        for row in second
    ]
    assert verdicts(compare(first, tired)) == {"same"}
    alone = compare(measured(rng, alone=True), measured(rng, 2.5, alone=True))
    assert {row.beside for row in alone.rows} == {"nothing"}
    assert "slower" in verdicts(alone)


def test_an_interval_holds_the_true_ratio() -> None:
    rng = np.random.default_rng(5)
    rows = [row for _ in range(30) for row in compare(measured(rng), measured(rng, SLOWER)).rows]
    # The interval does not include the offsets between files, so the check allows for them.
    held = [row.low * 0.95 <= SLOWER <= row.high / 0.95 for row in rows]
    assert np.mean(held) > 0.99


def test_the_mean_over_all_rows_has_the_planted_ratio() -> None:
    rng = np.random.default_rng(6)
    means = [compare(measured(rng), measured(rng, SLOWER)).mean for _ in range(20)]
    assert all(low < mean < high for mean, low, high in means)
    # Means scatter by 3 % between pairs of files.
    assert np.mean([mean for mean, _, _ in means]) == pytest.approx(SLOWER, rel=3 * 0.03 / 20**0.5)


@pytest.mark.parametrize(
    ("factor", "verdict"), [(1.08, "same"), (1.12, "slower"), (1 / 1.08, "same"), (1 / 1.12, "faster")]
)
@pytest.mark.parametrize("least_effect", [0.1, 0.5])
def test_a_difference_counts_from_the_least_effect_on(factor: float, verdict: str, least_effect: float) -> None:
    """Factors just below and just above the least effect, in rows with next to no noise, and in their mean."""
    rng = np.random.default_rng(7)
    planted = factor if least_effect == 0.1 else factor ** (math.log(1.5) / math.log(1.1))
    first = [precise(rng, 1, torch=1, faiss=1) for _ in range(3)]
    compared = compare(first, [precise(rng, planted, torch=1, faiss=1) for _ in range(3)], least_effect)
    assert verdicts(compared) == {verdict}
    assert compared.overall == verdict


def test_a_difference_below_the_least_effect_does_not_weaken_the_correction() -> None:
    """Holm's correction weakens with each row that differs; a certain difference of 3 % must not count as one."""
    rng = np.random.default_rng(17)
    first, second = precise(rng, 1, torch=1), precise(rng, 1.03, torch=1)
    (row,) = compare([first], [second]).rows
    assert row.p == 1


@pytest.mark.parametrize("changed", [0.5, 0.8, 1.25, 1.8, 5.0])
@pytest.mark.parametrize(("ours", "verdict"), [(1.0, "same"), (1.2, "slower"), (0.8, "faster")])
@pytest.mark.parametrize("machine", [1.0, 1.4])
def test_one_peer_that_changes_shifts_no_verdict(changed: float, ours: float, verdict: str, machine: float) -> None:
    rng = np.random.default_rng(18)
    first = precise(rng, 1, torch=1, faiss=1, mm=1)
    second = precise(rng, machine * ours, torch=machine, faiss=machine * changed, mm=machine)
    (row,) = compare([first], [second]).rows
    assert (row.verdict, row.beside) == (verdict, "others")
    assert row.ratio == pytest.approx(ours, rel=0.01)


@pytest.mark.parametrize(
    ("ours", "verdict"), [(0.8, "faster"), (0.95, "unknown"), (1.2, "unknown"), (1.52, "unknown"), (1.8, "slower")]
)
def test_ratios_between_contestants_that_disagree_are_unknown(ours: float, verdict: str) -> None:
    rng = np.random.default_rng(19)
    first, second = precise(rng, 1, torch=1, mm=1), precise(rng, ours, torch=1.5, mm=1)
    compared = compare([first], [second])
    assert verdicts(compared) == {verdict}
    assert compared.rows[0].beside == "disagreeing others"
    assert compared.mean == (1, 1, 1)


def test_a_peer_of_another_version_is_not_used_for_comparison() -> None:
    rng = np.random.default_rng(20)
    first, second = precise(rng, 1, faiss=1, mm=1), precise(rng, 1.2, faiss=2, mm=1)
    (row,) = compare([first], [second], changed={"faiss"}).rows
    assert (row.verdict, row.beside) == ("slower", "others")
    (row,) = compare([first], [second], changed={"faiss", "mm"}).rows
    assert (row.verdict, row.beside) == ("slower", "nothing")
    assert row.ratio == pytest.approx(1.2, rel=0.01)


def test_a_reference_of_this_project_is_not_used_for_comparison() -> None:
    """The change that made our op slower may have made the reference slower, too."""
    rng = np.random.default_rng(21)
    first = precise(rng, 1, torch=1, reference=1, **{"ops.bmu": 1})
    second = precise(rng, 1.5, torch=1, reference=1.5, **{"ops.bmu": 1.5})
    (row,) = compare([first], [second]).rows
    assert (row.verdict, row.beside) == ("slower", "others")


def test_rows_with_too_few_repetitions_do_not_strengthen_the_correction() -> None:
    """Nine of ten rows have a single time, so the one with five repetitions is judged as if it were the only one."""
    rng = np.random.default_rng(22)
    single = [Row("ops", f"single {number}", {}, samples={OURS: [1.0]}) for number in range(9)]
    first, second = precise(rng, 1, torch=1), precise(rng, 1.2, torch=1)
    short = [
        dataclasses.replace(row, samples={name: t[:5] for name, t in row.samples.items()}) for row in (first, second)
    ]
    compared = compare([short[0], *single], [short[1], *single])
    assert compared.corrected_for == 1
    assert [row.verdict for row in compared.rows] == ["slower", *["unknown"] * 9]


def test_too_few_observations_tell_nothing() -> None:
    rng = np.random.default_rng(8)
    short = [
        dataclasses.replace(row, samples={name: times[:3] for name, times in row.samples.items()})
        for row in measured(rng, noise=IDLE)
    ]
    compared = compare(short, short)
    assert verdicts(compared) == {"unknown"}
    assert all(math.isinf(row.high) for row in compared.rows)
    assert (compared.overall, compared.mean) == ("same", (1, 1, 1))
    assert [least_observations(rows) for rows in (1, 10, 85, 86)] == [4, 6, 7, 8]


def test_rows_are_matched_by_what_they_measured() -> None:
    row = measured(np.random.default_rng(9))[0]
    others = [
        dataclasses.replace(row, threads=2),
        dataclasses.replace(row, dtype="float64"),
        dataclasses.replace(row, size={"N": 11}),
        dataclasses.replace(row, device="cuda", threads=None),
    ]
    for other in others:
        compared = compare([row], [other])
        assert compared.rows == []
        assert compared.only_in_first == ["bmu: case 0 N=10, 1 thread"]
        assert len(compared.only_in_second) == 1


def test_a_contestant_of_ours_in_one_file_alone_is_named() -> None:
    row = measured(np.random.default_rng(14))[0]
    more = dataclasses.replace(row, own=[OURS, "local"], samples={**row.samples, "local": row.samples[OURS][:3]})
    more = dataclasses.replace(more, repetitions={**row.repetitions, "local": [1, 2]})
    compared = compare([row], [more])
    assert compared.only_in_first == []
    assert compared.only_in_second == ["bmu: case 0 N=10, 1 thread [local]"]


def test_a_pass_is_one_observation_with_fewer_repetitions_too() -> None:
    """Each pass chooses its own number of repetitions; here 8 passes have fewer than 16 samples in total."""
    row = measured(np.random.default_rng(15))[0]
    parts = row.by_pass(OURS)
    fewer = dataclasses.replace(
        row,
        samples={**row.samples, OURS: [*parts[0][:1], *(time for part in parts[1:] for time in part)]},
        repetitions={**row.repetitions, OURS: [1, *[2] * 7]},
    )
    (compared,) = compare([row], [fewer]).rows
    assert (compared.observations, compared.beside) == ((8, 8), "others")
    assert compared.ratio == pytest.approx(1, rel=0.1)


def test_every_contestant_of_ours_is_compared_and_none_is_a_reference() -> None:
    row = measured(np.random.default_rng(10))[0]
    variants = dataclasses.replace(
        row,
        own=[OURS, "local"],
        samples={**row.samples, "local": row.samples[OURS]},
        repetitions={**row.repetitions, "local": row.repetitions[OURS]},
    )
    labels = [compared.label for compared in compare([variants], [variants]).rows]
    assert labels == ["bmu: case 0 N=10, 1 thread", "bmu: case 0 N=10, 1 thread [local]"]


def test_a_pass_is_one_observation() -> None:
    """The number of repetitions does not matter: disturbances of the machine outlast the repetitions of a pass."""
    rng = np.random.default_rng(13)
    first, second = measured(rng), measured(rng, SLOWER)
    assert {row.observations for row in compare(first, second).rows} == {(8, 8)}
    whole = [dataclasses.replace(row, repetitions={}) for row in first]
    assert {row.observations for row in compare(whole, second).rows} == {(16, 8)}


# --- Statistics, compared with their definitions ---------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(1, 1), (2, 3), (4, 4), (3, 6)])
def test_the_mann_whitney_test_is_exact(n: int, m: int) -> None:
    """Compares the p-value with an enumeration of all orders of n + m ranks."""
    rng = np.random.default_rng(n * m)
    values = rng.normal(size=n + m)
    a, b = values[:n], values[n:]

    def statistic(chosen: tuple[int, ...]) -> float:
        rest = [i for i in range(n + m) if i not in chosen]
        return abs(sum(values[j] > values[i] for i in chosen for j in rest) - n * m / 2)

    orders = list(itertools.combinations(range(n + m), n))
    extreme = [statistic(order) >= statistic(tuple(range(n))) for order in orders]
    assert mann_whitney(a, b) == pytest.approx(min(1, np.mean(extreme)))


def test_equal_values_are_no_evidence() -> None:
    assert mann_whitney(np.ones(9), np.ones(9)) == 1


@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.001])
def test_the_interval_excludes_what_the_test_rejects(alpha: float) -> None:
    rng = np.random.default_rng(11)
    for _ in range(50):
        a, b = rng.normal(size=9), rng.normal(1, 1, size=9)
        _, low, high = shift_interval(a, b, alpha)
        assert (mann_whitney(a, b) <= alpha) == (low > 0 or high < 0)


def test_holm_adjusts_p_values_step_by_step() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == pytest.approx([1, 1])


def test_the_distribution_of_the_rank_statistic_sums_to_one() -> None:
    assert comparing.rank_counts(9, 9).sum() == pytest.approx(1)
    assert comparing.rank_counts(9, 9)[0] == pytest.approx(1 / math.comb(18, 9))
