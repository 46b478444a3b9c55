"""The results of an experiment so far, in one JSON file that is complete after every training."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from somvae_ext.experiments.protocol import Budget, Experiment, HeldOut, Row, Size
from somvae_ext.store import atomic_file

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training: its inputs and its outcome.

    Args:
        row: key of the row.
        setting: name of the setting.
        seed: seed of the training.
        held_out: the split that it was measured on.
        config: data and options.
        figures: the figures by name; empty if the training failed.
        cpu_minutes: CPU minutes of its process, for training and measuring.
        machine: index of the machine in the file's list.
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
class Command:
    """One run of the command: how many trainings it did, how many at once, and in how many minutes of wall time."""

    trainings: int
    workers: int
    minutes: float


@dataclasses.dataclass(frozen=True)
class Summary:
    """A row of the table: the setting that was chosen, and its figures over the seeds.

    Args:
        setting: name of the setting.
        validation: the figure that chose it, of each setting whose training did not fail.
        epochs: epochs of a reported training; None if it has none.
        figures: by name, ``mean``, ``deviation`` and ``standard_error`` over the ``seeds`` that have the figure.
            Deviation and error are None if only one seed has it.
        cpu_minutes: mean CPU minutes of a reported training.
    """

    setting: str
    validation: dict[str, float]
    epochs: int | None
    figures: dict[str, dict[str, float | None]]
    cpu_minutes: float


class Results:
    """The trainings of one experiment, kept in a file.

    Args:
        path: the file. Its contents are loaded; a missing file is started.
        experiment: name of the experiment.

    Raises:
        ValueError: the file holds something else.
        OSError: the file cannot be read.
    """

    def __init__(self, path: Path, experiment: str) -> None:
        self.path = path
        self.trials: list[Trial] = []
        self.machines: list[dict[str, Any]] = []
        self.commands: list[Command] = []
        if path.is_file():
            contents = read_results(path)
            if contents["experiment"] != experiment:
                raise ValueError(f"{path}: must hold the experiment {experiment}, got {contents['experiment']!r}")
            self.machines = contents["machines"]
            self.commands = [Command(**command) for command in contents["commands"]]
            configs = contents["configs"]
            self.trials = [Trial(**{**trial, "config": configs[trial["config"]]}) for trial in contents["trials"]]

    def find(self, row: Row, setting: str, seed: int, held_out: HeldOut, config: dict[str, Any]) -> Trial | None:
        """The training that has been done with exactly these inputs; None if there is none."""
        plain = _as_json(config)
        for trial in self.trials:
            if (trial.row, trial.setting, trial.seed, trial.held_out) == (row.key, setting, seed, held_out):
                return trial if trial.config == plain else None
        return None

    def keep_only(self, configs: Mapping[tuple[str, str, HeldOut], dict[str, Any]]) -> int:
        """Drops trainings with other settings, data or options than these, and returns how many.

        Args:
            configs: data and options by row, setting and held-out split.
        """
        plain = {key: _as_json(config) for key, config in configs.items()}
        kept = [trial for trial in self.trials if plain.get((trial.row, trial.setting, trial.held_out)) == trial.config]
        dropped = len(self.trials) - len(kept)
        self.trials = kept
        return dropped

    def add(self, trial: Trial, machine: dict[str, Any]) -> None:
        """Adds a training and its machine, in place of an earlier one with the same row, setting, seed and split."""
        place = (trial.row, trial.setting, trial.seed, trial.held_out)
        self.trials = [each for each in self.trials if (each.row, each.setting, each.seed, each.held_out) != place]
        self.trials.append(
            dataclasses.replace(trial, config=_as_json(trial.config), machine=self._number_machine(machine))
        )

    def tuned(self, experiment: Experiment, row: Row, budget: Budget) -> dict[str, float]:
        """The figure on the validation split by which a row's setting is chosen, for each setting that has it."""
        figures = {
            trial.setting: trial.figures[experiment.chosen_by]
            for trial in self._tuning_trials(row, budget)
            if experiment.chosen_by in trial.figures
        }
        return {setting.name: figures[setting.name] for setting in row.method.settings if setting.name in figures}

    def reported(self, row: Row, setting: str, budget: Budget) -> list[Trial]:
        """The reported trainings of a setting, in the order of the seeds."""
        trials = {
            trial.seed: trial
            for trial in self.trials
            if (trial.row, trial.held_out, trial.setting) == (row.key, "test", setting)
        }
        return [trials[seed] for seed in budget.seeds if seed in trials]

    def summarize(self, experiment: Experiment, row: Row, budget: Budget) -> Summary | str:
        """What the table shows of a row, or why it shows nothing."""
        tried = {trial.setting for trial in self._tuning_trials(row, budget)}
        if tried != {setting.name for setting in row.method.settings}:
            return "not measured yet"
        validation = self.tuned(experiment, row, budget)
        if not validation:
            if all(trial.error is not None for trial in self._tuning_trials(row, budget)):
                return "no setting could be trained, because a loss was not finite"
            return f"no setting could be chosen, because {experiment.chosen_by} is not defined on the validation data"
        setting = choose(validation)
        runs = self.reported(row, setting, budget)
        if len(runs) < len(budget.seeds):
            return "not measured yet"
        failed = [str(run.seed) for run in runs if run.error is not None]
        if failed:
            return f"with seed {', '.join(failed)} a loss was not finite"
        names = dict.fromkeys(name for run in runs for name in run.figures)
        figures = {name: _statistics(run.figures[name] for run in runs if name in run.figures) for name in names}
        minutes = round(statistics.mean(run.cpu_minutes for run in runs), 3)
        return Summary(setting, validation, _epochs(runs[0].config), figures, minutes)

    def save(self, experiment: Experiment, budget: Budget, command: Command | None = None) -> None:
        """Writes the file, with a summary of each row that is complete.

        Args:
            experiment: what is measured.
            budget: how much it is trained.
            command: the running command, which is written after the earlier ones.
        """
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
                    "takes_all_images": row.method.takes_all_images and row.recipe is None,
                    "cited": dict(row.cited),
                    "missing": summary if isinstance(summary, str) else None,
                    "summary": None if isinstance(summary, str) else dataclasses.asdict(summary),
                }
            )
        configs: list[dict[str, Any]] = []
        machines: list[dict[str, Any]] = []  # without those whose trainings have been replaced
        trials = []
        for trial in self.trials:
            config = _number(trial.config, configs)
            machine = _number(self.machines[trial.machine], machines)
            trials.append({**dataclasses.asdict(trial), "config": config, "machine": machine})
        commands = [*self.commands, *([] if command is None else [command])]
        contents = {
            "format": FORMAT,
            "experiment": experiment.name,
            "title": experiment.title,
            "about": experiment.about,
            "notes": [
                {"data": data, "recipe": recipe, "text": text} for (data, recipe), text in experiment.notes.items()
            ],
            "source": experiment.source,
            "budget": dataclasses.asdict(budget),
            "chosen_by": experiment.chosen_by,
            "columns": [column._asdict() for column in experiment.columns],
            "machines": machines,
            "commands": [dataclasses.asdict(each) for each in commands],
            "rows": rows,
            "trials": trials,
            "configs": configs,
        }
        with atomic_file(self.path) as file:
            file.write(_to_json(contents).encode())

    def _tuning_trials(self, row: Row, budget: Budget) -> list[Trial]:
        place = (row.key, "validation", budget.tuning_seed)
        return [trial for trial in self.trials if (trial.row, trial.held_out, trial.seed) == place]

    def _number_machine(self, description: dict[str, Any]) -> int:
        """The index of a machine, which is added if it is new; ``time`` is not compared."""
        for number, machine in enumerate(self.machines):
            if {**machine, "time": None} == {**description, "time": None}:
                return number
        self.machines.append(description)
        return len(self.machines) - 1


def choose(figures: Mapping[str, float]) -> str:
    """The setting with the greatest figure on the validation split, the first among equals."""
    return max(figures, key=figures.__getitem__)


def read_results(path: Path) -> dict[str, Any]:
    """The contents of a file of results.

    Raises:
        ValueError: it holds something else.
        OSError: it cannot be read.
    """
    try:
        contents = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
        _check_contents(contents)
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: must be what somvae experiment has written, of format {FORMAT}; move it away to begin anew"
        ) from error
    result: dict[str, Any] = contents
    return result


_TYPES: dict[str, type] = {
    "experiment": str,
    "title": str,
    "about": str,
    "notes": list,
    "source": str,
    "budget": dict,
    "chosen_by": str,
    "columns": list,
    "machines": list,
    "commands": list,
    "rows": list,
    "trials": list,
    "configs": list,
}
_ROW = {"key", "data", "recipe", "method", "settings", "takes_all_images", "cited", "missing", "summary"}


def _check_contents(contents: dict[str, Any]) -> None:
    """Checks the contents of a file.

    Raises:
        ValueError, KeyError, IndexError, TypeError, AttributeError: something is not as :meth:`Results.save` writes it.
    """
    complete = (
        contents["format"] == FORMAT
        and all(isinstance(contents[name], kind) for name, kind in _TYPES.items())
        and all(row.keys() == _ROW for row in contents["rows"])
        and all(column.keys() == {"figure", "title"} for column in contents["columns"])
        and all(command.keys() == _names(Command) for command in contents["commands"])
        and all({"cpu", "torch", "commit", "time"} <= machine.keys() for machine in contents["machines"])
        and all(row["summary"] is None or row["summary"].keys() == _names(Summary) for row in contents["rows"])
        and _names(Budget) == contents["budget"].keys()
        and all(contents["budget"][name].keys() == _names(Size) for name in ("tuning", "reported"))
        and all(note.keys() == {"data", "recipe", "text"} for note in contents["notes"])
    )
    if not complete:
        raise ValueError("incomplete")
    for trial in contents["trials"]:
        if trial.keys() != _names(Trial):
            raise ValueError("a training with other fields")
        for name, items in (("config", contents["configs"]), ("machine", contents["machines"])):
            if not isinstance(items[trial[name]], dict):
                raise ValueError(f"no such {name}")


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _to_json(contents: dict[str, Any]) -> str:
    """JSON with a line for each item of its lists, which keeps diffs readable."""
    parts = []
    for name, value in contents.items():
        text = json.dumps(value, allow_nan=False)
        if isinstance(value, list) and value:
            text = "[\n" + ",\n".join(f"  {json.dumps(item, allow_nan=False)}" for item in value) + "\n ]"
        parts.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _as_json(config: dict[str, Any]) -> dict[str, Any]:
    """A config as it comes back from a file, where tuples are lists."""
    result: dict[str, Any] = json.loads(json.dumps(config))
    return result


def _epochs(config: dict[str, Any]) -> int | None:
    """How often a training goes through its data; None if its options do not say."""
    options: dict[str, Any] = config.get("training", config)
    return next((options[name] for name in ("epochs", "n_epochs", "passes") if name in options), None)


def _number(item: dict[str, Any], items: list[dict[str, Any]]) -> int:
    """The index of an item in a list, to which it is appended if missing."""
    if item not in items:
        items.append(item)
    return items.index(item)


def _statistics(figures: Iterable[float]) -> dict[str, float | None]:
    values = list(figures)
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {
        "mean": round(statistics.mean(values), 6),
        "deviation": None if deviation is None else round(deviation, 6),
        "standard_error": None if deviation is None else round(deviation / math.sqrt(len(values)), 6),
        "seeds": len(values),
    }
