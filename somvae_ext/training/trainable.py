"""What training asks of a model, and what a model may offer beside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn


class Trainable(Protocol):
    """What the loop asks of a model, which is a ``torch.nn.Module`` as well.

    ``batch_fields`` names the items of a batch, ``x`` first, that forward pass and loss take by keyword. A model that
    clusters gives the clusters of the samples as its output's ``indices`` and has a ``num_clusters``.
    """

    batch_fields: ClassVar[tuple[str, ...]]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Forward pass; what it returns is handed to ``loss``."""

    @property
    def loss(self) -> Callable[..., Any]:
        """Losses of an output and the same fields: a NamedTuple of scalars, one of them ``total``."""


@runtime_checkable
class HasParameterGroups(Protocol):
    """A model whose parameters have learning rates of their own."""

    def parameter_groups(self, learning_rate: float, transition_rate_factor: float) -> list[dict[str, Any]]:
        """Parameter groups for the optimizers, each with its ``lr``.

        ``rows`` is True in a group whose gradients are sparse rows of tables.
        """


@runtime_checkable
class HasSchedule(Protocol):
    """A model whose loss follows a schedule."""

    def set_progress(self, step: int, epoch: int) -> None:
        """Called before each step with its number and that of its epoch, both from 1."""


@runtime_checkable
class HasLatentVariance(Protocol):
    """A model whose loss is scaled by a running variance of its encodings, once its warm-up is over."""

    def latent_moments(self, output: Any) -> Tensor:
        """What the variance of a batch is computed from; that of several processes, from their sum."""

    def update_latent_variance(self, moments: Tensor) -> None:
        """Takes the variance of a batch into the running one."""


def sees_window(model: Any) -> bool:
    """Whether an encoding depends on the frames before its own, so that series must be encoded as a whole."""
    return int(getattr(getattr(model, "config", None), "window", 1)) > 1


@runtime_checkable
class Relabelable(Protocol):
    """A model whose nodes can be reordered on its map."""

    def find_relabeling(self, x: Tensor, *, seed: int) -> Tensor:
        """An order of the nodes, int64 ``[K]``, under which second best nodes are neighbours of the best ones."""

    def relabel(self, order: Tensor) -> list[tuple[nn.Parameter, int]]:
        """Puts the nodes in this order.

        Returns the parameters that it rearranged, as (parameter, how many of its first axes).
        """


@runtime_checkable
class ClusteringModel(Protocol):
    """A model whose output says as ``indices`` which cluster each sample belongs to."""

    @property
    def num_clusters(self) -> int:
        """How many clusters there are."""
