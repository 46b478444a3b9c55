"""What an experiment has measured so far, as one JSON file that is complete after every training."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from pathlib import Path
from typing import Any

from somvae_ext.experiments.protocol import Budget, Experiment, HeldOut, Row
from somvae_ext.store import atomic_file

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training: what decided it, and what came of it.

    Args:
        row: key of the row.
        setting: its name.
        seed: of the training.
        held_out: what it was measured on.
        config: all else that decides what it comes to.
        figures: by name; none where the training failed.
        cpu_minutes: of one process: training and measuring.
        machine: number of the machine in the file's list.
        error: why the training failed.
    """

    row: str
    setting: str
    seed: int
    held_out: HeldOut
    config: dict[str, Any]
    figures: dict[str, float]
    cpu_minutes: float
    machine: int
    error: str | None = None


@dataclasses.dataclass(frozen=True)
class Summary:
    """A row of the table: the setting that was chosen, and its figures over the seeds.

    Args:
        setting: name of the setting.
        validation: the figure that chose it, of each setting.
        figures: by name the ``mean``, ``deviation`` and ``standard_error`` over the seeds. Of a single seed the last
            two are None.
        cpu_minutes: of one training that is reported, mean.
    """

    setting: str
    validation: dict[str, float]
    figures: dict[str, dict[str, float | None]]
    cpu_minutes: float


class Results:
    """The trainings of one experiment, kept in a file.

    Args:
        path: the file. What it holds is taken over; a missing one is begun.

    Raises:
        ValueError: the file is none of these results.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.trials: list[Trial] = []
        self.machines: list[dict[str, Any]] = []
        if path.is_file():
            contents = read_results(path)
            self.machines = contents["machines"]
            configs = contents["configs"]
            self.trials = [Trial(**{**trial, "config": configs[trial["config"]]}) for trial in contents["trials"]]

    def find(self, row: Row, setting: str, seed: int, held_out: HeldOut, config: dict[str, Any]) -> Trial | None:
        """The training that has been done with exactly this; None if there is none."""
        plain = json.loads(json.dumps(config))  # tuples become lists
        for trial in self.trials:
            if (trial.row, trial.setting, trial.seed, trial.held_out) == (row.key, setting, seed, held_out):
                return trial if trial.config == plain else None
        return None

    def add(self, trial: Trial) -> None:
        """Takes a training in, in place of an earlier one that was another setting of the same name."""
        same = (trial.row, trial.setting, trial.seed, trial.held_out)
        self.trials = [each for each in self.trials if (each.row, each.setting, each.seed, each.held_out) != same]
        self.trials.append(dataclasses.replace(trial, config=json.loads(json.dumps(trial.config))))

    def adopt(self, trial: Trial, machine: dict[str, Any]) -> None:
        """Takes in a training of another file, which was done on a machine."""
        self.add(dataclasses.replace(trial, machine=self.machine(machine)))

    def machine(self, description: dict[str, Any]) -> int:
        """The number of a machine in the file, which is added unless it is there already, whatever the time."""
        known = [_timeless(machine) for machine in self.machines]
        if _timeless(description) not in known:
            self.machines.append(description)
            return len(known)
        return known.index(_timeless(description))

    def summarize(self, experiment: Experiment, row: Row, budget: Budget) -> Summary | None:
        """What the table shows of a row; None while a training is missing."""
        tuned = self._of(row, "validation")
        validation = {
            setting.name: trial.figures[experiment.chosen_by]
            for setting in row.method.settings
            for trial in tuned
            if trial.setting == setting.name and experiment.chosen_by in trial.figures
        }
        if len({trial.setting for trial in tuned}) < len(row.method.settings) or not validation:
            return None
        setting = choose(validation, lower_is_better=experiment.lower_is_better)
        reported = {trial.seed: trial for trial in self._of(row, "test") if trial.setting == setting}
        runs = [reported[seed] for seed in budget.seeds if seed in reported]
        if len(runs) < len(budget.seeds) or any(run.error for run in runs):
            return None
        names = [name for name in runs[0].figures if all(name in run.figures for run in runs)]
        figures = {name: _statistics([run.figures[name] for run in runs]) for name in names}
        minutes = round(statistics.mean(run.cpu_minutes for run in runs), 3)
        return Summary(setting, validation, figures, minutes)

    def _of(self, row: Row, held_out: HeldOut) -> list[Trial]:
        return [trial for trial in self.trials if trial.row == row.key and trial.held_out == held_out]

    def save(self, experiment: Experiment, budget: Budget) -> None:
        """Writes the file, with a summary of each row that is complete."""
        rows = []
        for row in experiment.rows:
            summary = self.summarize(experiment, row, budget)
            rows.append(
                {
                    "key": row.key,
                    "data": row.data,
                    "recipe": row.recipe,
                    "method": row.method.title,
                    "settings": [setting.name for setting in row.method.settings],
                    "takes_all_images": row.method.takes_all_images,
                    "paper": dict(row.paper),
                    "summary": None if summary is None else dataclasses.asdict(summary),
                }
            )
        configs: list[dict[str, Any]] = []
        trials = []
        for trial in self.trials:
            if trial.config not in configs:
                configs.append(trial.config)
            trials.append({**dataclasses.asdict(trial), "config": configs.index(trial.config)})
        contents = {
            "format": FORMAT,
            "experiment": experiment.name,
            "title": experiment.title,
            "about": experiment.about,
            "notes": dict(experiment.notes),
            "source": experiment.source,
            "budget": dataclasses.asdict(budget),
            "chosen_by": experiment.chosen_by,
            "columns": [dataclasses.asdict(column) for column in experiment.columns],
            "machines": self.machines,
            "rows": rows,
            "trials": trials,
            "configs": configs,
        }
        with atomic_file(self.path) as file:
            file.write(_to_json(contents).encode())


def read_results(path: Path) -> dict[str, Any]:
    """The contents of a file of results.

    Raises:
        ValueError: it is something else.
        OSError: it cannot be read.
    """
    try:
        contents = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: must be the JSON of an experiment; move it away to begin anew") from error
    if not isinstance(contents, dict) or contents.get("format") != FORMAT or "configs" not in contents:
        raise ValueError(f"{path}: must be the JSON of an experiment, of format {FORMAT}; move it away to begin anew")
    return contents


def _to_json(contents: dict[str, Any]) -> str:
    """JSON with a line for each item of its lists, so that a change shows what has changed."""
    parts = []
    for name, value in contents.items():
        items = value if isinstance(value, list) else None
        text = json.dumps(value, allow_nan=False)
        if items:
            text = "[\n" + ",\n".join(f"  {json.dumps(item, allow_nan=False)}" for item in items) + "\n ]"
        parts.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def choose(figures: dict[str, float], *, lower_is_better: bool) -> str:
    """The setting of the best figure, the first among equals."""
    return (min if lower_is_better else max)(figures, key=figures.__getitem__)


def _timeless(machine: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in machine.items() if name != "time"}


def _statistics(values: list[float]) -> dict[str, float | None]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {
        "mean": round(statistics.mean(values), 6),
        "deviation": None if deviation is None else round(deviation, 6),
        "standard_error": None if deviation is None else round(deviation / math.sqrt(len(values)), 6),
    }
