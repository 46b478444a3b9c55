"""Display of fitted estimators and saved maps in notebooks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor

from somvae_ext.grid import Grid
from somvae_ext.notebook_html import Picture, View, render
from somvae_ext.som import Distance, Metric, MetricName

_MOST_NAMES = 12  # more are counted and not listed
# Nodes of the largest map whose codes are drawn as images: on a larger map, images are only a few pixels wide.
_LARGEST_IMAGES = 1024


class ShownInNotebooks:
    """Mixin by which a fitted estimator shows what it has learned above scikit-learn's diagram.

    List it before ``BaseEstimator`` among the base classes. It obeys scikit-learn's setting ``display``.
    """

    def _notebook_view(self) -> View:
        """Returns what a fitted estimator shows."""
        raise NotImplementedError

    @property
    def _repr_html_(self) -> Callable[[], str]:
        diagram = super()._repr_html_  # type: ignore[misc]  # AttributeError where estimators are shown as text
        if not self.__sklearn_is_fitted__():  # type: ignore[attr-defined]
            return diagram
        return lambda: render(self._notebook_view, below=diagram())

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        bundle: dict[str, str] = super()._repr_mimebundle_(**kwargs)  # type: ignore[misc]
        if "text/html" in bundle:
            bundle["text/html"] = self._repr_html_()
        return bundle


def describe_hits(hits: Any, sample: str) -> list[str]:
    """Describes how many samples there were and how many nodes they use."""
    total, used = int(hits.sum()), int((hits > 0).sum())
    return [f"{total:,} {sample}{'' if total == 1 else 's'}", f"{used:,} of {len(hits):,} nodes used"]


def describe_names(noun: str, count: int, names: Sequence[object] | None) -> str:
    """Describes how many features or classes there are and lists the first of their names."""
    counted = f"{count:,} {noun}" if count != 1 else f"1 {noun.removesuffix('es' if noun == 'classes' else 's')}"
    if names is None:
        return counted
    rest = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{counted}: {', '.join(map(str, names[:_MOST_NAMES]))}{rest}"


def map_pictures(
    codebook: ArrayLike | Tensor,
    grid: Grid,
    hits: ArrayLike | Tensor | None,
    metric: MetricName | Distance | Metric = "euclidean",
    images: ArrayLike | Tensor | None = None,
) -> list[Picture]:
    """Returns the pictures of a map.

    Args:
        codebook: codes ``[K, D]``; the U-matrix shows their distances.
        grid: the map's grid.
        hits: number of training rows that each node won, ``[K]``, if known.
        metric: the map's metric.
        images: what each node stands for, ``[K, C, H, W]``, if the samples are images.
    """

    def draw_u_matrix() -> Any:
        from somvae_ext.plotting import notebook

        return notebook.u_matrix_figure(codebook, grid, metric)

    def draw_hits() -> Any:
        from somvae_ext.plotting import notebook

        assert hits is not None
        return notebook.hits_figure(hits, grid)

    def draw_images() -> Any:
        from somvae_ext.plotting import notebook

        assert images is not None
        shape = images.shape  # type: ignore[union-attr]
        return notebook.codebook_images_figure(images.reshape(shape[0], -1), grid, shape[1:])  # type: ignore[union-attr]

    pictures = [Picture("U-matrix: distances between the codes of neighbors", draw_u_matrix)]
    if hits is not None:
        pictures.append(Picture("Hits: how often each node won in training", draw_hits))
    if images is not None and grid.num_nodes <= _LARGEST_IMAGES:
        pictures.append(Picture("What each node stands for", draw_images))
    return pictures
