"""Small runs of each kind, with their data, for reports to show. The command line trains each in seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from somvae_ext.cli import main

ID, CLASS, CATEGORY = "Patient", "Diagnose", "Station <A&E>"
CATEGORIES = ["Herz & Lunge", "Intensiv", "Notaufnahme"]
CLASSES = ["gesund", 'krank "akut"', "</script><b>krank</b>"]
FEATURES = ["Alter", "Größe (cm)", "CRP <mg/l>", "Blut'druck", "Anteil %"]
_MEANS = np.array([[30, 170, 2, 120, 10], [50, 165, 60, 150, 40], [70, 175, 200, 100, 80]])
_DEVIATIONS = np.array([6, 7, 1, 9, 4])


def command(*arguments: object) -> None:
    threads = torch.get_num_threads()
    assert main([str(argument) for argument in arguments]) == 0
    torch.set_num_threads(threads)  # training changes the number for the whole process


def fit(folder: Path, data: object, *options: object) -> Path:
    """Trains a run in ``folder`` and returns that folder."""
    command("fit", data, *options, "--quiet", "--out", folder)
    return folder


def messy_table(rows: int = 300) -> pd.DataFrame:
    """Returns patients in three clusters, with missing values and with texts that break a page unless it escapes them.

    The columns are the id, the class, a category and :data:`FEATURES`.
    """
    generator = np.random.default_rng(0)
    kind = np.arange(rows) % 3
    values = np.round(_MEANS[kind] + generator.normal(size=(rows, len(FEATURES))) * _DEVIATIONS, 2)
    values[generator.random(values.shape) < 0.03] = np.nan
    ids = [f"P-{1000 + row}" for row in range(rows)]
    ids[:3] = ["</script><script>console.error('id')</script>", '"><img src=x>', "O'Brien & Söhne"]
    frame = pd.DataFrame(values, columns=FEATURES)
    frame.insert(0, ID, ids)
    frame.insert(1, CLASS, np.array(CLASSES)[kind])
    frame.insert(2, CATEGORY, np.array(CATEGORIES)[generator.integers(3, size=rows)])
    return frame


def fit_table_map(folder: Path) -> Path:
    """Trains an 8 x 8 map of :func:`messy_table`, saved as a German spreadsheet saves it, and clusters the nodes."""
    path = folder.with_name("patients.csv")
    messy_table().to_csv(path, sep=";", decimal=",", index=False, encoding="cp1252", na_rep="k.A.")
    written = ["--encoding", "cp1252", "--decimal", "comma", "--na", "k.A."]
    columns = ["--id-column", ID, "--label-column", CLASS, "--one-hot", CATEGORY]
    fit(folder, path, "--model", "som", "--size", "8x8", "--missing", "ignore", *written, *columns)
    command("cluster", folder, "--number", 4)
    return folder


def fit_large_map(folder: Path) -> Path:
    """Trains a 64 x 64 map of 8,192 rows of 50 unnamed features, and clusters the nodes."""
    generator = np.random.default_rng(0)
    centers = generator.normal(size=(6, 50))
    rows = centers[np.arange(8192) % 6] + 0.7 * generator.normal(size=(8192, 50))
    path = folder.with_name("rows.npy")
    np.save(path, rows.astype(np.float32))
    fit(folder, path, "--model", "som", "--size", "64x64", "--epochs", 3)
    command("cluster", folder, "--number", 6)
    return folder


def fit_hexagonal_map(folder: Path) -> Path:
    """Trains a periodic hexagonal 8 x 10 map of digits: its codes are images, its rows have classes."""
    return fit(folder, "digits", "--model", "som", "--size", "8x10", "--topology", "hexagonal", "--periodic")


def fit_series(folder: Path) -> Path:
    """Trains a SOM-VAE with 4 x 5 nodes on 40 series of 20 to 29 frames that move between three states."""
    generator = np.random.default_rng(0)
    series = folder.with_name("wards")
    series.mkdir()
    for number in range(40):
        frame = pd.DataFrame(_states(generator, 20 + number % 10), columns=["pulse", "pressure", "oxygen <%>"])
        frame.round(3).to_csv(series / f"bed-{number:02d}.csv", index=False)
    return fit(folder, series, "--rows", 4, "--cols", 5, "--epochs", 10)


def _states(generator: np.random.Generator, frames: int) -> NDArray[np.float64]:
    """Draws values of three features ``[frames, 3]``; consecutive frames tend to stay in one of three states."""
    state = (generator.integers(3) + np.cumsum(generator.random(frames) < 0.2)) % 3
    levels = np.array([[60, 80, 98], [90, 120, 96], [120, 70, 85]])
    return levels[state] + generator.normal(size=(frames, 3)) * 3


def fit_gumbel_vae(folder: Path) -> Path:
    """Trains a Gumbel VAE of digits for one epoch."""
    return fit(folder, "digits", "--model", "gumbel-vae", "--epochs", 1)


RUNS: dict[str, Callable[[Path], Path]] = {
    "table-map": fit_table_map,
    "large-map": fit_large_map,
    "hexagonal-map": fit_hexagonal_map,
    "series": fit_series,
    "gumbel-vae": fit_gumbel_vae,
}
"""By kind: a function that trains a run in a folder and returns the folder. The data are saved beside the folder."""
