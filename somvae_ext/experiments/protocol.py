"""What an experiment is: rows, each a method on some data, tuned on validation data and reported on test data.

Every row has the same tuning budget. Each of its settings is trained once, with a seed of its own, and measured on the
validation split; the setting of the best figure there is trained with all seeds and measured on the test split.
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
"""Data of which the budget says how many training images are taken; of others all training data are."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Amount of training data and epochs of one training.

    Args:
        images: training images, the first ones of the training split.
        series: how many series of the published length are made of them, or half as many of the paper's, which are
            twice as long.
        epoch_share: share of the epochs of its recipe; at least one epoch.
    """

    images: int
    series: int
    epoch_share: float = 1.0


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much a row is trained.

    Args:
        tuning: the trainings that choose a setting.
        reported: those of the chosen setting, which are reported.
        seeds: of the trainings that are reported.
        tuning_seed: of those that choose, none of ``seeds``.
    """

    tuning: Size
    reported: Size
    seeds: tuple[int, ...] = (0, 1, 2)
    tuning_seed: int = 10

    def __post_init__(self) -> None:
        if self.tuning_seed in self.seeds or len(set(self.seeds)) < len(self.seeds) or not self.seeds:
            raise ValueError(
                f"Budget: seeds must be different ones, without tuning_seed = {self.tuning_seed}, got {self.seeds}"
            )


_SMALL = Size(images=15_000, series=3_000, epoch_share=0.8)
QUICK = Budget(_SMALL, _SMALL)
FULL = Budget(_SMALL, Size(images=45_000, series=8_000))


@dataclasses.dataclass(frozen=True)
class DataChoice:
    """Which training data.

    Args:
        name: of a data set, see :func:`~somvae_ext.experiments.datasets.load_source`.
        images: how many training images, the first ones; None for all.
        recipe: how series are interpolated between the images; None for still images.
        num_series: how many for training, None for still images; validation and test have as many in proportion to
            their images.
    """

    name: str
    images: int | None = None
    recipe: Recipe | None = None
    num_series: int | None = None


@dataclasses.dataclass(frozen=True)
class Setting:
    """One of the values that a method is tried with: a name to show, and the options that it stands for."""

    name: str
    options: Mapping[str, Any]


class Task(NamedTuple):
    """What a method is to be trained on, and what is asked of it.

    Args:
        data: which data.
        splits: the data.
        epoch_share: see :class:`Size`.
        seed: of the training.
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
    labels: Mapping[str, Tensor] = {}  # of a named tuple, whose default nothing changes

    @property
    def held_out_data(self) -> Any:
        """The split to measure on."""
        return self.splits.test if self.held_out == "test" else self.splits.validation


class Outcome(NamedTuple):
    """What a training came to: figures on the held-out split, and what its pictures are drawn from."""

    figures: dict[str, float]
    shown: Arrays = {}  # noqa: RUF012


class Method(Protocol):
    """A way to cluster. Objects go to other processes, so they must be picklable."""

    @property
    def title(self) -> str:
        """The name in tables."""

    @property
    def settings(self) -> tuple[Setting, ...]:
        """What it is tried with."""

    @property
    def takes_all_images(self) -> bool:
        """Whether it is trained on the whole training split of still images, whatever the budget."""

    @property
    def takes_gpu(self) -> bool:
        """Whether it trains on a GPU where there is one."""

    def resolve(self, setting: Setting, task: Task) -> dict[str, Any]:
        """The options of a training but for its seed, defaults included, in types that JSON has."""

    def train(self, setting: Setting, task: Task) -> Outcome:
        """Trains with a setting, and measures on the validation or the test split."""

    def check_installed(self) -> None:
        """
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
        cited: figures that the literature reports, under the names that they have here.
    """

    data: str
    method: Method
    recipe: Recipe | None = None
    cited: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> str:
        """Names the row in files."""
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
        columns: what the table shows of the test split.
        chosen_by: the figure on the validation split whose greatest value chooses a setting.
        draw: makes the picture of the rows on the same data, from the ``shown`` of each one's outcome.
        notes: what was found out about a group of rows, by data and recipe; markdown without any figure.
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
    """The cited figures of a method under these names; none where the literature has no such row.

    Args:
        names: of the figures.
        figures: by the title of the method.
        method: the method.
    """
    values = figures.get(method.title)
    return {} if values is None else dict(zip(names, values, strict=True))


def as_file_name(*parts: object) -> str:
    """Small letters and digits with dashes between them."""
    return re.sub(r"[^a-z0-9]+", "-", " ".join(map(str, parts)).lower()).strip("-")
