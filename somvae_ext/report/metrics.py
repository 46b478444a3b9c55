"""The metrics of an evaluation: their titles, definitions and formats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

if TYPE_CHECKING:
    from somvae_ext.data.record import DataRecord
    from somvae_ext.estimators import SavedMap
    from somvae_ext.grid import Grid
    from somvae_ext.models import Model

Better = Literal["higher", "lower"]

_NMI_TITLES = {"arithmetic": "NMI", "geometric": "NMI, geometric"}
_SMALLEST = 1e-12  # smaller magnitudes are rounding errors


@dataclass(frozen=True)
class Metric:
    """A metric of an evaluation.

    Args:
        name: its key in ``evaluation.json``.
        title: its title in a table.
        meaning: a few words in parentheses after the value, if any.
        definition: how it is computed, in which unit and range, in full sentences; empty for an unknown name.
        better: which values are better; None if neither end is.
        in_summary: whether the command prints it. It leaves out the number of samples, and the loss terms that not all
            models share.
        comparable: what two results must have in common for their values to be compared, such as the data and the
            number of nodes. They can be compared if this is equal; None if they never can.
    """

    name: str
    title: str
    meaning: str = ""
    definition: str = ""
    better: Better | None = None
    in_summary: bool = True
    comparable: tuple[Any, ...] | None = None


class MeasuredMetric(NamedTuple):
    """A metric with its value, and ``text``, the value rounded for display."""

    metric: Metric
    value: Any
    text: str

    def describe(self) -> str:
        """Returns the value with its meaning: ``"0.912 (of frames)"``."""
        return f"{self.text} ({self.metric.meaning})" if self.metric.meaning else self.text


@dataclass(frozen=True)
class EvaluationContext:
    """What was evaluated and on which data, as far as titles and definitions depend on it.

    Args:
        split: the split of the data.
        kind: kind of the data, ``"static"`` or ``"series"``.
        clusters: what samples are assigned to: ``"nodes"`` of a map, ``"codes"`` where a sample has several, or
            ``"clusters"``.
        num_clusters: their number; 0 for a model that does not cluster.
        is_map: whether a map without a model was evaluated, whose codes are in the space of the data.
        is_scaled: whether the distances of a map are those of scaled data.
        data: what identifies the data; None if they are not known.
        grid: grid of a map.
        units: units of a map's distances: its metric, and the scaling of the data.
        reconstruction: how a model's reconstruction error is measured.
    """

    split: str
    kind: str = "static"
    clusters: Literal["nodes", "codes", "clusters"] = "clusters"
    num_clusters: int = 0
    is_map: bool = False
    is_scaled: bool = False
    data: tuple[Any, ...] | None = None
    grid: Grid | None = None
    units: tuple[Any, ...] = ()
    reconstruction: str = ""

    @classmethod
    def of_model(cls, model: Model, split: str, kind: str, data: DataRecord | None = None) -> Self:
        grid = getattr(getattr(model, "quantizer", None), "grid", None)
        # A sample of a convolutional VQ-VAE has many codes, and so no cluster.
        several = getattr(model, "codes_per_sample", 1) > 1
        clusters: Any = "nodes" if grid is not None else "codes" if several else "clusters"
        return cls(
            split,
            kind,
            clusters,
            getattr(model, "num_clusters", 0),
            data=None if data is None else _identity(data),
            grid=grid,
            reconstruction=getattr(model.config, "reconstruction", ""),
        )

    @classmethod
    def of_map(cls, saved: SavedMap, split: str = "train") -> Self:
        is_scaled = saved.scaling.kind != "none"
        values, data = saved.record.parameters.values, saved.record.data
        weights = values.get("feature_weights")
        p = values.get("p") if values.get("metric") == "minkowski" else None
        return cls(
            split,
            "static",
            "nodes",
            saved.grid.num_nodes,
            is_map=True,
            is_scaled=is_scaled,
            data=None if data is None else (data.fingerprint,),
            grid=saved.grid,
            units=(values.get("metric"), p, None if weights is None else tuple(weights), saved.scaling),
        )


def _identity(data: DataRecord) -> tuple[Any, ...]:
    # Series that are made of images have the fingerprint of the images, so add how they were made.
    made = (data.seed, data.recipe, data.num_series) if data.kind == "series" else ()
    return (data.fingerprint, data.kind, *made)


def measured_metrics(evaluation: Mapping[str, Any], context: EvaluationContext) -> list[MeasuredMetric]:
    """Returns the metrics of an evaluation with titles and definitions, in an order that is always the same.

    Unknown names come last, under their own names and without a definition.

    Args:
        evaluation: names and values, as :func:`somvae_ext.training.evaluate` gives them, or ``evaluations`` of a
            :class:`~somvae_ext.store.ResultFolder` for one split.
        context: what was evaluated.

    Example:
        >>> context = EvaluationContext("test", clusters="nodes", num_clusters=16)
        >>> for metric, _, text in measured_metrics({"purity": 0.5, "order": 0.25, "samples": 8}, context):
        ...     print(metric.title, text, metric.better)
        samples 8 None
        purity 0.500 higher
        order 0.250 lower
    """
    known = {
        metric.name: replace(metric, comparable=_comparable(metric.name, evaluation, context))
        for metric in _known_metrics(evaluation, context)
    }
    metrics = [metric for name, metric in known.items() if name in evaluation]
    metrics += [Metric(name, name) for name in evaluation if name not in known]
    return [
        MeasuredMetric(metric, evaluation[metric.name], _format(metric.name, evaluation[metric.name], context))
        for metric in metrics
    ]


def _format(name: str, value: Any, context: EvaluationContext) -> str:
    if not isinstance(value, float):
        return str(value)
    if context.is_map and name == "usage":
        return f"{round(value * context.num_clusters)} of {context.num_clusters}"
    if context.is_map and name == "quantization_error":  # in the units of the data, of any magnitude
        return f"{value:.4g}"
    # Three decimals, or three digits if the decimals would show fewer than two: losses may have any magnitude.
    value = value if abs(value) > _SMALLEST else 0.0
    return f"{value:.3g}" if value and round(abs(value), 3) < 0.01 else f"{value:.3f}"


def _comparable(name: str, evaluation: Mapping[str, Any], context: EvaluationContext) -> tuple[Any, ...] | None:
    """Returns what two results must share for their values of a metric to be compared, see :class:`Metric`."""
    if context.data is None or name in _LOSSES_WITHOUT_UNITS:
        return None
    key: tuple[Any, ...] = (context.data, context.split, context.is_map)
    if name == "quantization_error":
        return (*key, context.grid, context.units) if context.is_map else None
    if name in ("prediction", "reconstruction", "reconstruction_e", "reconstruction_q"):
        return (*key, context.reconstruction, _in_nats(evaluation))
    if name.startswith(_GRID_METRICS):
        return (*key, context.grid)
    if name in _NODE_COUNT_METRICS:
        return (*key, context.num_clusters)
    return key


# Losses in the units of a latent space, whose scale is learned, or with weights of their own.
_LOSSES_WITHOUT_UNITS = {"codebook", "commitment", "som", "smoothness", "hardening", "soft_som", "neighbor_margin"}
_GRID_METRICS = ("topographic_error", "order", "moves_within", "transition_mass_within")
_NODE_COUNT_METRICS = {
    "purity", "static_purity", "usage", "perplexity", "balance", "transition", "transition_nll", "counted_nll",
    "lowest_nll",
}  # fmt: skip


def _in_nats(evaluation: Mapping[str, Any]) -> bool:
    """Whether the losses are terms of an evidence lower bound, in nats."""
    return bool({"kl", "kl_z"} & evaluation.keys())


def _known_metrics(evaluation: Mapping[str, Any], context: EvaluationContext) -> Iterator[Metric]:
    sample = _sample_noun(context)
    yield Metric(
        "samples",
        "samples",
        definition=f"Number of {sample}s of the {context.split} split that were evaluated"
        f"{'; padding of shorter series is not counted' if context.kind == 'series' else ''}.",
        in_summary=False,
    )
    yield from _loss_metrics(evaluation, context)
    # For a map, the errors that it was trained to lower come first; for a model, the classes.
    if context.is_map:
        yield from (*_map_metrics(context), *_usage_metrics(context), *_class_metrics(evaluation, context))
    else:
        yield from (*_class_metrics(evaluation, context), *_map_metrics(context), *_usage_metrics(context))
    yield from _transition_metrics(context)


def _sample_noun(context: EvaluationContext) -> str:
    return "row" if context.is_map else "frame" if context.kind == "series" else "sample"


def _loss_metrics(evaluation: Mapping[str, Any], context: EvaluationContext) -> Iterator[Metric]:
    sample = _sample_noun(context)
    in_nats = _in_nats(evaluation)
    unit = "nats per sample" if in_nats else "mean over the values of a sample"
    error = f"mean squared error, or mean binary cross entropy if the config says so, over the values of a {sample}"
    if in_nats:
        reconstruction = (
            "Negative log-likelihood of a sample given its latent variables, in nats: summed over the values of a "
            "sample, and estimated from one draw of the latent variables."
        )
    else:
        reconstruction = f"How far decoded codes are from the data: {error}. It is at least 0."
    yield Metric("reconstruction", "reconstruction", unit, reconstruction, "lower")
    kl = "It is at least 0, and 0 if the latent variables say nothing about the sample; neither end is best."
    gaussian = "Kullback-Leibler divergence of the posterior of z from the standard normal prior, in nats per sample."
    yield Metric("kl", "KL", unit, f"{gaussian} {kl}")
    yield Metric("kl_z", "KL of z", unit, f"{gaussian} {kl}")
    yield Metric(
        "kl_c",
        "KL of categories",
        unit,
        "Kullback-Leibler divergence of the posterior of the categories from the uniform distribution, in nats per "
        "sample. It ranges from 0, if all categories are equally likely, to the logarithm of their number, if each "
        "sample is certain to have one of them.",
    )
    for name, title, definition in (
        (
            "reconstruction_q",
            "reconstruction of codes",
            f"How far the data are from what is decoded from their codes: {error}.",
        ),
        (
            "reconstruction_e",
            "reconstruction of encodings",
            f"How far the data are from what is decoded from their encodings, without the map: {error}. It is 0 if the "
            "model has no second decoder.",
        ),
        (
            "codebook",
            "codebook loss",
            "Mean squared difference between an encoding and its code, per latent dimension. It moves codes to "
            "encodings.",
        ),
        (
            "commitment",
            "commitment",
            "Mean squared difference between an encoding and its code, per latent dimension. It keeps encodings near "
            "the codes.",
        ),
        (
            "som",
            "SOM loss",
            "Mean squared difference between an encoding and the codes around its node, per latent dimension. It "
            "orders the map.",
        ),
        (
            "transition",
            "transition loss",
            "Negative log-likelihood of a frame's node given the node of the previous frame, in nats per frame; a "
            "first frame counts as its own predecessor.",
        ),
        (
            "smoothness",
            "smoothness",
            "Mean squared distance between an encoding and the codes of all nodes, weighted by the learned transition "
            "probabilities from the previous frame's node, and divided by the number of nodes.",
        ),
        (
            "hardening",
            "hardening",
            "Kullback-Leibler divergence of the soft assignment to the nodes from its sharpened targets, in nats (Xie "
            "et al. 2016, equation 2). It is 0 if its weight in the loss is 0.",
        ),
        (
            "soft_som",
            "soft SOM loss",
            "Negative logarithm of the soft assignment to the neighbors of the likely nodes, in nats (Manduchi et al. "
            "2021). It is 0 if its weight in the loss is 0.",
        ),
        (
            "neighbor_margin",
            "neighbor margin",
            "How much farther from an encoding, in squared distance per latent dimension, the nearest neighbor of its "
            "node is than the second best node. It is 0 if no sample has a topographic error, or if its weight in the "
            "loss is 0.",
        ),
        (
            "prediction",
            "prediction",
            f"How far the next frame is from what is predicted from an encoding: {error}. It is 0 if its weight in the "
            "loss is 0.",
        ),
        (
            "balance",
            "balance of experts",
            "Variance over the experts of the number of samples that each gets of a batch of 100. It is 0 if all get "
            "the same share.",
        ),
    ):
        yield Metric(name, title, "", definition, "lower", in_summary=False)


def _class_metrics(evaluation: Mapping[str, Any], context: EvaluationContext) -> Iterator[Metric]:
    clusters, cluster, sample = context.clusters, context.clusters.removesuffix("s"), _sample_noun(context)
    num_images = evaluation.get("static_samples", 0)
    # Series that are made of still images have scores of both.
    of_frames = "of frames" if "static_samples" in evaluation else ""
    purity = (
        "Share of {}s whose class is the most frequent one of their {} (Manning et al. 2008, equation 16.1). It ranges "
        "from above 0 to 1 and grows with the number of {}: compare it at equal numbers only."
    )
    nmi = (
        "Mutual information of classes and {}, divided by the {} mean of their entropies, as in scikit-learn. It "
        "ranges from 0 for independent partitions to 1 for the same partition."
    )
    ari = (
        "Adjusted Rand index (Hubert and Arabie 1985): how far classes and {} agree on which pairs of {}s belong "
        "together, corrected for chance. It is about 0 for random assignments, 1 for the same partition, and can be "
        "negative."
    )
    yield Metric("purity", "purity", of_frames, purity.format(sample, cluster, clusters), "higher")
    for average in ("arithmetic", "geometric"):
        mean = f"{average} mean of the entropies"
        meaning = f"{of_frames}, {mean}" if of_frames else mean
        yield Metric(f"nmi_{average}", _NMI_TITLES[average], meaning, nmi.format(clusters, average), "higher")
    yield Metric("ari", "ARI", of_frames, ari.format(clusters, sample), "higher")
    matched = f"{clusters} matched with classes"
    yield Metric(
        "acc",
        "ACC",
        f"{of_frames}, {matched}" if of_frames else matched,
        f"Clustering accuracy: share of {sample}s in the {cluster} that is matched with their class, under the best "
        f"one-to-one matching of {clusters} and classes (Hungarian method, Kuhn 1955). It ranges from 0 to 1 and is "
        f"defined only if there are as many {clusters} as classes.",
        "higher",
    )
    yield Metric(
        "static_samples",
        "static images",
        definition="Number of still images that the series are made of; the static scores are measured on these.",
        in_summary=False,
    )
    one_by_one = "It is measured on the still images that the series are made of, each on its own."
    yield Metric(
        "static_purity",
        "purity, static images",
        f"of the {num_images} images that the series are made of",
        f"{purity.format('image', cluster, clusters)} {one_by_one}",
        "higher",
    )
    for average in ("arithmetic", "geometric"):
        definition = f"{nmi.format(clusters, average)} {one_by_one}"
        mean = f"{average} mean of the entropies"
        yield Metric(f"static_nmi_{average}", f"{_NMI_TITLES[average]}, static images", mean, definition, "higher")
    yield Metric("static_ari", "ARI, static images", "", f"{ari.format(clusters, 'image')} {one_by_one}", "higher")


def _map_metrics(context: EvaluationContext) -> Iterator[Metric]:
    sample, codes = _sample_noun(context), "nodes" if context.clusters == "nodes" else "codes"
    if context.is_map:
        yield Metric(
            "quantization_error",
            "quantization error",
            "of the scaled data" if context.is_scaled else "",
            "Mean distance of the rows to the codes of their nodes, in the map's own metric and in the units of the "
            f"{'scaled ' if context.is_scaled else ''}data (Kohonen 2001). It is at least 0 and falls with every node "
            "that is added: compare it at equal sizes only.",
            "lower",
        )
    else:
        yield Metric(
            "quantization_error",
            "quantization error",
            "mean distance of encodings to their codes",
            "Mean Euclidean distance of the encodings to their codes, in the units of the latent space (Kohonen 2001). "
            "It is at least 0. The scale of a latent space is learned: it cannot be compared between models.",
            "lower",
        )
    for connectivity in (4, 6, 8):
        detail = f"second best node is none of the {connectivity} neighbors of the best"
        yield Metric(
            f"topographic_error_{connectivity}",
            f"topographic error, {connectivity}",
            f"{connectivity} neighbors" if context.is_map else detail,
            f"Share of {sample}s whose second best node is none of the {connectivity} neighbors of the best one on "
            "the grid (Kiviluoto 1996). It ranges from 0, a map that keeps the order of the data, to 1; compare it at "
            "equal numbers of neighbors only.",
            "lower",
        )
    yield Metric(
        "order",
        "order",
        "mean distance of decoded neighbors relative to that of all nodes; 1: no order",
        f"Mean distance between what is decoded from neighboring {codes}, divided by that of all pairs of {codes}. It "
        "is about 1 if the grid has no order, and smaller the more alike neighbors are; compare it at equal grids "
        "only.",
        "lower",
    )
    for distance in (1, 2):
        yield Metric(
            f"moves_within_{distance}",
            f"moves within {distance}",
            f"share of the moves that lead no further than {distance} on the grid",
            f"Share of the moves of series from one node to another that lead no further than {distance} on the grid, "
            "where neighbors are at distance 1. Frames that stay in their node are no moves. It ranges from 0 to 1.",
            "higher",
        )
        yield Metric(
            f"transition_mass_within_{distance}",
            f"learned within {distance}",
            "the same share of the moves that the learned transitions expect",
            "Share of the probability of leaving a node, under the learned transitions at the steps of these series, "
            f"that leads no further than {distance} on the grid. It ranges from 0 to 1 and equals the share of the "
            "observed moves if the transitions are learned well.",
        )


def _usage_metrics(context: EvaluationContext) -> Iterator[Metric]:
    clusters, count, sample = context.clusters, context.num_clusters, _sample_noun(context)
    yield Metric(
        "usage",
        "nodes used" if context.is_map else "usage",
        "" if context.is_map else f"{clusters} with a sample of the {context.split} split",
        f"Share of the {clusters} that won at least one {sample} of the {context.split} split. It ranges from "
        "above 0 to 1.",
        "higher",
    )
    yield Metric(
        "perplexity",
        "perplexity",
        f"of {count} {clusters}",
        f"Effective number of {clusters} in use: the exponential of the entropy, in nats, of the shares of {sample}s "
        f"that they won. It ranges from 1, if one takes everything, to the number of {clusters}, if all are used "
        "equally.",
    )


def _transition_metrics(context: EvaluationContext) -> Iterator[Metric]:
    nll = "Negative log-likelihood of the series' steps from node to node"
    yield Metric(
        "transition_nll",
        "transition NLL",
        "learned, nats per step",
        f"{nll} under the learned transitions, in nats per step. It is at least 0.",
        "lower",
    )
    yield Metric(
        "counted_nll",
        "counted NLL",
        "counted on the training series",
        f"{nll} under transitions that are counted on the training series, after adding one step spread evenly over "
        "each row, in nats per step. Learned transitions should approach it.",
    )
    yield Metric(
        "lowest_nll",
        "lowest NLL",
        f"counted on the {context.split} series themselves, maximum likelihood",
        f"{nll} under transitions that are counted on the {context.split} series themselves, in nats per step. It is "
        "the maximum-likelihood estimate, which no transitions of this kind can beat on these series.",
    )
