"""``somvae cluster``: group the nodes of a map, or the codes of a model, and keep the groups in its folder."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from somvae_ext.cli.clusterer_options import describe_parameters, make_clusterer
from somvae_ext.cli.output import check_output
from somvae_ext.cli.printing import print_columns, print_table
from somvae_ext.cli.table_output import check_ending, open_table
from somvae_ext.report.model_pictures import CLUSTERS_PICTURE
from somvae_ext.store import NodeFacts

if TYPE_CHECKING:
    from jsonargparse import Namespace
    from matplotlib.figure import Figure

    from somvae_ext.evaluation import NodeClusters
    from somvae_ext.grid import Grid
    from somvae_ext.som import Metric
    from somvae_ext.store import KeptClusters, ResultFolder

_CRITERION = "silhouette"
_REASONS = {"silhouette": "the largest silhouette", "davies-bouldin": "the smallest Davies-Bouldin index"}


class _Nodes(NamedTuple):
    """The nodes of a map, or the codes of a model.

    Args:
        codebook: codes ``[K, D]``.
        metric: the metric of distances between codes.
        facts: what else is known about the nodes.
    """

    codebook: Any
    metric: Metric
    facts: NodeFacts


def run(options: Namespace) -> None:
    import somvae_ext.plotting  # noqa: F401  # a missing extra fails first
    from somvae_ext.store import KeptClusters, ResultFolder

    _check_options(options)
    folder = ResultFolder.open(options.run)
    nodes = _load_nodes(folder)
    chosen = make_clusterer(options, nodes.metric)
    if options.criterion is not None and not chosen.is_auto:
        raise ValueError("--criterion is for --number auto, which looks for a number, but the number is given")
    criterion = options.criterion or _CRITERION
    result = _cluster(nodes, chosen.clusterer, criterion)
    parameters = chosen.parameters
    if chosen.is_auto:
        assert chosen.count_parameter is not None
        parameters = parameters | {chosen.count_parameter: result.n_clusters}
    kept = KeptClusters(
        result.cluster.numpy(),
        type(chosen.clusterer).__name__,
        parameters,
        criterion if chosen.is_auto else None,
        result.candidates,
    )
    figure = _figure(kept, nodes.facts.grid)
    paths = {"clusters": str(folder.path / "clusters.safetensors")}
    with folder.lock():
        replaced = _describe_earlier(folder, len(kept.cluster))
        kept.save(folder)
        if figure is not None:
            paths["picture"] = str(folder.save_figure(CLUSTERS_PICTURE, figure, bbox_inches="tight"))
    if options.output is not None:
        _write_table(options.output, nodes.facts._replace(cluster=kept.cluster))
        paths["table"] = options.output
    _print(folder, nodes.facts, kept, {} if replaced is None else {"replaced": replaced}, paths)


def _check_options(options: Namespace) -> None:
    if options.output is not None:
        check_output(options.output, may_replace=options.overwrite)
        check_ending(options.output)
    elif options.overwrite:
        raise ValueError("--overwrite is for --output, which is not given; clusters in RUN are replaced in any case")


def _load_nodes(folder: ResultFolder) -> _Nodes:
    from somvae_ext.som import Metric

    if folder.kind == "map":
        from somvae_ext.estimators import SavedMap

        saved = SavedMap.from_folder(folder)
        grid = saved.grid
        facts = NodeFacts.from_folder(folder, "node", grid.num_nodes, grid, saved.classes, with_clusters=False)
        return _Nodes(saved.som.codebook_, saved.metric, facts)
    from somvae_ext.training import RunRecord
    from somvae_ext.training.model_nodes import facts_of_model

    record = RunRecord.from_folder(folder)
    model: Any = record.load_model(folder)
    codes_per_sample = getattr(model, "codes_per_sample", 0)
    if codes_per_sample != 1:
        many = f" with {codes_per_sample} codes for each sample" if codes_per_sample else ""
        raise ValueError(
            f"{folder.path} must hold a map or a model with one code for each sample, a somvae or a vqvae of dense "
            f"networks, but it holds a {model.name}{many}"
        )
    known = facts_of_model(folder, model, record.data.class_names, with_clusters=False)
    assert known is not None
    return _Nodes(model.quantizer.codebook.detach(), Metric(), known)


def _cluster(nodes: _Nodes, clusterer: Any, criterion: Any) -> NodeClusters:
    """Clusters the nodes, and prints scikit-learn's warnings to stderr, one per line."""
    from somvae_ext.evaluation import cluster_nodes

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for category in (FutureWarning, DeprecationWarning):  # meant for Python programmers
            warnings.simplefilter("ignore", category)
        try:
            result = cluster_nodes(nodes.codebook, clusterer, metric=nodes.metric, criterion=criterion)
        except (ValueError, TypeError) as error:  # the clusterer refuses a parameter, in one line or several
            raise ValueError(" ".join(str(error).split())) from error
    for message in dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught):
        print(f"somvae: {type(clusterer).__name__} warns: {message}", file=sys.stderr)
    return result


def _figure(kept: KeptClusters, grid: Grid | None) -> Figure | None:
    """Draws the clusters on the map; None for codes that lie on no map."""
    from somvae_ext.plotting import plot_map_clusters

    return None if grid is None else cast("Figure", plot_map_clusters(kept.cluster, grid).figure)


def _describe_earlier(folder: ResultFolder, num_nodes: int) -> str | None:
    from somvae_ext.store import KeptClusters

    try:
        earlier = KeptClusters.load(folder, num_nodes)
    except (ValueError, OSError):
        return "earlier clusters, which were damaged"
    return None if earlier is None else f"{earlier.num_clusters} clusters by {earlier.clusterer}"


def _write_table(path: str, facts: NodeFacts) -> None:
    import numpy as np

    assert facts.cluster is not None
    node = np.arange(len(facts.cluster))
    with open_table(path) as table:
        table.write(facts.place(node) | facts.meaning(node))


def _print(
    folder: ResultFolder, facts: NodeFacts, kept: KeptClusters, replaced: dict[str, str], paths: dict[str, str]
) -> None:
    import numpy as np

    reason = "" if kept.criterion is None else f", by {_REASONS[kept.criterion]}"
    print(f"{len(kept.cluster)} {facts.noun}s of {folder.path} in {kept.num_clusters} clusters{reason}")
    if kept.candidates:
        rows = [
            [
                str(number),
                _score(silhouette),
                _score(davies_bouldin),
                "chosen" if number == kept.num_clusters else "",
            ]
            for number, silhouette, davies_bouldin in kept.candidates
        ]
        print()
        print_columns(["clusters", "silhouette", "Davies-Bouldin", ""], rows)
    members = {str(cluster): kept.cluster == cluster for cluster in range(kept.num_clusters)}
    if (kept.cluster < 0).any():
        members["none"] = kept.cluster < 0
    hits = facts.hits
    print()
    print_columns(
        ["cluster", f"{facts.noun}s", *([] if hits is None else ["training rows"])],
        [
            [name, str(np.count_nonzero(mask)), *([] if hits is None else [str(int(hits[mask].sum()))])]
            for name, mask in members.items()
        ],
    )
    print()
    print_table({"clusterer": f"{kept.clusterer}, {describe_parameters(kept.parameters)}"} | replaced | paths)


def _score(value: float) -> str:
    return f"{value:.3f}" if value == value else "-"
