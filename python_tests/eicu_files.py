"""Synthetic folders in the layout of the eICU Collaborative Research Database, with hidden states to be found."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv

STATES = ("stable", "tachycardic and febrile", "hypotensive")
STATE_MEANS = {  # one mean per state; the states' points of the physiology score: 0, 7 + 6 = 13, and 5 + 15 = 20
    "temperature": (36.8, 39.2, 36.6),
    "sao2": (97, 94, 90),
    "heartrate": (80, 130, 115),
    "respiration": (18, 30, 19),
    "systemicsystolic": (122, 125, 80),
    "systemicdiastolic": (66, 70, 42),
    "systemicmean": (88, 90, 50),
}
VITAL_COLUMNS = (
    *("vitalperiodicid", "patientunitstayid", "observationoffset", "temperature", "sao2", "heartrate", "respiration"),
    *("cvp", "etco2", "systemicsystolic", "systemicdiastolic", "systemicmean", "pasystolic", "padiastolic", "pamean"),
    *("st1", "st2", "st3", "icp"),
)
MINUTES = 5  # between two rows of vitalPeriodic
_STAY_DEVIATION = {"temperature": 0.15}  # standard deviation of the stays' means; 2 for the other signs
_ROW_DEVIATION = {"temperature": 0.1}  # standard deviation of values within a stay; 2 for the other signs
_KEEP_STATE = 0.94  # probability that a state lasts for another hour
_STAYS_PER_BLOCK = 500


class Planted(NamedTuple):
    """The truth behind the files: ids of the stays ``[B]``, their patients ``[B]``, hidden states ``[B, hours]``."""

    stay_ids: NDArray[np.int64]
    patient: NDArray[np.int64]
    states: NDArray[np.int64]


def write_eicu_folder(
    folder: Path, *, num_patients: int, hours: int, seed: int = 0, compressed: bool = False
) -> Planted:
    """Writes the three tables. There is a row every 5 minutes, and every fifth patient has a second stay.

    Each hour of a stay is in one of three hidden states, drawn from a Markov chain over the hours. Temperature is
    measured once an hour; 2 % of the other vital signs are missing.

    Args:
        folder: where to write; created if it does not exist.
        num_patients: number of patients with a first stay.
        hours: length of each stay.
        seed: seed of all random numbers.
        compressed: whether to write ``.csv.gz``.
    """
    random = np.random.default_rng(seed)
    patient = np.concatenate([np.arange(num_patients), np.arange(0, num_patients, 5)])
    stay_ids = 140_000 + np.sort(random.choice(20 * len(patient), len(patient), replace=False))
    states = _draw_states(len(patient), hours, random)
    folder.mkdir(parents=True, exist_ok=True)
    ending = ".csv.gz" if compressed else ".csv"
    _write(folder / f"patient{ending}", [_patient_table(stay_ids, patient, hours, random)])
    _write(folder / f"apachePatientResult{ending}", [_score_table(stay_ids, states, random)])
    blocks = [slice(begin, begin + _STAYS_PER_BLOCK) for begin in range(0, len(patient), _STAYS_PER_BLOCK)]
    vital = (_vital_table(stay_ids[block], states[block], block.start, random) for block in blocks)
    _write(folder / f"vitalPeriodic{ending}", vital)
    return Planted(stay_ids, patient, states)


def _draw_states(num_stays: int, hours: int, random: np.random.Generator) -> NDArray[np.int64]:
    states = np.empty((num_stays, hours), dtype=np.int64)
    states[:, 0] = random.integers(len(STATES), size=num_stays)
    for hour in range(1, hours):
        step = random.integers(1, len(STATES), size=num_stays) * (random.random(num_stays) >= _KEEP_STATE)
        states[:, hour] = (states[:, hour - 1] + step) % len(STATES)
    return states


def _vital_table(
    stay_ids: NDArray[np.int64], states: NDArray[np.int64], first: int, random: np.random.Generator
) -> pa.Table:
    per_hour = 60 // MINUTES
    num_stays, hours = states.shape
    shape = (num_stays, hours * per_hour)
    state = states.repeat(per_hour, axis=1)
    columns = {
        "vitalperiodicid": 37_000_000 + first * shape[1] + np.arange(state.size),
        "patientunitstayid": stay_ids.repeat(shape[1]),
        "observationoffset": np.tile(np.arange(shape[1]) * MINUTES, num_stays),
    }
    arrays = {name: pa.array(values) for name, values in columns.items()}
    for name, means in STATE_MEANS.items():
        own = random.normal(0, _STAY_DEVIATION.get(name, 2), (num_stays, 1))
        values = np.array(means)[state] + own + random.normal(0, _ROW_DEVIATION.get(name, 2), shape)
        is_missing = random.random(shape) < 0.02
        if name == "temperature":
            is_missing = np.broadcast_to(np.arange(shape[1]) % per_hour != 0, shape)
            arrays[name] = pa.array(values.round(1).ravel(), mask=is_missing.ravel())
        else:
            values = np.minimum(values, 100) if name == "sao2" else values
            arrays[name] = pa.array(values.round().astype(np.int64).ravel(), mask=is_missing.ravel())
    empty = pa.nulls(state.size)
    return pa.table({name: arrays.get(name, empty) for name in VITAL_COLUMNS})


def _patient_table(
    stay_ids: NDArray[np.int64], patient: NDArray[np.int64], hours: int, random: np.random.Generator
) -> pa.Table:
    return pa.table(
        {
            "patientunitstayid": stay_ids,
            "patienthealthsystemstayid": stay_ids + 500_000,
            "gender": random.choice(["Female", "Male"], len(patient)),
            "age": random.choice(["34", "52", "71", "> 89"], len(patient)),
            "apacheadmissiondx": ['Sepsis, "pulmonary"'] * len(patient),
            "unitdischargeoffset": np.full(len(patient), hours * 60),
            "uniquepid": [f"002-{number}" for number in patient],
        }
    )


def _score_table(stay_ids: NDArray[np.int64], states: NDArray[np.int64], random: np.random.Generator) -> pa.Table:
    """Returns two rows per stay. Every tenth stay has the score -1, which means unknown."""
    is_ill = (states[:, :24] > 0).any(axis=1)
    score = random.integers(10, 30, len(states)) + np.where(is_ill, 25, 0)
    score[9::10] = -1
    return pa.table(
        {
            "apachepatientresultsid": np.arange(2 * len(states)),
            "patientunitstayid": stay_ids.repeat(2),
            "acutephysiologyscore": score.repeat(2),
            "apachescore": score.repeat(2) + 5,
            "apacheversion": np.tile(["IV", "IVa"], len(states)),
            "predictedicumortality": pa.nulls(2 * len(states)),
        }
    )


def _write(path: Path, tables: Iterable[pa.Table]) -> None:
    tables = iter(tables)
    first = next(tables)
    with gzip.open(path, "wb", compresslevel=1) if path.suffix == ".gz" else path.open("wb") as file:
        csv.write_csv(first, file, csv.WriteOptions(quoting_style="needed"))
        for table in tables:
            csv.write_csv(table, file, csv.WriteOptions(include_header=False, quoting_style="needed"))
