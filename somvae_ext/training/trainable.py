"""The interface that training requires of a model, and the optional ones that it uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn


class Trainable(Protocol):
    """The interface that the training loop requires of a model, which must also be a ``torch.nn.Module``.

    ``batch_fields`` names the items of a batch, ``x`` first, that forward pass and loss take by keyword. A model that
    clusters returns the clusters of the samples as ``indices`` of its output and has a ``num_clusters``.
    """

    batch_fields: ClassVar[tuple[str, ...]]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the forward pass, whose result is passed to ``loss``."""

    @property
    def loss(self) -> Callable[..., Any]:
        """Computes the losses from an output and the same fields: a NamedTuple of scalars, one of them ``total``."""


@runtime_checkable
class HasParameterGroups(Protocol):
    """A model whose parameters have different learning rates."""

    def parameter_groups(self, learning_rate: float, transition_rate_factor: float) -> list[dict[str, Any]]:
        """Returns parameter groups for the optimizers, each with its ``lr``.

        ``rows`` is True in a group whose gradients are sparse rows of tables.
        """


@runtime_checkable
class HasSchedule(Protocol):
    """A model whose loss follows a schedule."""

    def set_progress(self, step: int, epoch: int) -> None:
        """Sets the numbers of the next step and of its epoch, both from 1; called before each step."""


@runtime_checkable
class HasLatentVariance(Protocol):
    """A model whose loss is scaled by a running variance of its encodings, once its warm-up is over."""

    def latent_moments(self, output: Any) -> Tensor:
        """Computes the moments that give the variance of a batch; those of several processes are added."""

    def update_latent_variance(self, moments: Tensor) -> None:
        """Updates the running variance with the moments of a batch."""


def sees_window(model: Any) -> bool:
    """Whether an encoding depends on earlier frames, so that series must be encoded as a whole."""
    return int(getattr(getattr(model, "config", None), "window", 1)) > 1


@runtime_checkable
class Relabelable(Protocol):
    """A model whose nodes can be reordered on its map."""

    def find_relabeling(self, x: Tensor, *, seed: int) -> Tensor:
        """Finds an order of the nodes, int64 ``[K]``, in which second best nodes are neighbors of the best ones."""

    def relabel(self, order: Tensor) -> list[tuple[nn.Parameter, int]]:
        """Puts the nodes in this order.

        Returns:
            The permuted parameters, each with the number of its first axes that were permuted.
        """


@runtime_checkable
class ClusteringModel(Protocol):
    """A model whose output holds the cluster of each sample as ``indices``."""

    @property
    def num_clusters(self) -> int:
        """Number of clusters."""
