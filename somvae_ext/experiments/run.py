"""Runs an experiment: tunes its rows, trains what is reported, and keeps every training that is done."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from somvae_ext.experiments.datasets import load_choice, load_images
from somvae_ext.experiments.pictures import draw_prototypes
from somvae_ext.experiments.protocol import Budget, DataChoice, Experiment, HeldOut, Row, Setting
from somvae_ext.experiments.results import Results, Trial, choose
from somvae_ext.machine import describe
from somvae_ext.store import FolderLock

_DIGITS = 6  # of a figure that are kept


@dataclasses.dataclass(frozen=True)
class _Job:
    """A training that is to be done, for a process of its own."""

    row: Row
    setting: Setting
    data: DataChoice
    epochs: float
    seed: int
    held_out: HeldOut
    config: dict[str, Any]
    root: str
    device: str


@dataclasses.dataclass(frozen=True)
class _Done:
    """What came of a job."""

    job: _Job
    figures: dict[str, float]
    cpu_minutes: float
    prototypes: NDArray[np.uint8] | None = None
    error: str | None = None


def run_experiment(
    experiment: Experiment,
    budget: Budget,
    folder: Path,
    name: str,
    *,
    root: Path,
    download: bool = False,
    workers: int | None = None,
    device: str = "cpu",
    report: Callable[[str], None] = print,
) -> Path:
    """Runs what is missing of an experiment.

    Each training is a job for one of several processes, on one thread of the CPU, so that its result does not depend on
    how many there are.

    Args:
        experiment: what to run.
        budget: how much of it.
        folder: gets ``name.json`` after every training, and ``name-DATA.png`` of what the nodes stand for. Trainings
            that are in the file already, with the same settings, are not done again; those which chose the settings of
            the quick budget serve the full one, too.
        name: of the files.
        root: the folder of MNIST and Fashion-MNIST, see :func:`somvae_ext.data.load`.
        download: fetch them if they are not there.
        workers: processes; by default as many as there are cores, and one on a GPU.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        report: gets a line after each training.

    Returns:
        The path of the JSON file.

    Raises:
        BlockingIOError: another process runs the same experiment there.
        FileNotFoundError: the data are not there.
        ModuleNotFoundError: a library that a row needs is missing.
        OSError: the folder cannot be written to.
        ValueError: the file there holds something else, or a row none of whose settings can be trained.
    """
    for row in experiment.rows:
        row.method.check_installed()
    for data in {row.data for row in experiment.rows}:
        load_images(data, str(root), download=download)
    kept = folder / name
    kept.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(kept)
    lock.acquire()
    try:
        results = Results(folder / f"{name}.json")
        runner = _Runner(experiment, budget, results, kept, str(root), device, workers, report)
        runner.adopt(folder / f"{experiment.name}-quick.json")
        runner.tune()
        runner.train_chosen()
        draw_prototypes(experiment, kept, folder, name)
    finally:
        lock.release()
    return results.path


class _Runner:
    """The trainings of one command."""

    def __init__(
        self,
        experiment: Experiment,
        budget: Budget,
        results: Results,
        kept: Path,
        root: str,
        device: str,
        workers: int | None,
        report: Callable[[str], None],
    ) -> None:
        self.experiment, self.budget, self.results, self.kept = experiment, budget, results, kept
        self.root, self.device, self.workers, self.report = root, device, workers, report
        self.earlier: list[Results] = []
        self.machine = results.machine(describe("cuda" if _takes_gpu(device) else "cpu"))

    def adopt(self, path: Path) -> None:
        """Lets the trainings of another file count, too, where they are just those that would be done."""
        if path.is_file() and path != self.results.path:
            self.earlier.append(Results(path))

    def tune(self) -> None:
        """Trains each setting of each row once."""
        jobs = [
            self._job(row, setting, self.budget.tuning_seed, "validation")
            for row in self.experiment.rows
            for setting in row.method.settings
        ]
        self._do(jobs, "tuning")

    def train_chosen(self) -> None:
        """Trains the chosen setting of each row with all seeds."""
        jobs = [
            self._job(row, self._chosen(row), seed, "test")
            for row in self.experiment.rows
            for seed in self.budget.seeds
        ]
        self._do(jobs, "chosen settings")

    def _chosen(self, row: Row) -> Setting:
        by = self.experiment.chosen_by
        figures = {
            trial.setting: trial.figures[by]
            for trial in self.results.trials
            if (trial.row, trial.held_out) == (row.key, "validation") and by in trial.figures
        }
        figures = {setting.name: figures[setting.name] for setting in row.method.settings if setting.name in figures}
        if not figures:
            raise ValueError(f"{self.experiment.name}: no setting of {row.key} could be trained; see the JSON for why")
        name = choose(figures, lower_is_better=self.experiment.lower_is_better)
        return next(setting for setting in row.method.settings if setting.name == name)

    def _job(self, row: Row, setting: Setting, seed: int, held_out: HeldOut) -> _Job:
        size = self.budget.reported if held_out == "test" else self.budget.tuning
        data = row.choose_data(size)
        config = row.method.resolve(setting, data, load_choice(data, self.root), size.epochs)
        recorded = {"data": dataclasses.asdict(data)} | config
        return _Job(row, setting, data, size.epochs, seed, held_out, recorded, self.root, self.device)

    def _do(self, jobs: list[_Job], what: str) -> None:
        """Does those jobs whose results are not there yet, and keeps each as soon as it is done."""
        missing = [job for job in jobs if not self._is_kept(job)]
        self.results.save(self.experiment, self.budget)
        if len(missing) < len(jobs):
            self.report(f"{what}: {len(jobs) - len(missing)} of {len(jobs)} trainings are there already")
        start = time.perf_counter()
        for number, done in enumerate(_work(missing, self.workers, self.device), 1):
            self._keep(done)
            left = (time.perf_counter() - start) / number * (len(missing) - number) / 60
            self.report(f"{what} {number}/{len(missing)}: {_line(done, self.experiment)}; about {left:.0f} min left")

    def _is_kept(self, job: _Job) -> bool:
        arguments = job.row, job.setting.name, job.seed, job.held_out, job.config
        if self.results.find(*arguments) is not None:
            return True
        for results in self.earlier:
            trial = results.find(*arguments)
            if trial is not None:
                self.results.adopt(trial, results.machines[trial.machine])
                return True
        return False

    def _keep(self, done: _Done) -> None:
        job = done.job
        self.results.add(
            Trial(
                job.row.key,
                job.setting.name,
                job.seed,
                job.held_out,
                job.config,
                {name: round(value, _DIGITS) for name, value in done.figures.items()},
                round(done.cpu_minutes, 3),
                self.machine,
                done.error,
            )
        )
        if done.prototypes is not None and job.held_out == "test" and job.seed == self.budget.seeds[0]:
            np.save(self.kept / f"{job.row.key}.npy", done.prototypes)
        self.results.save(self.experiment, self.budget)


def _work(jobs: list[_Job], workers: int | None, device: str) -> Iterator[_Done]:
    """The outcomes of jobs, in the order in which they come."""
    from joblib import Parallel, cpu_count, delayed  # type: ignore[import-untyped]

    if workers is None:
        workers = 1 if _takes_gpu(device) else cpu_count()
    workers = max(1, min(workers, len(jobs)))
    if workers == 1:
        yield from map(_do_job, jobs)
        return
    parallel = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
    yield from parallel(delayed(_do_job)(job) for job in jobs)


def _takes_gpu(device: str) -> bool:
    return device != "cpu" and torch.cuda.is_available()


def _do_job(job: _Job) -> _Done:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.process_time()
    try:
        splits = load_choice(job.data, job.root)
        outcome = job.row.method.train(
            job.setting, job.data, splits, job.epochs, seed=job.seed, held_out=job.held_out, device=job.device
        )
    except FloatingPointError as error:  # a setting with which the loss does not stay finite
        return _Done(job, {}, (time.process_time() - start) / 60, error=str(error))
    finally:
        torch.set_num_threads(threads)
    return _Done(job, outcome.figures, (time.process_time() - start) / 60, outcome.prototypes)


def _line(done: _Done, experiment: Experiment) -> str:
    job = done.job
    if done.error is None:
        by = experiment.chosen_by
        outcome = f"{by} {done.figures[by]:.3f} on {job.held_out} data" if by in done.figures else "done"
    else:
        outcome = "failed, because a loss was not finite"
    return f"{job.row.key}, {job.setting.name}, seed {job.seed}: {outcome}, {done.cpu_minutes:.1f} CPU min"
