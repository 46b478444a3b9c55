"""``somvae cluster`` for maps and models: what it saves, prints and draws, and what it refuses."""

from __future__ import annotations

import csv
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from saved_configs import contents
from sklearn.cluster import DBSCAN, AgglomerativeClustering, KMeans
from sklearn.exceptions import ConvergenceWarning

import somvae_ext
from somvae_ext import evaluation
from somvae_ext.cli import main
from somvae_ext.store import KeptClusters, ResultFolder

SMALL_MAP = ["--model", "som", "--rows", "4", "--cols", "5", "--epochs", "3", "--quiet", "--overwrite", "--out", "map"]
SMALL_MODEL = ["--epochs", "1", "--threads", "1", "--device", "cpu", "--quiet", "--out", "run"]


def fit_map(*options: str) -> Any:
    """Trains a map of rows around three points."""
    generator = np.random.default_rng(0)
    np.save("rows.npy", 9.0 * np.arange(90)[:, None].repeat(3, axis=1) % 27 + generator.normal(size=(90, 3)))
    assert main(["fit", "rows.npy", *SMALL_MAP, *options]) == 0
    return somvae_ext.load("map")


def kept(run: str, num_nodes: int) -> KeptClusters:
    clusters = KeptClusters.load(ResultFolder.open(run), num_nodes)
    assert clusters is not None
    return clusters


def sections(output: str) -> list[list[str]]:
    return [part.splitlines() for part in output.rstrip().split("\n\n")]


def names_and_values(lines: list[str]) -> dict[str, str]:
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in lines)  # type: ignore[misc]


# ---- maps ------------------------------------------------------------------------------------------------------------


def test_the_number_of_clusters_is_found_and_the_candidates_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    saved = fit_map()
    capsys.readouterr()
    assert main(["cluster", "map"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    expected = evaluation.cluster_nodes(saved.som.codebook_, metric=saved.metric)
    clusters = kept("map", 20)
    assert clusters.cluster.tolist() == expected.cluster.tolist()
    assert clusters.clusterer == "AgglomerativeClustering"
    assert clusters.parameters == {"linkage": "ward", "metric": "euclidean", "n_clusters": expected.n_clusters}
    assert clusters.criterion == "silhouette"
    assert clusters.candidates == tuple(map(tuple, expected.candidates))
    (what,), candidates, members, paths = sections(printed.out)
    assert what == f"20 nodes of map in {expected.n_clusters} clusters, by the largest silhouette"
    assert candidates[0].split() == ["clusters", "silhouette", "Davies-Bouldin"]
    for line, (number, by_silhouette, by_index) in zip(candidates[1:], expected.candidates, strict=True):
        chosen = ["chosen"] if number == expected.n_clusters else []
        assert line.split() == [str(number), f"{by_silhouette:.3f}", f"{by_index:.3f}", *chosen]
    for cluster, line in enumerate(members[1:]):
        mask = clusters.cluster == cluster
        assert line.split() == [str(cluster), str(mask.sum()), str(saved.hits[mask].sum())]
    assert sum(int(line.split()[-1]) for line in members[1:]) == 90
    assert names_and_values(paths) == {
        "clusterer": f"AgglomerativeClustering, linkage=ward, metric=euclidean, n_clusters={expected.n_clusters}",
        "clusters": "map/clusters.safetensors",
        "picture": "map/clusters.png",
    }
    assert Path("map/clusters.png").read_bytes().startswith(b"\x89PNG")


def test_the_criterion_determines_the_number_of_clusters(capsys: pytest.CaptureFixture[str]) -> None:
    saved = fit_map()
    assert main(["cluster", "map", "-n", "auto", "--criterion", "davies-bouldin"]) == 0
    expected = evaluation.cluster_nodes(saved.som.codebook_, criterion="davies-bouldin")
    assert kept("map", 20).cluster.tolist() == expected.cluster.tolist()
    assert kept("map", 20).criterion == "davies-bouldin"
    assert "clusters, by the smallest Davies-Bouldin index\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "clusterer", "parameters"),
    [
        (["-n", "3"], AgglomerativeClustering(3), {"linkage": "ward", "metric": "euclidean", "n_clusters": 3}),
        (
            ["-n", "4", "--set", "linkage=average"],
            AgglomerativeClustering(4, linkage="average"),
            {"linkage": "average", "metric": "euclidean", "n_clusters": 4},
        ),
        (
            ["--clusterer", "KMeans", "--set", "n_clusters=4", "n_init=3", "--set", "random_state=7"],
            KMeans(4, n_init=3, random_state=7),
            {"n_clusters": 4, "n_init": 3, "random_state": 7},
        ),
        (
            ["--clusterer", "DBSCAN", "--set", "eps=0.2", "min_samples=2"],
            DBSCAN(eps=0.2, min_samples=2),
            {"eps": 0.2, "min_samples": 2},
        ),
    ],
)
def test_the_clusterer_and_its_parameters_can_be_chosen(
    options: list[str], clusterer: Any, parameters: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    saved = fit_map()
    capsys.readouterr()
    assert main(["cluster", "map", *options, "-o", "nodes.csv"]) == 0
    expected = evaluation.cluster_nodes(saved.som.codebook_, clusterer)
    clusters = kept("map", 20)
    assert clusters.cluster.tolist() == expected.cluster.tolist()
    assert clusters.clusterer == type(clusterer).__name__
    assert clusters.parameters == parameters
    assert (clusters.criterion, clusters.candidates) == (None, ())
    (what,), members, paths = sections(capsys.readouterr().out)
    assert what == f"20 nodes of map in {expected.n_clusters} clusters"
    left_out = int((expected.cluster < 0).sum())
    assert (members[-1].split()[:2] == ["none", str(left_out)]) == (left_out > 0)
    assert names_and_values(paths)["table"] == "nodes.csv"
    with open("nodes.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["node", "row", "column", "cluster"]
    assert rows[1:] == [
        [str(node), *map(str, divmod(node, 5)), str(cluster) if cluster >= 0 else ""]
        for node, cluster in enumerate(expected.cluster.tolist())
    ]


def test_a_map_is_clustered_in_its_own_metric(capsys: pytest.CaptureFixture[str]) -> None:
    saved = fit_map("--metric", "manhattan")
    capsys.readouterr()
    assert main(["cluster", "map"]) == 0
    expected = evaluation.cluster_nodes(saved.som.codebook_, metric="manhattan")
    assert kept("map", 20).cluster.tolist() == expected.cluster.tolist()
    assert kept("map", 20).parameters["linkage"] == "average"
    assert all(line.split()[2] == "-" for line in sections(capsys.readouterr().out)[1][1:])


def test_clustering_again_replaces_the_earlier_clusters_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    fit_map()
    assert main(["cluster", "map", "-n", "3", "-o", "nodes.csv"]) == 0
    capsys.readouterr()
    assert main(["cluster", "map", "--clusterer", "KMeans", "-n", "4"]) == 0
    assert (
        names_and_values(sections(capsys.readouterr().out)[-1])["replaced"] == "3 clusters by AgglomerativeClustering"
    )
    assert kept("map", 20).num_clusters == 4
    before = contents("map")
    assert main(["cluster", "map", "-o", "nodes.csv"]) == 2
    error = capsys.readouterr().err
    assert error == "somvae: nodes.csv is there already; choose another --output, or set --overwrite\n"
    assert contents("map") == before
    assert main(["cluster", "map", "-o", "nodes.csv", "--overwrite"]) == 0


def test_damaged_clusters_are_refused_by_plot_and_replaced_by_new_ones(capsys: pytest.CaptureFixture[str]) -> None:
    fit_map()
    assert main(["cluster", "map", "-n", "3"]) == 0
    path = Path("map/clusters.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    capsys.readouterr()
    for command in (["plot", "map"], ["plot", "map", "--kind", "hits", "clusters"]):
        assert main(command) == 2
        assert "map/clusters.safetensors is damaged: it does not have the SHA-256" in capsys.readouterr().err
    assert main(["plot", "map", "--kind", "hits"]) == 0
    capsys.readouterr()
    assert main(["cluster", "map", "-n", "3"]) == 0
    assert names_and_values(sections(capsys.readouterr().out)[-1])["replaced"] == "earlier clusters, which were damaged"
    assert kept("map", 20).num_clusters == 3
    KeptClusters(np.zeros(7, np.int64), "KMeans", {}).save(ResultFolder.open("map"))
    assert main(["plot", "map"]) == 2
    assert "must hold a cluster, int64, for each of the 20 nodes, got" in capsys.readouterr().err


@pytest.mark.pictures
def test_kept_clusters_are_drawn_again(capsys: pytest.CaptureFixture[str]) -> None:
    fit_map()
    assert main(["cluster", "map", "-n", "3"]) == 0
    drawn = imread("map/clusters.png")
    Path("map/clusters.png").unlink()
    capsys.readouterr()
    assert main(["plot", "map", "--kind", "clusters"]) == 0
    assert capsys.readouterr().out == "map/clusters.png\n"
    np.testing.assert_array_equal(imread("map/clusters.png"), drawn)
    assert main(["plot", "map", "--out", "pictures"]) == 0
    assert "clusters" in {path.stem for path in Path("pictures").iterdir()}


def test_warnings_of_scikit_learn_take_one_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fit_predict(self: KMeans, X: Any, y: Any = None) -> Any:
        for _ in range(2):
            warnings.warn("not yet\n  converged", ConvergenceWarning, stacklevel=2)
        warnings.warn("will change", FutureWarning, stacklevel=2)
        return np.arange(len(X)) % 2

    fit_map()
    capsys.readouterr()
    monkeypatch.setattr(KMeans, "fit_predict", fit_predict)
    assert main(["cluster", "map", "--clusterer", "KMeans", "-n", "2"]) == 0
    assert capsys.readouterr().err == "somvae: KMeans warns: not yet converged\n"


# ---- models ----------------------------------------------------------------------------------------------------------


def test_nodes_of_a_som_vae_are_clustered_by_their_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "digits", "--rows", "3", "--cols", "4", *SMALL_MODEL]) == 0
    capsys.readouterr()
    assert main(["cluster", "run", "-n", "3", "-o", "nodes.csv"]) == 0
    model = somvae_ext.load("run")
    expected = evaluation.cluster_nodes(model.quantizer.codebook.detach(), 3).cluster.tolist()
    assert kept("run", 12).cluster.tolist() == expected
    (what,), members, _ = sections(capsys.readouterr().out)
    assert what == "12 nodes of run in 3 clusters"
    assert members[0].split() == ["cluster", "nodes", "training", "rows"]
    assert sum(int(line.split()[2]) for line in members[1:]) == 1257
    assert Path("nodes.csv").read_text().startswith("node,row,column,class,cluster\n0,0,0,")
    Path("run/clusters.png").unlink()
    assert main(["plot", "run"]) == 0
    assert "run/clusters.png" in capsys.readouterr().out.split()
    assert Path("run/clusters.png").is_file()
    assert main(["fit", "--resume", "run", "--epochs", "2", "--device", "cpu", "--quiet"]) == 0
    assert KeptClusters.load(ResultFolder.open("run"), 12) is None  # the clusters were those of the former codes
    assert not Path("run/clusters.png").exists()


def test_codes_of_a_vq_vae_are_clustered_and_have_no_picture(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("rows.npy", np.random.default_rng(0).random((40, 3)))
    vqvae = ["--model", "vqvae", "--num-codes", "8", "--latent-dim", "4", "--hidden-sizes", "6"]
    assert main(["fit", "rows.npy", *vqvae, *SMALL_MODEL]) == 0
    capsys.readouterr()
    assert main(["cluster", "run", "-n", "3", "-o", "codes.csv"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("8 codes of run in 3 clusters\n")
    assert "picture" not in printed
    assert Path("codes.csv").read_text().startswith("code,cluster\n0,0\n")
    codebook = somvae_ext.load("run").quantizer.codebook
    assert kept("run", 8).cluster.tolist() == evaluation.cluster_nodes(codebook, 3).cluster.tolist()
    assert main(["plot", "run"]) == 0


@pytest.mark.parametrize(
    ("options", "got"),
    [
        (["--model", "vae", "--latent-dim", "2", "--hidden-sizes", "4"], "vae"),
        (
            ["--model", "vqvae", "--network", "conv", "--num-codes", "8", "--latent-dim", "4"],
            "vqvae with 4 codes for each sample",
        ),
    ],
)
def test_models_without_nodes_are_refused(options: list[str], got: str, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(0).integers(0, 256, size=(24, 8, 8), dtype=np.uint8)
    np.save("images.npy", images)
    assert main(["fit", "images.npy", *options, *SMALL_MODEL]) == 0
    before = contents("run")
    capsys.readouterr()
    assert main(["cluster", "run"]) == 2
    assert capsys.readouterr().err == (
        "somvae: run must hold a map or a model with one code for each sample, a somvae or a vqvae of dense networks, "
        f"but it holds a {got}\n"
    )
    assert contents("run") == before


# ---- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "RUN is missing"),
        (["nowhere"], "nowhere must be the folder of a trained map or model, but it has no manifest.json"),
        (["map", "-n", "1"], "--number must be auto or an integer of at least 2, got 1"),
        (["map", "-n", "many"], "--number must be auto or an integer of at least 2, got many"),
        (["map", "-n", "21"], "--number must be at most the number of different codes, 20 of 20, got 21"),
        (["map", "-n", "3", "--set", "n_clusters=4"], "--number and --set n_clusters mean the same; give one of them"),
        (["map", "-n", "3", "--criterion", "silhouette"], "--criterion is for --number auto, which looks for a number"),
        (["map", "--criterion", "elbow"], "--criterion must be silhouette or davies-bouldin, got 'elbow'"),
        (["map", "--clusterer", "kmeans"], "got 'kmeans'; did you mean KMeans or "),
        (["map", "--clusterer", "SpectralClusterin"], "got 'SpectralClusterin'; did you mean SpectralClustering"),
        (["map", "--clusterer", "xyzzy"], "got 'xyzzy'; known are AffinityPropagation, AgglomerativeClustering, "),
        (["map", "--clusterer", "FeatureAgglomeration"], "sklearn.mixture that has fit_predict, got 'FeatureAgglom"),
        (["map", "--clusterer", "DBSCAN", "-n", "3"], "--number must not be given for DBSCAN, which finds the number"),
        (["map", "--clusterer", "DBSCAN", "--set", "esp=1"], "parameter of DBSCAN, got 'esp'; did you mean eps?"),
        (["map", "--clusterer", "DBSCAN", "--set", "eps=-1"], "The 'eps' parameter of DBSCAN must be a float in the"),
        (["map", "--clusterer", "DBSCAN", "--set", "eps=1e-9"], "DBSCAN(eps=1e-09) must put nodes into clusters"),
        (["map", "--set", "linkage"], "--set must be NAME=VALUE, such as linkage=average, got 'linkage'"),
        (["map", "--set", "=3"], "--set must be NAME=VALUE, such as linkage=average, got '=3'"),
        (["map", "--set"], "--set needs a value, got none"),
        (["map", "--set", "memory={1}"], "--set must give text, numbers, or lists of these, got 'memory={1}'"),
        (["map", "--set", "linkage=wrad"], "The 'linkage' parameter of AgglomerativeClustering must be a str among"),
        (["map", "--clusterer", "KMeans", "--set", "random_state=-1"], "--set random_state must be an integer from 0"),
        (["map", "--overwrite"], "--overwrite is for --output, which is not given"),
        (["map", "-o", "nowhere/nodes.csv"], "--output must be a file in a folder that exists, but nowhere does not"),
    ],
)
def test_invalid_arguments_are_refused_with_one_sentence_and_nothing_is_saved(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fit_map()
    before = contents("map")
    capsys.readouterr()
    assert main(["cluster", *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("somvae: ")
    assert printed.err.count("\n") == 1
    assert sentence in printed.err
    assert contents("map") == before


def test_clusterers_without_precomputed_distances_are_refused_for_maps_that_need_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit_map("--metric", "chebyshev")
    capsys.readouterr()
    for arguments, sentence in (
        (["--clusterer", "KMeans"], "a clusterer for a map in the chebyshev metric must take distances by metric="),
        (["--criterion", "davies-bouldin"], "--criterion must be 'silhouette' for a map in the chebyshev metric"),
    ):
        assert main(["cluster", "map", *arguments]) == 2
        assert sentence in capsys.readouterr().err


def test_a_map_whose_codes_are_all_alike_is_refused_without_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("rows.npy", np.ones((9, 2)))
    assert main(["fit", "rows.npy", *SMALL_MAP]) == 0
    capsys.readouterr()
    for arguments, sentence in (
        (["-n", "3"], "--number must be at most the number of different codes, 1 of 20, got 3"),
        ([], "codebook must hold at least 3 nodes, and 2 different codes, for --number auto, got 1 different of 20"),
        (["--clusterer", "KMeans", "-n", "2"], "--number must be at most the number of different codes, 1 of 20"),
    ):
        assert main(["cluster", "map", *arguments]) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert error.count("\n") == 1


def test_no_clusters_are_saved_while_another_process_writes(capsys: pytest.CaptureFixture[str]) -> None:
    fit_map()
    capsys.readouterr()
    with ResultFolder.open("map").lock():
        assert main(["cluster", "map", "-n", "3"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert KeptClusters.load(ResultFolder.open("map"), 20) is None
