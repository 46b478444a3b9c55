"""Reads vital signs of intensive care stays from a folder of the eICU Collaborative Research Database.

The database is that of Pollard et al., The eICU Collaborative Research Database, a freely available multi-center
database for critical care research, Scientific Data 5 (2018), 180178. Authorized users get it from PhysioNet; three of
its tables are read here.

Memory grows with the number of stays and not of rows: the rows of ``vitalPeriodic`` are not kept but added to sums and
counts of the values in each step of each stay, 12 bytes for each sign.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from somvae_ext.config_checks import Bounds, check_integer
from somvae_ext.data.csv_blocks import NO_INTEGER, Block, ColumnType, find_csv, read_blocks
from somvae_ext.data.descriptions import pluralize
from somvae_ext.data.physiology_score import UNKNOWN, vital_sign_score, worst_following
from somvae_ext.data.samples import Samples
from somvae_ext.data.scaling import Scaling
from somvae_ext.data.splits import Splits
from somvae_ext.extras import needed_by


class VitalSign(NamedTuple):
    """A column of ``vitalPeriodic``.

    Args:
        low, high: the smallest and the largest plausible value. Others are taken for errors of the monitor: it writes
            zeros when a sensor has come off, which cannot be told from a heart that has stopped.
        normal: the value that replaces an unknown one, the normal value of Harutyunyan et al., Multitask learning and
            benchmarking with clinical time series data, Scientific Data 6 (2019), 96.
    """

    low: float
    high: float
    normal: float


VITAL_SIGNS = {
    "temperature": VitalSign(25, 45, 36.6),  # degrees Celsius
    "sao2": VitalSign(20, 100, 98),  # per cent
    "heartrate": VitalSign(10, 300, 86),  # per minute
    "respiration": VitalSign(1, 100, 19),  # per minute
    "systemicsystolic": VitalSign(20, 300, 118),  # mmHg
    "systemicdiastolic": VitalSign(5, 200, 59),  # mmHg
    "systemicmean": VitalSign(10, 250, 77),  # mmHg
}

SCORE_HOURS = (6, 12, 24)
"""How many hours the scores of :attr:`EICUStays.worst_score` look ahead."""

_FAHRENHEIT = (86, 113)
_HELD_OUT = 0.15  # share of the patients for validation, and again for the test
_LARGEST_SCORE = 252
# Values are summed as integers, in units of 1 / _PER_UNIT: such sums do not depend on the order of the rows.
_PER_UNIT = 1000
_VALUES_PER_BLOCK = 2**20  # 8 MiB in float64


@dataclasses.dataclass(frozen=True, eq=False)
class EICUStays:
    """Stays in intensive care as series of steps from the admission on, ordered by id.

    Args:
        x: vital signs, float32 ``[B, T, F]``; the mean of the values measured in a step, else the last known one, else
            a normal one, see :func:`read_eicu`. 0 in steps that are not real.
        mask: which steps are real, bool ``[B, T]``.
        worst_score: the largest :func:`~somvae_ext.data.physiology_score.vital_sign_score` of the 6, 12 and 24 hours
            that follow a step, int64 ``[B, T, 3]``; -1 where no score in that time is known, and in steps that are not
            real.
        stay_score: the acute physiology score that the database gives for the stay, int64 ``[B]``; -1 where it gives
            none.
        patient: int64 ``[B]``, the same number for stays of one patient, from 0.
        stay_ids: ``patientunitstayid``, int64 ``[B]``.
        feature_names: F names of vital signs, as in the database.
        description: what was read, left out, converted and filled in, one sentence for each title.
    """

    x: Tensor
    mask: Tensor
    worst_score: Tensor
    stay_score: Tensor
    patient: Tensor
    stay_ids: Tensor
    feature_names: tuple[str, ...]
    description: dict[str, str]

    def __len__(self) -> int:
        return len(self.x)


@needed_by("read_eicu")
def read_eicu(
    folder: str | os.PathLike[str],
    *,
    step_minutes: int = 60,
    max_hours: int = 72,
    min_steps: int = 12,
    carry_hours: int = 6,
    show_progress: bool | None = None,
) -> EICUStays:
    """Reads the vital signs of all stays, averaged over steps from the admission to the unit on.

    The folder holds ``vitalPeriodic.csv``, ``patient.csv`` and, for the scores of stays, ``apachePatientResult.csv``,
    each also as ``.csv.gz``. The case of file and column names and the order of rows do not matter.

    - A step has the mean of the values measured in it. Duplicate rows count twice, so a file whose rows are all doubled
      gives the same means.
    - Temperatures from 86 to 113 are taken for degrees Fahrenheit. Implausible values, see :data:`VITAL_SIGNS`, and
      ``nan`` and ``inf`` count as missing.
    - A sign that is missing in a step keeps its last value for up to ``carry_hours``. Without such a value it gets its
      normal one, as missing signs do in the APACHE score.
    - A step is real if a sign was measured in it or in the ``carry_hours`` before it. Longer gaps, the time before the
      first measurement and that after the last one are masked.
    - The score of a step is that of the means of the signs measured in the step itself. The scores of the following
      hours look beyond ``max_hours``.
    - ``stay_score`` is that of APACHE version IVa, and that of version IV where IVa has none.

    Reading takes 12 * 7 bytes for each step up to 24 hours after ``max_hours``, and 53 bytes for each step up to
    ``max_hours``: at most 12 kB per stay with the default steps, or 2.4 GB for the 200,859 stays of the database, and
    less if stays are shorter.

    Args:
        folder: the folder of the database.
        step_minutes: length of a step, a divisor of 360.
        max_hours: T is the number of steps in this time.
        min_steps: stays with fewer real steps are left out.
        carry_hours: see above.
        show_progress: whether to show on stderr how much of ``vitalPeriodic`` was read, as a bar on a terminal and in
            lines elsewhere; by default the bar only.

    Raises:
        FileNotFoundError: there is no such folder, or no ``vitalPeriodic`` or ``patient`` in it.
        OSError: a file cannot be read.
        ValueError: an option or a file that cannot be used, or no stay that is long enough; the message says what is
            wrong and where.
        ModuleNotFoundError: pyarrow is missing, or a bar is to be shown and tqdm is missing.
    """
    step_minutes = check_integer("read_eicu", "step_minutes", step_minutes, Bounds(at_least=1, at_most=360))
    if 360 % step_minutes:
        raise ValueError(
            f"read_eicu: step_minutes must divide the 360 minutes of the shortest score, got {step_minutes}"
        )
    max_hours = check_integer("read_eicu", "max_hours", max_hours, Bounds(at_least=1, at_most=24 * 366))
    min_steps = check_integer("read_eicu", "min_steps", min_steps)
    carry_hours = check_integer("read_eicu", "carry_hours", carry_hours, Bounds(at_least=0))
    folder = Path(folder)
    paths = _find_files(folder)
    num_steps = -(-max_hours * 60 // step_minutes)
    max_steps = num_steps + SCORE_HOURS[-1] * 60 // step_minutes
    patients = _read_patients(paths.patient)
    stay_score, num_impossible_scores = _read_stay_scores(paths.score, patients.stay_ids)
    sums = _StepSums(patients, step_minutes, max_steps)
    columns: dict[str, ColumnType] = {"patientunitstayid": "int64", "observationoffset": "int64"}
    columns |= dict.fromkeys(VITAL_SIGNS, "float64")
    for block in read_blocks(paths.vital, columns, show_progress=show_progress):
        sums.add(block)
    carry_steps = carry_hours * 60 // step_minutes
    mask = _mask(sums, num_steps, carry_steps)
    kept = np.flatnonzero(mask.sum(axis=1) >= min_steps)
    if len(kept) == 0:
        raise ValueError(
            f"{paths.vital}: must hold a stay with at least {pluralize(min_steps, 'real step')} of {step_minutes} "
            f"minutes, got none among the {pluralize(len(mask), 'stay')} of {paths.patient.name}: "
            f"{sums.describe_rows()}"
        )
    mask = mask[kept]
    score_steps = [hours * 60 // step_minutes for hours in SCORE_HOURS]
    x, worst_score, filled_in = _series(sums, kept, mask, carry_steps, score_steps)
    stay_score = stay_score[kept]
    patient = np.unique(patients.patient[kept], return_inverse=True)[1].astype(np.int64)
    lengths = mask.sum(axis=1)
    description = {
        "data": f"{folder}: {pluralize(len(kept), 'stay')} of {pluralize(int(patient.max()) + 1, 'patient')}, "
        f"{lengths.min()} to {lengths.max()} real steps of {step_minutes} minutes, {len(VITAL_SIGNS)} vital signs",
        "stays": f"{len(patients.stay_ids) - len(kept)} of {pluralize(len(patients.stay_ids), 'stay')} were left out, "
        f"having fewer than {pluralize(min_steps, 'real step')} in their first {pluralize(max_hours, 'hour')}",
        "rows": sums.describe_rows(),
        "temperatures": f"{sums.num_fahrenheit} were converted from degrees Fahrenheit",
        "impossible values": sums.describe_impossible(),
        "filled in": filled_in,
        "scores of stays": _describe_stay_scores(paths.score, stay_score, num_impossible_scores),
    }
    return EICUStays(
        x=torch.from_numpy(x),
        mask=torch.from_numpy(mask),
        worst_score=torch.from_numpy(worst_score),
        stay_score=torch.from_numpy(stay_score),
        patient=torch.from_numpy(patient),
        stay_ids=torch.from_numpy(patients.stay_ids[kept]),
        feature_names=tuple(VITAL_SIGNS),
        description=description,
    )


def rows_by_patient(stays: EICUStays, *, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Divides the rows of the stays into training, validation and test, with all stays of a patient in the same part.

    The patients are shuffled with ``seed`` and split 70 : 15 : 15.

    Returns:
        Three tensors of rows in increasing order, int64, together ``[B]``.

    Raises:
        ValueError: a seed that is no integer of at least 0, or fewer than 3 patients.
    """
    seed = check_integer("rows_by_patient", "seed", seed, Bounds(at_least=0, at_most=2**32 - 1))
    num_patients = int(stays.patient.max()) + 1
    if num_patients < 3:
        raise ValueError(
            "rows_by_patient: stays must be of at least 3 patients, one for each of training, validation and test, got "
            f"{num_patients}"
        )
    held_out = max(1, round(_HELD_OUT * num_patients))
    order = torch.randperm(num_patients, generator=torch.Generator().manual_seed(seed))
    part = torch.zeros(num_patients, dtype=torch.int64)
    part[order[-held_out:]] = 2
    part[order[-2 * held_out : -held_out]] = 1
    train, validation, test = ((part[stays.patient] == number).nonzero()[:, 0] for number in range(3))
    return train, validation, test


def split_eicu(stays: EICUStays, *, score_hours: int | None = None, seed: int = 0) -> Splits[Samples]:
    """Splits the stays into series for training, validation and test, and standardizes them.

    Signs have mean 0 and variance 1 in the training steps. The parts hold the stays of :func:`rows_by_patient`, so
    other scores of them can be looked up.

    Args:
        stays: see :func:`read_eicu`.
        score_hours: 6, 12 or 24: the label of a step is its worst score in so many hours, and steps where that is
            unknown are masked. By default there are no labels.
        seed: draws the patients.

    Raises:
        ValueError: other hours, or stays or a seed that :func:`rows_by_patient` refuses.
    """
    label, mask = None, stays.mask
    if score_hours is not None:
        if score_hours not in SCORE_HOURS:
            raise ValueError(f"split_eicu: score_hours must be 6, 12 or 24, got {score_hours!r}")
        label = stays.worst_score[:, :, SCORE_HOURS.index(score_hours)]
        mask = mask & (label >= 0)
    samples = Samples(stays.x, label, mask, stays.feature_names)
    train, validation, test = (samples.rows(rows) for rows in rows_by_patient(stays, seed=seed))
    scaling = Scaling.from_samples(train, tabular=True, kind="standard")
    fill = tuple(sign.normal for sign in VITAL_SIGNS.values())
    splits = Splits(train, validation, test, kind="series", scaling=scaling, fill=fill, description=stays.description)
    return splits.map(scaling.apply_to_samples)


class _Paths(NamedTuple):
    vital: Path
    patient: Path
    score: Path | None


class _Patients(NamedTuple):
    """The table ``patient`` sorted by stay: ids, numbers of patients, minutes until the discharge, int64 ``[S]``."""

    stay_ids: NDArray[np.int64]
    patient: NDArray[np.int64]
    discharge: NDArray[np.int64]


def _find_files(folder: Path) -> _Paths:
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder")
    if not folder.is_dir():
        raise ValueError(f"{folder}: must be a folder with vitalPeriodic.csv and patient.csv, got a file")
    paths = {name: find_csv(folder, name) for name in ("vitalPeriodic", "patient", "apachePatientResult")}
    for name in ("vitalPeriodic", "patient"):
        if paths[name] is None:
            raise FileNotFoundError(f"{folder}: must hold {name}.csv or {name}.csv.gz, got neither")
    vital, patient, score = paths.values()
    assert vital is not None
    assert patient is not None
    return _Paths(vital, patient, score)


def _read_patients(path: Path) -> _Patients:
    blocks = list(
        read_blocks(path, {"patientunitstayid": "int64", "uniquepid": "string", "unitdischargeoffset": "int64"})
    )
    ids, names, discharge = (np.concatenate([block[name] for block in blocks]) for name in blocks[0])
    _refuse_empty(path, "patientunitstayid", ids == NO_INTEGER)
    stripped = [(name or "").strip() for name in names]
    _refuse_empty(path, "uniquepid", np.array([not name for name in stripped]))
    numbers = {name: number for number, name in enumerate(sorted(set(stripped)))}
    patient = np.array([numbers[name] for name in stripped])
    stay_ids, first, row = np.unique(ids, return_index=True, return_inverse=True)
    differs = (patient != patient[first][row]) | (discharge != discharge[first][row])
    if differs.any():
        raise ValueError(
            f"{path}: every stay must have one patient and one discharge, got several of stay {ids[differs.argmax()]}"
        )
    return _Patients(stay_ids, patient[first], discharge[first])


def _refuse_empty(path: Path, column: str, is_empty: NDArray[np.bool_]) -> None:
    if is_empty.any():
        row = int(is_empty.argmax()) + 2  # the names are row 1
        raise ValueError(f"{path}: {column} must be in every row, got an empty cell in row {row}")


def _read_stay_scores(path: Path | None, stay_ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Reads the acute physiology score of each stay, -1 where unknown; also counts rows with an impossible one."""
    score = np.full(len(stay_ids), UNKNOWN, dtype=np.int64)
    if path is None:
        return score, 0
    blocks = list(
        read_blocks(path, {"patientunitstayid": "int64", "acutephysiologyscore": "int64", "apacheversion": "string"})
    )
    ids, values, versions = (np.concatenate([block[name] for block in blocks]) for name in blocks[0])
    versions = np.array([(version or "").strip().upper() for version in versions], dtype=object)
    is_other = (versions != "IV") & (versions != "IVA")
    if is_other.any():
        row = int(is_other.argmax())
        raise ValueError(f"{path}: apacheversion must be IV or IVa, got {versions[row][:20]!r} in row {row + 2}")
    is_score = (values >= 0) & (values <= _LARGEST_SCORE)
    num_impossible = int((~is_score & (values != UNKNOWN) & (values != NO_INTEGER)).sum())
    stay, is_known = _find_sorted(stay_ids, ids)
    for version in ("IV", "IVA"):  # the later one overwrites
        rows = is_known & is_score & (versions == version)
        pairs = np.unique(np.stack([stay[rows], values[rows]], axis=1), axis=0)
        repeated = pairs[1:, 0][pairs[1:, 0] == pairs[:-1, 0]]
        if len(repeated):
            raise ValueError(
                f"{path}: every stay must have one acutephysiologyscore of a version, got several of stay "
                f"{stay_ids[repeated[0]]}"
            )
        score[pairs[:, 0]] = pairs[:, 1]
    return score, num_impossible


def _describe_stay_scores(path: Path | None, stay_score: NDArray[np.int64], num_impossible: int) -> str:
    if path is None:
        return "unknown, because there is no apachePatientResult.csv"
    text = f"known of {int((stay_score != UNKNOWN).sum())} of {pluralize(len(stay_score), 'stay')}"
    if num_impossible:
        text += f", {pluralize(num_impossible, 'row')} with a score outside 0 to {_LARGEST_SCORE} left out"
    return text


class _StepSums:
    """Sums and counts of the values of each vital sign in each step, with the steps of all stays concatenated.

    Args:
        patients: S stays.
        step_minutes: length of a step.
        max_steps: the largest number of steps of a stay that are read.
    """

    def __init__(self, patients: _Patients, step_minutes: int, max_steps: int) -> None:
        self._patients, self._step_minutes, self._max_steps = patients, step_minutes, max_steps
        # The step of the discharge belongs to the stay. If the discharge is unknown, all steps do.
        until_discharge = np.where(
            patients.discharge == NO_INTEGER,
            max_steps,
            np.clip(patients.discharge, -1, max_steps * step_minutes) // step_minutes + 1,
        )
        self._num_steps = np.minimum(until_discharge, max_steps)
        self._start = np.cumsum(self._num_steps) - self._num_steps
        # np.zeros calls calloc, so stays without values take no memory.
        self._sums = np.zeros((len(VITAL_SIGNS), int(self._num_steps.sum())), dtype=np.int64)
        self._counts = np.zeros(self._sums.shape, dtype=np.int32)
        self._num_rows = 0
        self._num_left_out: dict[str, int] = {}  # by reason
        self._num_impossible = dict.fromkeys(VITAL_SIGNS, 0)
        self.num_fahrenheit = 0

    def add(self, block: Block) -> None:
        """Adds rows of ``vitalPeriodic`` ``[n]``."""
        ids, offset = block["patientunitstayid"], block["observationoffset"]
        stay, is_known = _find_sorted(self._patients.stay_ids, ids)
        step = offset // self._step_minutes
        reasons = {
            "without a stay or a time": (ids == NO_INTEGER) | (offset == NO_INTEGER),
            "of stays that are not in the table of patients": ~is_known,
            "before the admission": offset < 0,
            "later than what is read": step >= self._max_steps,
            "after the discharge": step >= self._num_steps[stay],
        }
        used = np.ones(len(ids), dtype=bool)
        for reason, applies in reasons.items():  # a row is counted for the first reason
            self._num_left_out[reason] = self._num_left_out.get(reason, 0) + int((used & applies).sum())
            used &= ~applies
        self._num_rows += len(ids)
        cell = self._start[stay[used]] + step[used]
        for sign, name in enumerate(VITAL_SIGNS):
            values, measured = self._possible_values(name, block[name][used])
            np.add.at(self._sums[sign], cell[measured], np.rint(values * _PER_UNIT).astype(np.int64))
            np.add.at(self._counts[sign], cell[measured], np.int32(1))  # any other type is far slower

    def _possible_values(self, name: str, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Returns the plausible values of a sign, and which of the rows hold them."""
        if name == "temperature":
            is_fahrenheit = (values >= _FAHRENHEIT[0]) & (values <= _FAHRENHEIT[1])
            self.num_fahrenheit += int(is_fahrenheit.sum())
            values = np.where(is_fahrenheit, (values - 32) / 1.8, values)
        measured = (values >= VITAL_SIGNS[name].low) & (values <= VITAL_SIGNS[name].high)
        self._num_impossible[name] += int((~measured & ~np.isnan(values)).sum())
        return values[measured], measured

    @property
    def num_stays(self) -> int:
        """S."""
        return len(self._num_steps)

    def blocks(self, stays: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """Iterates over blocks of stays and their means ``[n, max_steps, F]``, NaN where nothing was measured."""
        step = np.arange(self._max_steps)
        size = max(1, _VALUES_PER_BLOCK // (self._max_steps * len(VITAL_SIGNS)))
        for begin in range(0, len(stays), size):
            rows = stays[begin : begin + size]
            exists = step < self._num_steps[rows, None]
            cell = (self._start[rows, None] + step)[exists]
            means = np.full((len(rows), self._max_steps, len(VITAL_SIGNS)), np.nan)
            count = self._counts[:, cell].T
            sums = self._sums[:, cell].T
            means[exists] = np.where(count > 0, sums / (np.maximum(count, 1, dtype=np.int64) * _PER_UNIT), np.nan)
            yield rows, means

    def describe_rows(self) -> str:
        """Says how many rows were left out, and why."""
        left_out = [f"{number} {reason}" for reason, number in self._num_left_out.items() if number]
        text = f"{', '.join(left_out)} were left out" if left_out else "all were used"
        return f"{pluralize(self._num_rows, 'row')} of vitalPeriodic, of which {text}"

    def describe_impossible(self) -> str:
        """Says how many values are implausible."""
        numbers = [
            f"{number} of {name} outside {VITAL_SIGNS[name].low:g} to {VITAL_SIGNS[name].high:g}"
            for name, number in self._num_impossible.items()
            if number
        ]
        return f"{', '.join(numbers)} count as missing" if numbers else "none"


def _find_sorted(stay_ids: NDArray[np.int64], ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Returns the position of each id in the sorted ids, and whether it is among them."""
    place = np.minimum(np.searchsorted(stay_ids, ids), len(stay_ids) - 1)
    return place, stay_ids[place] == ids


def _mask(sums: _StepSums, num_steps: int, carry_steps: int) -> NDArray[np.bool_]:
    """Returns which of the first steps of all stays are real, ``[S, num_steps]``."""
    mask = np.zeros((sums.num_stays, num_steps), dtype=bool)
    for stays, means in sums.blocks(np.arange(sums.num_stays)):
        measured = np.logical_or.reduce(~np.isnan(means), axis=2)
        before_the_end = np.logical_or.accumulate(measured[:, ::-1], axis=1)[:, ::-1]
        real = (_steps_since(measured) <= min(carry_steps, measured.shape[1])) & before_the_end
        mask[stays] = real[:, :num_steps]
    return mask


def _series(
    sums: _StepSums, stays: NDArray[np.int64], mask: NDArray[np.bool_], carry_steps: int, score_steps: Sequence[int]
) -> tuple[NDArray[np.float32], NDArray[np.int64], str]:
    """Makes the series of some stays.

    Args:
        sums: sums of all stays.
        stays: B of these stays.
        mask: which of their steps are real, ``[B, T]``.
        carry_steps: for how many steps the last value replaces missing ones.
        score_steps: W numbers of steps that the worst scores look ahead.

    Returns:
        The vital signs ``[B, T, F]``, the worst scores ``[B, T, W]``, and a sentence about what was filled in.
    """
    num_steps = mask.shape[1]
    x = np.zeros((*mask.shape, len(VITAL_SIGNS)), dtype=np.float32)
    worst = np.full((*mask.shape, len(score_steps)), UNKNOWN, dtype=np.int64)
    num_measured = num_carried = done = 0
    for rows, means in sums.blocks(stays):
        part = slice(done, done + len(rows))
        done += len(rows)
        real = mask[part]
        score = worst_following(vital_sign_score(means, tuple(VITAL_SIGNS)), score_steps)
        worst[part][real] = score[:, :num_steps][real]
        means = means[:, :num_steps]
        filled, is_carried = _fill_forward(means, carry_steps)
        x[part][real] = filled[real]
        num_measured += int((~np.isnan(means[real])).sum())
        num_carried += int(is_carried[real].sum())
    num_values = int(mask.sum()) * len(VITAL_SIGNS)
    num_normal = num_values - num_measured - num_carried
    text = (
        f"{num_measured / num_values:.1%} of the values were measured, {num_carried / num_values:.1%} are the last "
        f"ones before, {num_normal / num_values:.1%} normal ones"
    )
    return x, worst, text


def _steps_since(happened: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Counts steps since the last event along axis 1: 0 at an event, more than all steps before the first one."""
    num_steps = happened.shape[1]
    step = np.arange(num_steps).reshape(1, -1, *(1 for _ in happened.shape[2:]))
    return step - np.maximum.accumulate(np.where(happened, step, -num_steps - 1), axis=1)


def _fill_forward(means: NDArray[np.float64], carry_steps: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Fills gaps in means ``[n, T, F]`` with the last value, if it is recent enough, or with the normal one.

    Returns:
        The filled means, and which of them come from an earlier step.
    """
    num_steps = means.shape[1]
    since = _steps_since(~np.isnan(means))
    is_recent = since <= min(carry_steps, num_steps)
    last = np.take_along_axis(means, np.maximum(np.arange(num_steps)[:, None] - since, 0), axis=1)
    normal = np.array([sign.normal for sign in VITAL_SIGNS.values()])
    return np.where(is_recent, last, normal), is_recent & (since > 0)
