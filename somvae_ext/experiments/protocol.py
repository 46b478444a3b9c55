"""Experiments: rows, each a method on some data, tuned on validation data and reported on test data.

Every row has the same tuning budget. Each of its settings is trained once, with a seed used only for tuning, and
measured on the validation split; the setting with the best figure there is trained with all seeds and measured on the
test split.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from numpy.typing import NDArray
from torch import Tensor

from somvae_ext.data.record import AnySplits
from somvae_ext.data.series import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HeldOut = Literal["validation", "test"]
Arrays = Mapping[str, NDArray[Any]]
IMAGES = ("mnist", "fashion-mnist")
"""Data sets whose number of training images the budget sets; of others, all training data are used."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Amount of training data and epochs of one training.

    Args:
        images: number of training images, the first ones of the training split.
        series: number of series of the published length made of them; by the paper's recipe, half as many series of
            twice the length.
        epoch_share: share of the recipe's epochs to train for; at least one epoch.
    """

    images: int
    series: int
    epoch_share: float = 1.0


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much a row is trained.

    Args:
        tuning: size of the trainings that choose a setting.
        reported: size of the reported trainings, those of the chosen setting.
        seeds: seeds of the reported trainings.
        tuning_seed: seed of the trainings that choose a setting; not among ``seeds``.
    """

    tuning: Size
    reported: Size
    seeds: tuple[int, ...] = (0, 1, 2)
    tuning_seed: int = 10

    def __post_init__(self) -> None:
        if self.tuning_seed in self.seeds or len(set(self.seeds)) < len(self.seeds) or not self.seeds:
            raise ValueError(
                f"Budget: seeds must be distinct, without tuning_seed = {self.tuning_seed}, got {self.seeds}"
            )


_SMALL = Size(images=15_000, series=3_000, epoch_share=0.8)
QUICK = Budget(_SMALL, _SMALL)
FULL = Budget(_SMALL, Size(images=45_000, series=8_000))


@dataclasses.dataclass(frozen=True)
class DataChoice:
    """The training data of a row.

    Args:
        name: name of a data set, see :func:`~somvae_ext.experiments.datasets.load_source`.
        images: number of training images, the first ones; None for all.
        recipe: how series are interpolated between the images; None for still images.
        num_series: number of training series, None for still images; validation and test have as many in proportion
            to their images.
    """

    name: str
    images: int | None = None
    recipe: Recipe | None = None
    num_series: int | None = None


@dataclasses.dataclass(frozen=True)
class Setting:
    """One of the settings that a method is tuned over: a name to show, and the options that it stands for."""

    name: str
    options: Mapping[str, Any]


class Task(NamedTuple):
    """The data and conditions of one training.

    Args:
        data: which data ``splits`` are.
        splits: the data.
        epoch_share: see :class:`Size`.
        seed: seed of the training.
        held_out: the split to measure on.
        device: ``"cpu"`` or ``"cuda"``.
        labels: further labels of the held-out split by name, int64, -1 where unknown.
    """

    data: DataChoice
    splits: AnySplits
    epoch_share: float
    seed: int
    held_out: HeldOut
    device: str
    labels: Mapping[str, Tensor] = {}  # a shared default that nothing changes

    @property
    def held_out_data(self) -> Any:
        """The split to measure on."""
        return self.splits.test if self.held_out == "test" else self.splits.validation


class Outcome(NamedTuple):
    """The outcome of a training: figures on the held-out split, and the arrays that its pictures are drawn from."""

    figures: dict[str, float]
    shown: Arrays = {}  # noqa: RUF012


class Method(Protocol):
    """A way to cluster. Objects are sent to other processes, so they must be picklable."""

    @property
    def title(self) -> str:
        """The name in tables."""

    @property
    def settings(self) -> tuple[Setting, ...]:
        """The settings that it is tuned over."""

    @property
    def takes_all_images(self) -> bool:
        """Whether it is trained on the whole training split of still images, whatever the budget."""

    @property
    def takes_gpu(self) -> bool:
        """Whether it trains on a GPU if there is one."""

    def resolve(self, setting: Setting, task: Task) -> dict[str, Any]:
        """The options of a training except its seed, including defaults, in types that JSON has."""

    def train(self, setting: Setting, task: Task) -> Outcome:
        """Trains with a setting, and measures on the validation or the test split."""

    def check_installed(self) -> None:
        """Checks that the libraries that the method needs are installed.

        Raises:
            ModuleNotFoundError: a library that the method needs is missing.
        """


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table: a method on some data.

    Args:
        data: name of the data.
        method: what is trained.
        recipe: how series are made of the images; None for still images.
        cited: figures reported in the literature, under the names used here.
    """

    data: str
    method: Method
    recipe: Recipe | None = None
    cited: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name of the row in files."""
        return as_file_name(*(part for part in (self.data, self.recipe, self.method.title) if part))

    def choose_data(self, size: Size) -> DataChoice:
        """The training data of this row."""
        if self.data not in IMAGES:
            return DataChoice(self.data)
        if self.recipe is None:
            return DataChoice(self.data, None if self.method.takes_all_images else size.images)
        num_series = size.series if self.recipe == "published" else size.series // 2
        return DataChoice(self.data, size.images, self.recipe, num_series)


class Column(NamedTuple):
    """A figure that a table shows: its name in the results, and its title."""

    figure: str
    title: str


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A table or figure that is reproduced.

    Args:
        name: the NAME of the command.
        title: heading on the page.
        about: what is compared, and how; markdown without any figure.
        source: heading of the columns of cited figures.
        rows: see :class:`Row`.
        columns: figures on the test split that the table shows.
        chosen_by: the figure on the validation split whose greatest value chooses a setting.
        draw: draws the picture of the rows on the same data, from the ``shown`` of each outcome.
        notes: observations on a group of rows, by data and recipe; markdown without any figure.
    """

    name: str
    title: str
    about: str
    source: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    chosen_by: str
    draw: Callable[[Sequence[tuple[Row, Arrays]]], Figure]
    notes: Mapping[tuple[str, Recipe | None], str] = dataclasses.field(default_factory=dict)


def cite(names: Sequence[str], figures: Mapping[str, Sequence[float]], method: Method) -> dict[str, float]:
    """The cited figures of a method under these names; empty if the literature has no such row.

    Args:
        names: names of the figures.
        figures: values by the title of the method.
        method: the method.
    """
    values = figures.get(method.title)
    return {} if values is None else dict(zip(names, values, strict=True))


def as_file_name(*parts: object) -> str:
    """The parts in lower-case letters and digits, with dashes between them."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(map(str, parts)).lower()).strip("-")
