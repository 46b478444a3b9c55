"""Stays of eICU: steps, scores and splits from its tables, and errors about tables that cannot be used."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eicu_files import STATES, VITAL_COLUMNS, write_eicu_folder
from physiology_oracle import PRINTED, points

from somvae_ext.data import EICUStays, Splits, csv_blocks, eicu, read_eicu
from somvae_ext.data.eicu import VITAL_SIGNS, rows_by_patient, split_eicu

SIGNS = list(VITAL_SIGNS)
NORMAL = {
    "temperature": 36.6,
    "sao2": 98,
    "heartrate": 86,
    "respiration": 19,
    "systemicsystolic": 118,
    "systemicdiastolic": 59,
    "systemicmean": 77,
}
Row = dict[str, Any]
FieldsOf = dict[str, list[Row]]


def vital(stay: int, offset: int, **values: float | str) -> Row:
    return {"patientunitstayid": stay, "observationoffset": offset, **values}


def patient(stay: int, name: str | None = None, discharge: int | str = 100 * 60) -> Row:
    return {"patientunitstayid": stay, "uniquepid": name or f"p{stay}", "unitdischargeoffset": discharge}


def score(stay: int, value: int | str, version: str = "IVa") -> Row:
    return {"patientunitstayid": stay, "acutephysiologyscore": value, "apacheversion": version}


def table(columns: tuple[str, ...], rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_tables(
    folder: Path, vitals: list[Row], patients: list[Row] | None = None, scores: list[Row] | None = None
) -> Path:
    """Writes the tables, numbering the vital signs by vitalperiodicid; by default every stay has its own patient."""
    folder.mkdir(exist_ok=True)
    if patients is None:
        patients = [patient(stay) for stay in {row["patientunitstayid"]: None for row in vitals}]
    numbered = [{"vitalperiodicid": number, **row} for number, row in enumerate(vitals)]
    (folder / "vitalPeriodic.csv").write_text(table(VITAL_COLUMNS, numbered))
    columns = ("patientunitstayid", "gender", "uniquepid", "unitdischargeoffset")
    (folder / "patient.csv").write_text(table(columns, patients))
    if scores is not None:
        columns = ("patientunitstayid", "acutephysiologyscore", "apacheversion")
        (folder / "apachePatientResult.csv").write_text(table(columns, scores))
    return folder


def hourly(stay: int, hours: range, **values: float) -> list[Row]:
    return [vital(stay, 60 * hour, **values) for hour in hours]


def replace_text(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def equal(first: EICUStays, second: EICUStays) -> bool:
    names = ("x", "mask", "worst_score", "stay_score", "patient", "stay_ids")
    return all(getattr(first, name).equal(getattr(second, name)) for name in names)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six stays of five patients over 15 hours, written by :func:`write_eicu_folder`."""
    write_eicu_folder(tmp_path / "eicu", num_patients=5, hours=15)
    return tmp_path / "eicu"


# --------------------------------------------------------------------------------------------------------------- steps


def possible(sign: str, text: str) -> float | None:
    """Returns the value of a vital sign in a cell, in degrees Celsius for temperatures, or None if it is impossible."""
    low, high = {
        "temperature": (25, 45),
        "sao2": (20, 100),
        "heartrate": (10, 300),
        "respiration": (1, 100),
        "systemicsystolic": (20, 300),
        "systemicdiastolic": (5, 200),
        "systemicmean": (10, 250),
    }[sign]
    value = float(text or "nan")
    if sign == "temperature" and 86 <= value <= 113:
        value = (value - 32) * 5 / 9
    return value if low <= value <= high else None


def read_row_by_row(folder: Path, step_minutes: int, max_hours: int, carry_hours: int) -> dict[int, dict[str, Any]]:
    """Computes the expected arrays of each stay by plain loops over dictionaries of all values."""
    with (folder / "patient.csv").open() as file:
        discharge = {int(row["patientunitstayid"]): int(row["unitdischargeoffset"]) for row in csv.DictReader(file)}
    values: dict[tuple[int, int, str], list[float]] = defaultdict(list)
    with (folder / "vitalPeriodic.csv").open() as file:
        for row in csv.DictReader(file):
            stay, offset = int(row["patientunitstayid"]), int(row["observationoffset"])
            for sign in SIGNS:
                value = possible(sign, row[sign])
                if 0 <= offset // step_minutes <= discharge.get(stay, -1) // step_minutes and value is not None:
                    values[stay, offset // step_minutes, sign].append(value)
    means = {key: sum(several) / len(several) for key, several in values.items()}
    carry, num_steps = carry_hours * 60 // step_minutes, max_hours * 60 // step_minutes
    stays: dict[int, dict[str, Any]] = {}
    for stay in sorted(discharge):
        measured = sorted({step for own, step, _ in means if own == stay and step < num_steps + 1440 // step_minutes})
        scores = {}
        for step in measured:
            known = [points(sign, means[stay, step, sign]) for sign in PRINTED if (stay, step, sign) in means]
            scores[step] = sum(known) if known else -1
        x = np.zeros((num_steps, len(SIGNS)))
        mask = np.zeros(num_steps, dtype=bool)
        worst = np.full((num_steps, 3), -1)
        for step in range(num_steps):
            mask[step] = any(step - carry <= other <= step for other in measured) and step <= max(measured)
            if mask[step]:
                for column, sign in enumerate(SIGNS):
                    recent = [other for other in range(step - carry, step + 1) if (stay, other, sign) in means]
                    x[step, column] = means[stay, recent[-1], sign] if recent else NORMAL[sign]
                for column, hours in enumerate((6, 12, 24)):
                    ahead = range(step + 1, step + 1 + hours * 60 // step_minutes)
                    worst[step, column] = max((scores.get(other, -1) for other in ahead), default=-1)
        stays[stay] = {"x": x, "mask": mask, "worst_score": worst}
    return stays


def irregular_rows(seed: int) -> tuple[list[Row], list[Row]]:
    """Makes rows with gaps, at irregular times, in random order, with impossible values and degrees Fahrenheit."""
    random = np.random.default_rng(seed)
    vitals: list[Row] = []
    for stay in (7, 3, 12, 900):  # 900 is not among the patients
        for offset in random.integers(-200, 80 * 60, 150):
            row = vital(stay, int(offset))
            for sign in SIGNS:
                low, high = VITAL_SIGNS[sign].low, VITAL_SIGNS[sign].high
                value = round(float(random.uniform(low - 1, high + 1)), 1)
                if random.random() < 0.5:
                    row[sign] = random.choice(["nan", "inf", "-1", "1e9", "101.3"]) if random.random() < 0.2 else value
            vitals.append(row)
    return vitals, [patient(12, discharge=50 * 60 + 30), patient(3), patient(7)]


@pytest.mark.parametrize(
    ("step_minutes", "max_hours", "carry_hours"), [(60, 72, 6), (60, 30, 2), (30, 48, 1), (360, 72, 0)]
)
def test_steps_equal_those_of_the_row_by_row_oracle(
    step_minutes: int, max_hours: int, carry_hours: int, tmp_path: Path
) -> None:
    vitals, patients = irregular_rows(step_minutes + max_hours)
    folder = write_tables(tmp_path, vitals, patients)
    stays = read_eicu(folder, step_minutes=step_minutes, max_hours=max_hours, carry_hours=carry_hours, min_steps=1)
    expected = read_row_by_row(folder, step_minutes, max_hours, carry_hours)
    assert stays.stay_ids.tolist() == list(expected) == [3, 7, 12]
    for row, stay in enumerate(expected.values()):
        np.testing.assert_array_equal(stays.mask[row], stay["mask"])
        np.testing.assert_array_equal(stays.worst_score[row], stay["worst_score"])
        # Values are rounded to thousandths before they are averaged, and the means to float32.
        np.testing.assert_allclose(stays.x[row], stay["x"], rtol=2**-23, atol=0.0005)


def test_fields_have_the_shapes_and_dtypes_that_are_documented(folder: Path) -> None:
    stays = read_eicu(folder)
    assert {
        name: (tuple(value.shape), value.dtype) for name, value in vars(stays).items() if torch.is_tensor(value)
    } == {
        "x": ((6, 72, 7), torch.float32),
        "mask": ((6, 72), torch.bool),
        "worst_score": ((6, 72, 3), torch.int64),
        "stay_score": ((6,), torch.int64),
        "patient": ((6,), torch.int64),
        "stay_ids": ((6,), torch.int64),
    }
    assert stays.feature_names == tuple(SIGNS)
    assert len(stays) == 6
    assert stays.mask.sum(dim=1).tolist() == [15] * 6


def test_padding_has_no_values_and_no_scores(folder: Path) -> None:
    stays = read_eicu(folder)
    assert (stays.x[~stays.mask] == 0).all()
    assert (stays.worst_score[~stays.mask] == -1).all()


def test_long_gaps_are_masked_and_short_ones_carry_the_last_value(tmp_path: Path) -> None:
    vitals = [*hourly(1, range(2, 4), heartrate=90), *hourly(1, range(6, 7), heartrate=70, sao2=91)]
    vitals += hourly(1, range(12, 14), heartrate=60)
    stays = read_eicu(write_tables(tmp_path, vitals), min_steps=1, carry_hours=3)
    assert stays.mask[0].nonzero()[:, 0].tolist() == [2, 3, 4, 5, 6, 7, 8, 9, 12, 13]
    real = stays.x[0][stays.mask[0]]
    assert real[:, SIGNS.index("heartrate")].tolist() == [90, 90, 90, 90, 70, 70, 70, 70, 60, 60]
    assert real[:, SIGNS.index("sao2")].tolist() == [98] * 4 + [91] * 4 + [98] * 2
    assert "of the values were measured" in stays.description["filled in"]


def test_scores_include_hours_beyond_max_hours(tmp_path: Path) -> None:
    vitals = [*hourly(1, range(24), heartrate=80), vital(1, 47 * 60, heartrate=160), vital(1, 48 * 60, heartrate=30)]
    stays = read_eicu(write_tables(tmp_path, vitals), max_hours=24)
    assert stays.worst_score[0, -2:].tolist() == [[0, 0, 0], [-1, -1, 17]]


# ---------------------------------------------------------------------------- order, duplicates, names and compression


def body_and_names(path: Path) -> tuple[str, list[str]]:
    names, *lines = path.read_text().splitlines(keepends=True)
    return names, lines


def test_the_order_of_rows_and_doubled_rows_change_nothing(folder: Path) -> None:
    expected = read_eicu(folder)
    random = np.random.default_rng(0)
    for name in ("vitalPeriodic", "patient", "apachePatientResult"):
        names, lines = body_and_names(folder / f"{name}.csv")
        (folder / f"{name}.csv").write_text(names + "".join(random.permutation(lines * 2)))
    assert equal(read_eicu(folder), expected)


def test_names_of_files_and_columns_may_be_in_any_case_and_files_compressed(folder: Path) -> None:
    expected = read_eicu(folder)
    for path in list(folder.iterdir()):
        names, lines = body_and_names(path)
        text = "\ufeff" + names.upper() + "".join(lines)
        (folder / f"{path.stem.upper()}.CSV.gz").write_bytes(gzip.compress(text.replace("\n", "\r\n").encode()))
        path.unlink()
    assert equal(read_eicu(folder), expected)


def test_the_order_of_columns_is_free(folder: Path) -> None:
    expected = read_eicu(folder)
    path = folder / "vitalPeriodic.csv"
    lines = [line.rstrip("\n").split(",")[::-1] for line in path.read_text().splitlines()]
    path.write_text("".join(",".join(cells) + "\n" for cells in lines))
    assert equal(read_eicu(folder), expected)


def test_the_size_of_blocks_does_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_eicu(folder)
    monkeypatch.setattr(csv_blocks, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(eicu, "_VALUES_PER_BLOCK", 1)
    assert equal(read_eicu(folder), expected)


def test_a_row_is_numbered_from_the_beginning_of_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_row("vitalPeriodic", 700, "sao2", "?")(folder)
    monkeypatch.setattr(csv_blocks, "_BLOCK_BYTES", 1000)
    with pytest.raises(ValueError, match=r"sao2 must be a number, got '\?' in row 700, the names being row 1$"):
        read_eicu(folder)


def test_progress_is_shown_on_request(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read_eicu(folder)
    assert capsys.readouterr().err == ""
    read_eicu(folder, show_progress=True)
    assert re.fullmatch(r"(vitalPeriodic\.csv: \d+0%, \d+\.\d s\n)+", capsys.readouterr().err)


def test_ids_are_read_to_their_last_digit(tmp_path: Path) -> None:
    ids = [2**63 - 1, 2**63 - 2]
    stays = read_eicu(write_tables(tmp_path, [row for stay in ids for row in hourly(stay, range(12), sao2=97)]))
    assert stays.stay_ids.tolist() == ids[::-1]


# ----------------------------------------------------------------------------- what is left out, and how it is reported


def test_impossible_values_count_as_missing_and_fahrenheit_is_converted(tmp_path: Path) -> None:
    vitals = hourly(1, range(12), heartrate=80)
    vitals += [vital(1, 5, heartrate=301, sao2=101, temperature=98.6), vital(1, 6, heartrate=-5, sao2="inf")]
    stays = read_eicu(write_tables(tmp_path, vitals))
    first = dict(zip(SIGNS, stays.x[0, 0].tolist(), strict=True))
    assert (first["heartrate"], first["sao2"], first["temperature"]) == (80, 98, 37)
    assert stays.description["temperatures"] == "1 were converted from degrees Fahrenheit"
    assert stays.description["impossible values"] == (
        "2 of sao2 outside 20 to 100, 2 of heartrate outside 10 to 300 count as missing"
    )


def test_rows_that_are_left_out_are_counted(tmp_path: Path) -> None:
    vitals = hourly(1, range(12), heartrate=80)
    vitals += [vital(1, -1, heartrate=30), vital(1, 779, heartrate=31), vital(1, 780, heartrate=30)]
    vitals += [vital(2, 0, heartrate=30)] * 3
    vitals += [vital("", 0, heartrate=30), vital(1, "", heartrate=30)]  # type: ignore[arg-type]
    vitals += [vital(1, 96 * 60, heartrate=30)]
    stays = read_eicu(write_tables(tmp_path, vitals, [patient(1, discharge=720)]))
    assert stays.description["rows"] == (
        "21 rows of vitalPeriodic, of which 2 without a stay or a time, 3 of stays that are not in the table of "
        "patients, 1 before the admission, 1 later than what is read, 1 after the discharge were left out"
    )
    assert stays.x[0, :, SIGNS.index("heartrate")].tolist()[:14] == [80] * 12 + [31, 0]


def test_stays_without_a_known_discharge_are_read_to_their_last_row(tmp_path: Path) -> None:
    vitals = [*hourly(1, range(14), sao2=97), *hourly(2, range(13), sao2=97)]
    patients = [patient(1, discharge=""), patient(2, discharge=2**63 - 1)]
    stays = read_eicu(write_tables(tmp_path, vitals, patients), step_minutes=1, max_hours=15, carry_hours=1)
    assert stays.mask.sum(dim=1).tolist() == [13 * 60 + 1, 12 * 60 + 1]


def test_short_stays_are_left_out_and_counted(tmp_path: Path) -> None:
    vitals = [*hourly(1, range(12), sao2=97), *hourly(2, range(11), sao2=97)]
    patients = [patient(1), patient(2), patient(3), patient(4, discharge=-30)]
    stays = read_eicu(write_tables(tmp_path, vitals, patients))
    assert stays.stay_ids.tolist() == [1]
    assert stays.description["stays"] == (
        "3 of 4 stays were left out, having fewer than 12 real steps in their first 72 hours"
    )


def test_scores_of_stays_are_those_of_the_newer_version(tmp_path: Path) -> None:
    vitals = [row for stay in range(1, 6) for row in hourly(stay, range(12), sao2=97)]
    scores = [score(1, 40, "IVa"), score(1, 41, "IV"), score(2, 50, "IV"), score(2, -1, "IVa"), score(3, -1)]
    scores += [score(4, 999), score(4, ""), score(77, 12)]
    stays = read_eicu(write_tables(tmp_path, vitals, scores=scores))
    assert stays.stay_score.tolist() == [40, 50, -1, -1, -1]
    assert stays.description["scores of stays"] == (
        "known of 2 of 5 stays, 1 row with a score outside 0 to 252 left out"
    )


def test_without_the_table_of_scores_all_are_unknown(folder: Path) -> None:
    (folder / "apachePatientResult.csv").unlink()
    stays = read_eicu(folder)
    assert (stays.stay_score == -1).all()
    assert stays.description["scores of stays"] == "unknown, because there is no apachePatientResult.csv"


# -------------------------------------------------------------------------------------------------------------- splits


def test_the_stays_of_a_patient_are_in_one_part(tmp_path: Path) -> None:
    planted = write_eicu_folder(tmp_path, num_patients=40, hours=12)
    stays = read_eicu(tmp_path)
    assert len(stays) == 48
    assert stays.patient.unique().tolist() == list(range(40))
    parts = rows_by_patient(stays, seed=3)
    patients = [set(planted.patient[rows.numpy()]) for rows in parts]
    assert [len(part) for part in patients] == [28, 6, 6]
    assert len(set.union(*patients)) == 40
    assert torch.cat(parts).sort().values.tolist() == list(range(48))
    assert not torch.cat(parts).equal(torch.cat(rows_by_patient(stays, seed=4)))


def test_splits_are_series_scaled_by_the_real_steps_for_training(tmp_path: Path) -> None:
    write_eicu_folder(tmp_path, num_patients=20, hours=14)
    stays = read_eicu(tmp_path)
    splits = split_eicu(stays, score_hours=12, seed=1)
    assert isinstance(splits, Splits)
    assert (splits.kind, splits.sample_shape) == ("series", (7,))
    real = splits.train.x[splits.train.mask].double()
    np.testing.assert_allclose(real.mean(dim=0), 0, atol=1e-6)
    np.testing.assert_allclose(real.std(dim=0, correction=0), 1, rtol=1e-6)
    for part, rows in zip(splits, rows_by_patient(stays, seed=1), strict=True):
        assert part.label is not None
        assert part.label.equal(stays.worst_score[rows][:, :, 1])
        assert part.mask is not None
        assert part.mask.equal(stays.mask[rows] & (part.label >= 0))  # steps with a known score
        undone = splits.scaling.undo(part.x.double())
        np.testing.assert_allclose(undone[part.mask], stays.x[rows][part.mask], rtol=1e-6)
    assert splits.fill == tuple(NORMAL.values())
    unlabeled = split_eicu(stays, seed=1)
    assert unlabeled.train.label is None
    assert unlabeled.test.mask is not None
    assert unlabeled.test.mask.equal(stays.mask[rows_by_patient(stays, seed=1)[2]])


def test_splits_need_three_patients_and_known_hours(tmp_path: Path) -> None:
    vitals = [row for stay in (1, 2, 3) for row in hourly(stay, range(12), sao2=97)]
    stays = read_eicu(write_tables(tmp_path, vitals, [patient(1, "a"), patient(2, "b"), patient(3, "a")]))
    with pytest.raises(ValueError, match=r"^rows_by_patient: stays must be of at least 3 patients, .*, got 2$"):
        split_eicu(stays)
    with pytest.raises(ValueError, match=r"^split_eicu: score_hours must be 6, 12 or 24, got 8$"):
        split_eicu(stays, score_hours=8)


def test_planted_states_are_in_the_values_and_in_the_scores(tmp_path: Path) -> None:
    planted = write_eicu_folder(tmp_path, num_patients=100, hours=48, compressed=True)
    stays = read_eicu(tmp_path)
    assert stays.stay_ids.tolist() == planted.stay_ids.tolist()
    states = torch.from_numpy(planted.states)
    x = stays.x[:, :48]
    means = torch.stack([x[states == state].mean(dim=0) for state in range(len(STATES))])
    scale = x.flatten(0, 1).std(dim=0)
    nearest = torch.cdist((x / scale).flatten(0, 1), means / scale).argmin(dim=1)
    assert (nearest == states.flatten()).double().mean() > 0.99
    # Up to noise, the worst score of the next 6 hours is that of the worst state in them: 0, 13 or 20 points.
    for step in range(42):
        worst_state = states[:, step + 1 : step + 7].amax(dim=1)
        expected = torch.tensor([0, 13, 20])[worst_state]
        assert ((stays.worst_score[:, step, 0] - expected).abs() <= 2).double().mean() > 0.9


# ----------------------------------------------------------------------------------------------------- invalid options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_minutes": 0}, "read_eicu: step_minutes must be an integer from 1 to 360, got 0"),
        ({"step_minutes": 50}, "read_eicu: step_minutes must divide the 360 minutes of the shortest score, got 50"),
        ({"max_hours": 0}, "read_eicu: max_hours must be an integer from 1 to 8784, got 0"),
        ({"min_steps": 1.5}, "read_eicu: min_steps must be an integer of at least 1, got 1.5"),
        ({"carry_hours": -1}, "read_eicu: carry_hours must be an integer of at least 0, got -1"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_eicu(tmp_path, **options)


# ----------------------------------------------------------------------------------------- tables that cannot be used


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda folder: replace_text(folder / f"{name}.csv", old, new)


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None  # type: ignore[func-returns-value]


def edit_row(name: str, row: int, column: str, value: str) -> Callable[[Path], None]:
    """Returns a function that sets a cell; rows are numbered from 1, the header."""

    def change(folder: Path) -> None:
        path = folder / f"{name}.csv"
        with path.open(newline="") as file:
            rows = list(csv.reader(file))
        rows[row - 1][rows[0].index(column)] = value
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)

    return change


def remove(folder: Path, name: str) -> None:
    path = folder / name
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def compress_and_cut(folder: Path) -> None:
    path = folder / "vitalPeriodic.csv"
    content = gzip.compress(path.read_bytes())
    (folder / "vitalPeriodic.csv.gz").write_bytes(content[: len(content) // 2])
    path.unlink()


def compress_and_flip(folder: Path) -> None:
    path = folder / "patient.csv"
    content = bytearray(gzip.compress(path.read_bytes()))
    content[-6] ^= 0x55  # a byte of the checksum
    (folder / "patient.csv.gz").write_bytes(content)
    path.unlink()


def rename_column(name: str, column: str) -> Callable[[Path], None]:
    return edit(name, column, "other")


def put_folder(folder: Path) -> None:
    remove(folder, "patient.csv")
    (folder / "patient.csv").mkdir()


def put_circular_link(folder: Path) -> None:
    remove(folder, "vitalPeriodic.csv")
    (folder / "vitalPeriodic.csv").symlink_to("vitalPeriodic.csv")


def duplicate_file(folder: Path) -> None:
    (folder / "VITALPERIODIC.csv.gz").write_bytes(b"")


def repeat_rows(name: str, **changes: str) -> Callable[[Path], None]:
    """Returns a function that appends the first row again, with other values."""

    def change(folder: Path) -> None:
        path = folder / f"{name}.csv"
        with path.open(newline="") as file:
            names, first, *others = csv.reader(file)
        again = [changes.get(column, value) for column, value in zip(names, first, strict=True)]
        with path.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([names, first, *others, again])

    return change


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no vitalPeriodic": (
        lambda folder: remove(folder, "vitalPeriodic.csv"),
        r"must hold vitalPeriodic\.csv or vitalPeriodic\.csv\.gz, got neither",
    ),
    "no patient": (
        lambda folder: remove(folder, "patient.csv"),
        r"must hold patient\.csv or patient\.csv\.gz, got neither",
    ),
    "two of a name": (
        duplicate_file,
        r"must hold one file vitalPeriodic\.csv or .*\.gz, got VITALPERIODIC\.csv\.gz and vitalPeriodic\.csv",
    ),
    "a folder in place of a file": (put_folder, r"patient\.csv: must be a file, got a folder"),
    "a file that cannot be read": (put_circular_link, r"\[Errno 40\] .*vitalPeriodic\.csv'"),
    "a missing column": (
        rename_column("vitalPeriodic", "heartrate"),
        r"vitalPeriodic\.csv: must have the column heartrate in a first line with commas, got 'vitalperiodicid', .*",
    ),
    "other separators": (
        write("patient.csv", b"patientunitstayid;uniquepid;unitdischargeoffset\n1;2;3\n"),
        r"patient\.csv: must have the columns patientunitstayid, uniquepid, unitdischargeoffset in a first line with "
        r"commas, got 'patientunitstayid;uniquepid;unitdischargeoffset'",
    ),
    "a column that is there twice": (
        edit("vitalPeriodic", "cvp", "SaO2"),
        r"vitalPeriodic\.csv: must have one column sao2, got 2 of that name",
    ),
    "an empty file": (
        write("vitalPeriodic.csv", b""),
        r"vitalPeriodic\.csv: must begin with a line of names, got an empty file",
    ),
    "a blank first line": (
        write("patient.csv", b"\npatientunitstayid,uniquepid\n"),
        r"patient\.csv: must begin with a line of names, got an empty one",
    ),
    "names only": (
        write("vitalPeriodic.csv", ",".join(VITAL_COLUMNS).encode() + b"\n"),
        r"vitalPeriodic\.csv: must hold at least one row, got only a line of names",
    ),
    "names only without an end of line": (
        write("patient.csv", b"patientunitstayid,uniquepid,unitdischargeoffset"),
        r"patient\.csv: must hold at least one row, got only a line of names",
    ),
    "names only, of scores": (
        write("apachePatientResult.csv", b"patientunitstayid,acutephysiologyscore,apacheversion\r\n\r\n"),
        r"apachePatientResult\.csv: must hold at least one row, got only a line of names",
    ),
    "text in a column of numbers": (
        edit_row("vitalPeriodic", 40, "heartrate", "high"),
        r"vitalPeriodic\.csv: heartrate must be a number, got 'high' in row 40, the names being row 1",
    ),
    "text with an end of line": (
        edit_row("vitalPeriodic", 40, "sao2", "9\n7"),
        r"vitalPeriodic\.csv: sao2 must be a number, got '9 7' in row 40, the names being row 1",
    ),
    "a fraction as a time": (
        edit_row("vitalPeriodic", 7, "observationoffset", "12.5"),
        r"vitalPeriodic\.csv: observationoffset must be an integer, got '12.5' in row 7, the names being row 1",
    ),
    "an id beyond all integers": (
        edit_row("patient", 3, "patientunitstayid", "9" * 200),
        r"patient\.csv: patientunitstayid must be an integer, got '9{80}\.\.\.' in row 3, the names being row 1",
    ),
    "a row that is too short": (
        edit("apachePatientResult", ',"IVa"', ""),
        r"apachePatientResult\.csv: every row must hold 6 cells like the first line, got 5 in row 3, .*",
    ),
    "a patient without a stay": (
        edit_row("patient", 4, "patientunitstayid", ""),
        r"patient\.csv: patientunitstayid must be in every row, got an empty cell in row 4",
    ),
    "a stay without a patient": (
        edit_row("patient", 4, "uniquepid", " "),
        r"patient\.csv: uniquepid must be in every row, got an empty cell in row 4",
    ),
    "a stay of two patients": (
        repeat_rows("patient", uniquepid="another"),
        r"patient\.csv: every stay must have one patient and one discharge, got several of stay 14\d{4}",
    ),
    "two scores of a stay": (
        repeat_rows("apachePatientResult", acutephysiologyscore="7"),
        r"apachePatientResult\.csv: every stay must have one acutephysiologyscore of a version, got several of stay .*",
    ),
    "an unknown version of a score": (
        edit_row("apachePatientResult", 2, "apacheversion", "V"),
        r"apachePatientResult\.csv: apacheversion must be IV or IVa, got 'V' in row 2",
    ),
    "a truncated archive": (
        compress_and_cut,
        r"vitalPeriodic\.csv\.gz: must be a complete gzip archive, got a damaged one: .*",
    ),
    "a damaged archive": (
        compress_and_flip,
        r"patient\.csv\.gz: must be a complete gzip archive, got a damaged one: .*",
    ),
    "an archive without its ending": (
        write("patient.csv", gzip.compress(b"patientunitstayid")),
        r"patient\.csv: must be a text file of rows and columns, got a gzip archive; name it \.csv\.gz",
    ),
    "bytes that are no text": (
        write("patient.csv", bytes(range(128, 256)) * 20 + b"\n1"),
        r"patient\.csv: must be text in UTF-8, got a first line that cannot be read: .*",
    ),
    "UTF-16": (
        write("patient.csv", "patientunitstayid,uniquepid\n1,2\n".encode("utf-16")),
        r"patient\.csv: must be text in UTF-8, got a first line that cannot be read: .*",
    ),
    "zeros": (
        write("patient.csv", bytes(1000)),
        r"patient\.csv: must begin with a line of names, got bytes that are no text",
    ),
    "a first line without an end": (
        write("patient.csv", b"a," * 50_000),
        r"patient\.csv: must begin with a line of names, got 65536 bytes without an end of line",
    ),
    "Latin-1": (
        lambda folder: (folder / "patient.csv").write_bytes(
            b"patientunitstayid,uniquepid,unitdischargeoffset\n1,M\xfcller,3\n"
        ),
        r"patient\.csv: must be text in UTF-8, got other bytes in row 2, the names being row 1",
    ),
}


@pytest.mark.parametrize("damage", REFUSED)
def test_a_folder_that_cannot_be_used_is_refused_in_a_sentence(damage: str, folder: Path) -> None:
    change, message = REFUSED[damage]
    change(folder)
    with pytest.raises((ValueError, OSError), match=rf"{message}\Z") as caught:
        read_eicu(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_and_a_file_in_its_place_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"eicu: no such folder$"):
        read_eicu(tmp_path / "eicu")
    (tmp_path / "eicu").write_text("")
    with pytest.raises(ValueError, match=r"eicu: must be a folder with vitalPeriodic.csv and patient.csv, got a file$"):
        read_eicu(tmp_path / "eicu")


def test_no_stay_that_is_long_enough_is_refused(tmp_path: Path) -> None:
    folder = write_tables(tmp_path, hourly(1, range(11), sao2=97))
    with pytest.raises(ValueError, match=r"must hold a stay with at least 12 real steps of 60 minutes, got none among"):
        read_eicu(folder)


# ------------------------------------------------------------------------------------------------------- random damage


def damage_at_random(folder: Path, random: np.random.Generator) -> None:
    """Damages bytes or cells of one of the tables one to three times."""
    path = folder / f"{random.choice(['vitalPeriodic', 'vitalPeriodic', 'patient', 'apachePatientResult'])}.csv"
    for _ in range(random.integers(1, 4)):
        content = path.read_bytes()
        rows = [line.split(b",") for line in content.split(b"\n")]
        match random.integers(8):
            case 0:
                content = content[: random.integers(len(content) + 1)]
            case 1:
                changed = bytearray(content)
                for place in random.integers(max(1, len(content)), size=5) if content else []:
                    changed[place] = random.integers(256)
                content = bytes(changed)
            case 2:
                for row in rows:
                    row[0], row[-1] = row[-1], row[0]
                content = b"\n".join(b",".join(row) for row in rows)
            case 3:
                column = random.integers(len(rows[0]))
                content = b"\n".join(b",".join(row[:column] + row[column + 1 :]) for row in rows)
            case 4:
                cells = [
                    b"",
                    b"x",
                    b"nan",
                    b"-inf",
                    b"1e400",
                    b"-1",
                    b"9" * 30,
                    b'"',
                    b"\xff",
                    b"\0",
                    b'"1\n2"',
                    b"0x1",
                ]
                row = rows[random.integers(len(rows))]
                row[random.integers(len(row))] = cells[random.integers(len(cells))]
                content = b"\n".join(b",".join(row) for row in rows)
            case 5:
                order = random.integers(1, max(2, len(rows)), size=len(rows)) % len(rows)
                content = b"\n".join(b",".join(row) for row in [rows[0], *(rows[place] for place in order)]) + b"\n"
            case 6:
                rows[random.integers(len(rows))].append(b"1")
                content = b"\n".join(b",".join(row) for row in rows)
            case 7:
                content = content.replace(b"\n", [b"\r", b"\n\n", b"\r\n", b" \n", b""][random.integers(5)])
        path.write_bytes(content)
    if random.random() < 0.3:
        content = gzip.compress(path.read_bytes())
        path.unlink()
        if random.random() < 0.3:
            content = content[: random.integers(len(content))]
        path.with_name(f"{path.name}.gz").write_bytes(content)


def test_damaged_folders_are_read_or_refused_in_a_sentence(tmp_path: Path) -> None:
    write_eicu_folder(tmp_path / "intact", num_patients=5, hours=13)
    intact = {path.name: path.read_bytes() for path in (tmp_path / "intact").iterdir()}
    sentences = []
    for seed in range(100):
        folder = tmp_path / f"seed{seed}"
        folder.mkdir()
        for name, content in intact.items():
            (folder / name).write_bytes(content)
        damage_at_random(folder, np.random.default_rng(seed))
        try:
            stays = read_eicu(folder)
        except (ValueError, OSError) as error:
            sentences.append((str(folder), str(error)))
            continue
        assert stays.x.isfinite().all()
        assert stays.x.shape == (len(stays), 72, 7)
        assert stays.worst_score.shape == (len(stays), 72, 3)
        assert (stays.mask.sum(dim=1) >= 12).all()
        assert stays.worst_score.min() >= -1
        assert stays.stay_score.min() >= -1
    assert [
        sentence for folder, sentence in sentences if folder not in sentence or len(sentence.splitlines()) > 1
    ] == []
    assert 20 <= len(sentences) <= 80
