"""Runs an experiment: tunes its rows, trains the chosen settings, and keeps every finished training."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Generator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from somvae_ext.config_checks import check_integer
from somvae_ext.experiments.datasets import (
    download_source,
    fingerprint_source,
    forget_data,
    load_choice,
    load_labels,
    load_source,
)
from somvae_ext.experiments.pictures import save_pictures
from somvae_ext.experiments.protocol import (
    IMAGES,
    Arrays,
    Budget,
    DataChoice,
    Experiment,
    HeldOut,
    Row,
    Setting,
    Task,
    as_file_name,
)
from somvae_ext.experiments.results import Command, Results, Trial, choose
from somvae_ext.extras import needed_by
from somvae_ext.machine import describe
from somvae_ext.store import FolderLock, atomic_file, check_writable

_DIGITS = 6  # kept of a figure


@dataclasses.dataclass(frozen=True)
class _Job:
    """A training to do, possibly in another process."""

    row: Row
    setting: Setting
    data: DataChoice
    epoch_share: float
    seed: int
    held_out: HeldOut
    config: dict[str, Any]
    root: str
    device: str


@dataclasses.dataclass(frozen=True)
class _FinishedJob:
    """The outcome of a job."""

    job: _Job
    figures: dict[str, float]
    cpu_minutes: float
    shown: Arrays = dataclasses.field(default_factory=dict)
    error: str | None = None


@needed_by("run_experiment")
def run_experiment(
    experiment: Experiment,
    budget: Budget,
    folder: Path,
    name: str,
    *,
    root: Path,
    download: bool = False,
    workers: int | None = None,
    device: str = "auto",
    report: Callable[[str], None] = print,
) -> Path:
    """Runs the trainings of an experiment that have not been done yet.

    Each training is a job for one of several processes, on one thread of the CPU, so its result does not depend on the
    number of processes.

    Args:
        experiment: what to run.
        budget: how much to train.
        folder: receives ``name.json`` after every training, and pictures ``name-DATA.png``; the arrays that they are
            drawn from are in its folder ``name``. Trainings that the file already holds, with the same data and
            options, are not repeated, nor are the tuning trainings in the file of the quick experiment beside it.
        name: name of the files.
        root: the folder of MNIST and Fashion-MNIST, see :func:`somvae_ext.data.load`, or of eICU.
        download: download MNIST or Fashion-MNIST if it is missing.
        workers: number of processes; by default that of the cores, or one on a GPU.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for a GPU if there is one. Pixels are clustered on the CPU.
        report: called with a line after each training.

    Returns:
        The path of the JSON file.

    Raises:
        BlockingIOError: another process runs the same experiment there.
        FileNotFoundError: the data are missing.
        ModuleNotFoundError: a required library is missing.
        OSError: the folder cannot be written to, or the system has ended a process.
        ValueError: the device is unknown or is a GPU that is missing, ``workers`` is below one, or a file holds
            something else.
    """
    import joblib  # type: ignore[import-untyped]  # noqa: F401  # reported if missing, before the first training
    import matplotlib  # noqa: F401

    start = time.perf_counter()
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"run_experiment: device must be 'auto', 'cpu' or 'cuda', got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("run_experiment: device must be 'auto' or 'cpu', because torch sees no GPU, got 'cuda'")
    if workers is not None:
        workers = check_integer("run_experiment", "workers", workers)
    for row in experiment.rows:
        row.method.check_installed()
    check_writable(folder)
    for file in (name, f"{experiment.name}-quick"):
        Results(folder / f"{file}.json", experiment.name)  # refuses other files before data are read
    forget_data()
    for data in dict.fromkeys(row.data for row in experiment.rows):
        if download:
            download_source(data, str(root))
        splits = load_source(data, str(root))
        if data not in IMAGES:
            for title, text in splits.description.items():
                report(f"{title}: {text}")
    kept = folder / name
    kept.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(kept)
    lock.acquire()
    try:
        results = Results(folder / f"{name}.json", experiment.name)
        runner = _Runner(experiment, budget, results, kept, str(root), device, workers, report, start)
        runner.discard_outdated()
        runner.take_over(Results(folder / f"{experiment.name}-quick.json", experiment.name))
        runner.tune()
        runner.train_chosen()
        save_pictures(experiment, runner.shown(), folder, name)
        runner.save()
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
        start: float,
    ) -> None:
        from joblib import cpu_count

        takes_gpu = device != "cpu" and torch.cuda.is_available()
        self.experiment, self.budget, self.results, self.kept = experiment, budget, results, kept
        self.root, self.device, self.report = root, "cuda" if takes_gpu else "cpu", report
        self.workers: int = workers or (1 if takes_gpu else cpu_count())
        self.machine = {**describe(self.device), "threads": 1}
        self.start, self.trainings = start, 0

    def discard_outdated(self) -> None:
        """Drops trainings with other data, options or sizes than the current ones, and reports it."""
        jobs = [
            self._job(row, setting, seed=0, held_out=held_out)
            for row in self.experiment.rows
            for setting in row.method.settings
            for held_out in get_args(HeldOut)
        ]
        current = {(job.row.key, job.setting.name, job.held_out): job.config for job in jobs}
        dropped = self.results.keep_only(current)
        if dropped:
            self.report(f"{dropped} trainings are dropped, which had other data, options or sizes")

    def take_over(self, earlier: Results) -> None:
        """Takes from another file the tuning trainings that have the current inputs."""
        if earlier.path == self.results.path:
            return
        for job in self._tuning_jobs():
            trial = earlier.find(job.row, job.setting.name, job.seed, job.held_out, job.config)
            if trial is not None and not self._is_kept(job):
                self.results.add(trial, earlier.machines[trial.machine])

    def tune(self) -> None:
        """Trains each setting of each row once."""
        self._train(self._tuning_jobs(), "tuning")

    def train_chosen(self) -> None:
        """Trains the chosen setting of each row with all seeds; rows without one are left out."""
        jobs = [
            self._job(row, setting, seed, "test")
            for row in self.experiment.rows
            for setting in self._chosen(row)
            for seed in self.budget.seeds
        ]
        self._train(jobs, "chosen settings")

    def shown(self) -> dict[str, Path]:
        """By the key of the row, a file with the arrays to draw, from the first seed."""
        jobs = [
            self._job(row, setting, self.budget.seeds[0], "test")
            for row in self.experiment.rows
            for setting in self._chosen(row)
        ]
        return {
            job.row.key: self._shown_file(job) for job in jobs if self._is_kept(job) and self._shown_file(job).is_file()
        }

    def _tuning_jobs(self) -> list[_Job]:
        return [
            self._job(row, setting, self.budget.tuning_seed, "validation")
            for row in self.experiment.rows
            for setting in row.method.settings
        ]

    def _chosen(self, row: Row) -> list[Setting]:
        """The setting to report; an empty list if no training was finite."""
        figures = self.results.tuned(self.experiment, row, self.budget)
        name = choose(figures) if figures else None
        return [setting for setting in row.method.settings if setting.name == name]

    def _job(self, row: Row, setting: Setting, seed: int, held_out: HeldOut) -> _Job:
        size = self.budget.reported if held_out == "test" else self.budget.tuning
        data = row.choose_data(size)
        splits = load_choice(data, self.root)
        source = {
            **dataclasses.asdict(data),
            "fingerprint": fingerprint_source(row.data, self.root),
            "train": len(splits.train),
        }
        device = self.device if row.method.takes_gpu else "cpu"
        options = row.method.resolve(setting, Task(data, splits, size.epoch_share, seed, held_out, device))
        config = {"data": source, "device": device, **options}
        return _Job(row, setting, data, size.epoch_share, seed, held_out, config, self.root, device)

    def _train(self, jobs: list[_Job], stage: str) -> None:
        """Does the jobs that have no result yet, and keeps each result as soon as the job is done."""
        missing = [job for job in jobs if not self._is_kept(job)]
        self.save()
        if len(missing) < len(jobs):
            self.report(f"{stage}: {len(jobs) - len(missing)} of {len(jobs)} trainings are there already")
        start = time.perf_counter()
        with contextlib.closing(_run_jobs(missing, self.workers)) as jobs_done:
            for number, finished in enumerate(jobs_done, 1):
                self._keep(finished)
                left = (time.perf_counter() - start) / number * (len(missing) - number) / 60
                line = _describe(finished, self.experiment.chosen_by)
                self.report(f"{stage} {number}/{len(missing)}: {line}; about {left:.0f} min left")

    def _is_kept(self, job: _Job) -> bool:
        trial = self.results.find(job.row, job.setting.name, job.seed, job.held_out, job.config)
        if trial is None:
            return False
        return trial.error is not None or not self._is_drawn(job) or self._shown_file(job).is_file()

    def _is_drawn(self, job: _Job) -> bool:
        """Whether the picture shows this job."""
        return job.held_out == "test" and job.seed == self.budget.seeds[0]

    def _shown_file(self, job: _Job) -> Path:
        return self.kept / f"{job.row.key}-{as_file_name(job.setting.name)}-{job.seed}.npz"

    def _keep(self, finished: _FinishedJob) -> None:
        job = finished.job
        if self._is_drawn(job):
            self._shown_file(job).unlink(missing_ok=True)
            if finished.shown:
                with atomic_file(self._shown_file(job)) as file:
                    np.savez_compressed(file, **finished.shown)  # type: ignore[arg-type]  # no array is allow_pickle
        trial = Trial(
            job.row.key,
            job.setting.name,
            job.seed,
            job.held_out,
            job.config,
            {name: round(value, _DIGITS) for name, value in finished.figures.items() if math.isfinite(value)},
            round(finished.cpu_minutes, 3),
            machine=-1,  # set by Results.add
            error=finished.error,
        )
        self.results.add(trial, self.machine)
        self.trainings += 1
        self.save()

    def save(self) -> None:
        """Writes the file, with what this command has done so far."""
        minutes = round((time.perf_counter() - self.start) / 60, 2)
        command = Command(self.trainings, self.workers, minutes) if self.trainings else None
        self.results.save(self.experiment, self.budget, command)


def _run_jobs(jobs: list[_Job], workers: int) -> Generator[_FinishedJob, None, None]:
    """Does the jobs, several at once, and yields them as they finish."""
    from joblib import Parallel, delayed

    workers = min(workers, len(jobs))
    if workers <= 1:
        yield from map(_do_job, jobs)
        return
    parallel = Parallel(n_jobs=workers, return_as="generator_unordered", batch_size=1)
    try:
        yield from parallel(delayed(_do_job)(job) for job in jobs)
    except BrokenProcessPool as error:
        raise OSError(
            f"the system has ended one of {workers} trainings that ran at once, perhaps for lack of memory; use fewer "
            "workers"
        ) from error


def _do_job(job: _Job) -> _FinishedJob:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    if fingerprint_source(job.data.name, job.root) != job.config["data"]["fingerprint"]:
        forget_data()  # cached by an earlier command of this process
        if fingerprint_source(job.data.name, job.root) != job.config["data"]["fingerprint"]:
            raise OSError(f"{job.root}: the data of {job.data.name} must not change while an experiment runs")
    splits, labels = load_choice(job.data, job.root), load_labels(job.data.name, job.root, job.held_out)
    task = Task(job.data, splits, job.epoch_share, job.seed, job.held_out, job.device, labels)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    start = time.process_time()
    try:
        with threadpool_limits(limits=1):  # of scikit-learn and numpy
            outcome = job.row.method.train(job.setting, task)
    except FloatingPointError as error:  # the loss does not stay finite with this setting
        return _FinishedJob(job, {}, (time.process_time() - start) / 60, error=str(error))
    finally:
        torch.set_num_threads(threads)
    return _FinishedJob(job, outcome.figures, (time.process_time() - start) / 60, outcome.shown)


def _describe(finished: _FinishedJob, chosen_by: str) -> str:
    job = finished.job
    figure = finished.figures.get(chosen_by)
    outcome = "done" if figure is None else f"{chosen_by} {figure:.3f} on {job.held_out} data"
    if finished.error is not None:
        outcome = "failed, because a loss was not finite"
    return f"{job.row.key}, {job.setting.name}, seed {job.seed}: {outcome}, {finished.cpu_minutes:.1f} CPU min"
