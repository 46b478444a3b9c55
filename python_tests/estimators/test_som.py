"""The estimator SOM: inputs and outputs, every option, and errors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import map_oracle
import numpy as np
import pandas
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.cluster import AgglomerativeClustering
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from somvae_ext import Grid
from somvae_ext.estimators import SOM
from somvae_ext.evaluation import cluster_nodes
from somvae_ext.ops import BestMatch
from somvae_ext.som import Metric, WinnerSearch


def blobs(rows: int = 300, dim: int = 4, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    centers = 4 * random.normal(size=(5, dim))
    return (centers[random.integers(5, size=rows)] + random.normal(size=(rows, dim))).astype(np.float32)


def quantization_error(metric: str, x: NDArray[Any], codebook: NDArray[Any]) -> float:
    return map_oracle.distances(metric, x.astype(np.float64), codebook.astype(np.float64)).min(axis=1).mean()


# ---- inputs and outputs ----------------------------------------------------------------------------------------------


def test_results_have_the_type_of_the_data() -> None:
    x = blobs()
    of_numpy, of_torch = SOM(4, 3).fit(x), SOM(4, 3).fit(torch.from_numpy(x))
    for som, kind, data in ((of_numpy, np.ndarray, x), (of_torch, Tensor, torch.from_numpy(x))):
        assert isinstance(som.codebook_, kind)
        assert isinstance(som.labels_, kind)
        assert som.codebook_.shape == (12, 4)
        for result, shape in (
            (som.predict(data), (300,)),
            (som.transform(data), (300, 2)),
            (som.distances(data), (300, 12)),
        ):
            assert isinstance(result, kind)
            assert tuple(result.shape) == shape
    np.testing.assert_array_equal(of_numpy.codebook_, np.asarray(of_torch.codebook_))
    assert isinstance(of_numpy.predict(torch.from_numpy(x)), Tensor)
    assert isinstance(of_torch.predict(x), np.ndarray)


@pytest.mark.parametrize(
    ("dtype", "trained"),
    [("f4", "f4"), ("f8", "f8"), ("f2", "f4"), ("u1", "f4"), ("i2", "f4"), ("i8", "f8"), (">f4", "f4"), ("?", "f4")],
)
def test_the_dtype_of_the_data_decides_that_of_the_codes(dtype: str, trained: str) -> None:
    x = abs(10 * blobs(50)).astype(dtype)
    assert SOM(2, 2).fit(x).codebook_.dtype == np.dtype(trained)


def test_nodes_coordinates_and_distances_are_consistent() -> None:
    x = blobs()
    som = SOM(4, 3, metric="manhattan").fit(x)
    expected = map_oracle.distances("manhattan", x.astype(float), np.asarray(som.codebook_, dtype=float))
    np.testing.assert_allclose(som.distances(x), expected, rtol=1e-5)
    node = som.predict(x)
    np.testing.assert_array_equal(node, expected.argmin(axis=1))
    np.testing.assert_array_equal(som.transform(x), np.stack([node // 3, node % 3], axis=1))
    np.testing.assert_array_equal(som.labels_, node)
    assert som.get_feature_names_out().tolist() == ["som_row", "som_column"]


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_hits_are_the_training_rows_of_each_node(kind: Any) -> None:
    x = kind(blobs())
    som = SOM(4, 3).fit(x, sample_weight=np.linspace(0, 1, 300))  # hits ignore the weights
    expected = [int((som.labels_ == node).sum()) for node in range(12)]
    assert som.hits_.tolist() == expected
    assert isinstance(som.hits_, type(som.labels_))
    assert som.hits_.dtype == som.labels_.dtype
    som.set_params(compute_labels=False).fit(x)
    assert not hasattr(som, "hits_")


@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
def test_rows_and_columns_lead_back_to_the_codes(topology: Any) -> None:
    x = blobs()
    som = SOM(4, 3, topology=topology).fit(x)
    codebook = np.asarray(som.codebook_)
    codes = som.inverse_transform(som.transform(x))
    assert isinstance(codes, np.ndarray)
    np.testing.assert_array_equal(codes, codebook[som.predict(x)])
    of_tensor = som.inverse_transform(torch.tensor([[3, 2], [0, 1]]))
    assert isinstance(of_tensor, Tensor)
    np.testing.assert_array_equal(of_tensor, codebook[[11, 1]])
    np.testing.assert_array_equal(som.inverse_transform(pandas.DataFrame(som.transform(x))), codes)
    assert som.inverse_transform(np.zeros((0, 2), int)).shape == (0, 4)
    pipeline = make_pipeline(StandardScaler(), SOM(3, 3)).fit(x)
    np.testing.assert_allclose(
        pipeline.inverse_transform(pipeline.transform(x)),
        pipeline[0].inverse_transform(pipeline[1].codebook_[pipeline[1].labels_]),
    )


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([[0, 3]], r"X must hold rows from 0 to 3 and columns from 0 to 2, got \[0, 3\]"),
        ([[0, 0], [-1, 0]], r"X must hold rows from 0 to 3 and columns from 0 to 2, got \[-1, 0\]"),
        ([0, 1], r"X must hold rows and columns of the map in an array \[N, 2\], got shape \[2\]"),
        ([[0, 1, 2]], r"X must hold rows and columns of the map in an array \[N, 2\], got shape \[1, 3\]"),
        ([[[0, 1]]], r"X must hold rows and columns of the map in an array \[N, 2\], got shape \[1, 1, 2\]"),
        ([[0.0, 1.0]], "X must be integers, got float64; convert whole numbers to int64 first"),
        (torch.rand(3, 2), "X must be integers, got float32"),
        ([["a", "b"]], "X must be integers, got strings"),
    ],
)
def test_invalid_positions_are_refused(places: Any, message: str) -> None:
    som = SOM(4, 3, n_epochs=1).fit(blobs())
    with pytest.raises(ValueError, match=f"SOM: {message}"):
        som.inverse_transform(places)


@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
def test_nodes_are_clustered_in_the_maps_own_metric(metric: Any) -> None:
    x = blobs()
    som = SOM(4, 3, metric=metric, feature_weights=[1.0, 2.0, 0.5, 0.0]).fit(x)
    weighted = Metric(metric, feature_weights=torch.tensor([1.0, 2.0, 0.5, 0.0]))
    for options in ({}, {"n_clusters": 3}, {"n_clusters": AgglomerativeClustering(4, linkage="complete")}):
        cluster = som.cluster_nodes(**options)
        assert isinstance(cluster, np.ndarray)
        expected = cluster_nodes(som.codebook_, **options, metric=weighted).cluster
        np.testing.assert_array_equal(cluster, expected)
    of_tensor = SOM(4, 3, metric=metric).fit(torch.from_numpy(x)).cluster_nodes(3)
    assert isinstance(of_tensor, Tensor)
    assert of_tensor.dtype == torch.int64
    if metric == "euclidean":
        by_index = som.cluster_nodes(criterion="davies-bouldin")
        assert (
            by_index.max() + 1 == cluster_nodes(som.codebook_, metric=weighted, criterion="davies-bouldin").n_clusters
        )


def test_a_map_that_is_not_fitted_has_no_clusters_and_no_codes() -> None:
    for call in (lambda som: som.cluster_nodes(2), lambda som: som.inverse_transform([[0, 0]])):
        with pytest.raises(NotFittedError):
            call(SOM())


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan", "chebyshev", "minkowski"])
def test_errors_are_in_the_maps_own_metric(metric: str) -> None:
    x = blobs()
    som = SOM(3, 3, metric=metric, n_epochs=3).fit(x)  # type: ignore[arg-type]
    expected = quantization_error(metric, x, som.codebook_)
    assert som.quantization_error(x) == pytest.approx(expected, rel=1e-5)
    assert som.quantization_error_ == pytest.approx(expected, rel=1e-5)


def test_topographic_error_is_that_of_the_definition_on_hexagons() -> None:
    x = blobs()
    som = SOM(5, 4, topology="hexagonal", sigma_final=0.3, track_topographic_error=True).fit(x)
    two = map_oracle.distances("euclidean", x.astype(float), np.asarray(som.codebook_, dtype=float)).argsort(axis=1)
    apart = map_oracle.grid_distances(5, 4, "hexagonal")[two[:, 0], two[:, 1]]
    assert som.topographic_error(x) == pytest.approx((apart > 1 + 1e-9).mean())
    assert all(0 <= record["topographic_error_6"] <= 1 for record in som.history_)


# ---- training --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"algorithm": "minibatch"}, {"init": "random"}, {"init": "kmeans"}])
def test_the_same_seed_gives_the_same_bits(options: dict[str, Any]) -> None:
    x = blobs()
    first, again = (SOM(4, 4, n_epochs=4, random_state=5, **options).fit(x) for _ in range(2))
    assert first.codebook_.tobytes() == again.codebook_.tobytes()
    assert first.history_ == again.history_


@pytest.mark.parametrize("options", [{"algorithm": "minibatch"}, {"init": "random"}, {"init": "samples"}])
def test_another_seed_gives_another_map(options: dict[str, Any]) -> None:
    x = blobs()
    first, other = (SOM(4, 4, n_epochs=4, random_state=seed, **options).fit(x) for seed in (1, 2))
    assert not np.array_equal(first.codebook_, other.codebook_)


@pytest.mark.parametrize("init", ["pca", "random", "samples", "kmeans"])
@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
@pytest.mark.parametrize("periodic", [False, True])
def test_a_trained_map_fits_the_data_and_keeps_their_order(init: Any, topology: Any, periodic: bool) -> None:
    x = np.random.default_rng(0).random((2000, 2), dtype=np.float32)
    som = SOM(8, 8, topology=topology, periodic=periodic, init=init, random_state=0).fit(x)
    # With 64 codes over a unit square, cells have side 1/8, and points are .38/8 from the center on average.
    assert som.quantization_error_ < 1.3 * 0.383 / 8
    if not periodic:  # a torus has to fold to cover a square
        assert som.topographic_error(x) < 0.25


@pytest.mark.parametrize("neighborhood", ["gaussian", "fastsom_gaussian", "square", "bubble", "triangle"])
def test_every_nonnegative_neighborhood_trains(neighborhood: str) -> None:
    x = blobs()
    som = SOM(5, 5, neighborhood=neighborhood, sigma_final=1.1).fit(x)
    assert som.quantization_error_ < 0.8 * som.history_[0]["quantization_error"]


def test_a_mexican_hat_is_for_mini_batches() -> None:
    x = blobs()
    with pytest.raises(ValueError, match="neighborhood must not be 'mexican_hat' with algorithm='batch'"):
        SOM(4, 4, neighborhood="mexican_hat").fit(x)
    som = SOM(4, 4, neighborhood="mexican_hat", algorithm="minibatch", batch_size=20, sigma_initial=1.0).fit(x)
    assert np.isfinite(som.codebook_).all()


def test_functions_may_replace_names() -> None:
    x = blobs()

    def manhattan(rows: Tensor, codebook: Tensor) -> Tensor:
        return (rows - codebook).abs().sum(dim=-1)

    def gaussian(distance: Tensor, sigma: float) -> Tensor:
        return torch.exp(-distance.square() / (2 * sigma**2))

    def linear(step: int, num_steps: int, initial: float, final: float) -> float:
        return initial + (final - initial) * step / (num_steps - 1)

    own = SOM(4, 3, metric=manhattan, neighborhood=gaussian, sigma_schedule=linear, n_epochs=5).fit(x)
    named = SOM(4, 3, metric="manhattan", neighborhood="gaussian", sigma_schedule="linear", n_epochs=5).fit(x)
    np.testing.assert_allclose(own.codebook_, named.codebook_, rtol=1e-5, atol=1e-5)
    assert own.quantization_error(x) == pytest.approx(named.quantization_error(x), rel=1e-5)


def test_history_records_each_epoch_and_the_error_falls() -> None:
    som = SOM(6, 4, n_epochs=12).fit(blobs())
    assert [record["epoch"] for record in som.history_] == list(range(1, 13))
    assert [som.history_[0]["sigma"], som.history_[-1]["sigma"]] == pytest.approx([1.5, 0.5])
    errors = [record["quantization_error"] for record in som.history_]
    assert errors[-1] < errors[1]
    assert som.n_epochs_ == 12


def test_training_stops_when_nothing_gets_better() -> None:
    x = blobs()
    som = SOM(3, 3, n_epochs=200, sigma_initial=1.0, sigma_final=1.0, tol=1e-3, patience=2).fit(x)
    assert som.n_epochs_ == len(som.history_) < 50


@pytest.mark.parametrize("init", ["pca", "random", "samples", "kmeans"])
def test_early_stopping_waits_until_the_neighborhood_has_narrowed(init: Any) -> None:
    x = blobs()
    whole = SOM(8, 8, init=init, n_epochs=30, random_state=0).fit(x)
    watched = SOM(8, 8, init=init, n_epochs=30, random_state=0, tol=1e-3).fit(x)
    assert watched.n_epochs_ > 20
    assert watched.quantization_error_ < 1.05 * whole.quantization_error_


@pytest.mark.parametrize("weight", [1e-300, 1e-42, 1.0, 1e37, 1e300])
def test_only_the_ratio_of_weights_matters(weight: float) -> None:
    x = blobs()
    plain, weighted = SOM(3, 3).fit(x), SOM(3, 3).fit(x, sample_weight=np.full(300, weight))
    np.testing.assert_allclose(weighted.codebook_, plain.codebook_, rtol=1e-5, atol=1e-5)
    assert weighted.score(x, sample_weight=np.full(300, weight)) == pytest.approx(plain.score(x))


def test_weights_that_are_all_zero_are_refused() -> None:
    x, zeros = blobs(), np.zeros(300)
    som = SOM(3, 3).fit(x)
    for use in (som.score, som.fit, som.partial_fit, SOM(3, 3, init=blobs(9)).fit):
        with pytest.raises(ValueError, match="sample_weight must be above 0 for at least one row, got only zeros"):
            use(x, sample_weight=zeros)


def test_values_whose_squares_underflow_are_refused_in_float32_and_trained_in_float64() -> None:
    x = blobs()
    with pytest.raises(ValueError, match=r"X must hold values above .* so that their squares do not vanish in float32"):
        SOM(3, 3).fit(x * np.float32(1e-20))
    small, plain = SOM(3, 3).fit(x.astype(np.float64) * 1e-20), SOM(3, 3).fit(x.astype(np.float64))
    np.testing.assert_allclose(small.codebook_, 1e-20 * plain.codebook_, rtol=1e-6, atol=1e-26)


def test_weights_count_like_repeated_rows() -> None:
    x, times = blobs(100), np.random.default_rng(0).integers(0, 4, 100)
    weighted = SOM(3, 4).fit(x, sample_weight=times)
    repeated = SOM(3, 4).fit(np.repeat(x, times, axis=0))
    np.testing.assert_allclose(weighted.codebook_, repeated.codebook_, rtol=1e-4, atol=1e-4)
    assert weighted.quantization_error_ == pytest.approx(repeated.quantization_error_, rel=1e-5)


def test_a_feature_of_weight_zero_is_learned_but_does_not_affect_distances() -> None:
    x = blobs()
    x[:, 3] = 1000 * np.random.default_rng(1).random(300)
    som = SOM(3, 3, feature_weights=[1, 1, 1, 0], init="samples", random_state=0).fit(x)
    expected = map_oracle.distances("euclidean", x[:, :3].astype(float), np.asarray(som.codebook_[:, :3], dtype=float))
    np.testing.assert_array_equal(som.predict(x), expected.argmin(axis=1))
    assert som.codebook_[:, 3].min() > 100


def test_missing_values_are_left_out_of_distances_and_means() -> None:
    x = blobs(400).astype(np.float64)
    holes = x.copy()
    holes[np.random.default_rng(1).random(x.shape) < 0.1] = np.nan
    holes[np.isnan(holes).all(axis=1), 0] = 0.0
    som = SOM(4, 3, missing="ignore", n_epochs=6, neighborhood="triangle").fit(holes)
    assert np.isfinite(som.codebook_).all()
    expected = map_oracle.distances("euclidean", holes, np.asarray(som.codebook_))
    np.testing.assert_array_equal(som.predict(holes), expected.argmin(axis=1))
    assert som.quantization_error_ == pytest.approx(expected.min(axis=1).mean())
    np.testing.assert_allclose(som.distances(holes), expected, rtol=1e-9)
    complete = SOM(4, 3, n_epochs=6, neighborhood="triangle").fit(x)
    assert som.quantization_error(x) < 1.1 * complete.quantization_error_


def test_missing_values_are_refused_with_their_position_unless_ignored() -> None:
    x = blobs()
    x[7, 2] = np.nan
    with pytest.raises(ValueError, match="got NaN in row 7, column 2; fill the gap, or set missing='ignore'"):
        SOM(3, 3).fit(x)
    with pytest.raises(ValueError, match="got NaN in row 7, column 2"):
        SOM(3, 3).fit(blobs()).predict(x)


def test_initial_codes_may_be_given() -> None:
    x, start = blobs(), blobs(12, seed=1)
    flat, on_grid = (SOM(4, 3, init=init, n_epochs=3).fit(x) for init in (start, start.reshape(4, 3, 4)))
    np.testing.assert_array_equal(flat.codebook_, on_grid.codebook_)
    assert flat.history_[0]["quantization_error"] == pytest.approx(quantization_error("euclidean", x, start), rel=1e-5)
    np.testing.assert_array_equal(start, blobs(12, seed=1))


# ---- out of core -----------------------------------------------------------------------------------------------------


def test_a_file_and_a_loader_train_the_same_map_as_an_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("somvae_ext.som.rows._CHUNK_VALUES", 4 * 70)
    x, start = blobs(), blobs(12, seed=1)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    loader = DataLoader(TensorDataset(torch.from_numpy(x)), batch_size=32)
    codebooks = [SOM(4, 3, init=start).fit(data).codebook_ for data in (x, mapped, loader)]  # type: ignore[arg-type]
    for codebook in codebooks[1:]:
        np.testing.assert_array_equal(codebook, codebooks[0])


def test_batches_are_read_once_per_epoch_and_have_no_labels() -> None:
    class Batches:
        passes = 0

        def __iter__(self) -> Any:
            Batches.passes += 1
            return iter(np.array_split(blobs(), 7))

    som = SOM(3, 3, n_epochs=5, init=blobs(9)).fit(Batches())
    assert Batches.passes == 1 + 5  # one extra pass determines the number of features
    assert not hasattr(som, "labels_")
    assert som.predict(blobs()).shape == (300,)


def test_steps_on_batches_move_the_map_to_the_data() -> None:
    x = blobs()
    som = SOM(4, 4, n_epochs=40, random_state=0)
    for _ in range(40):
        assert som.partial_fit(x) is som
    assert som.quantization_error(x) < 0.8 * quantization_error("euclidean", x, blobs(16, seed=3))


def test_the_first_step_initializes_the_map_and_others_continue() -> None:
    x = blobs()
    som = SOM(3, 3, random_state=0).partial_fit(x[:50])
    before = som.codebook_.copy()
    som.partial_fit(x[50:])
    assert not np.array_equal(som.codebook_, before)
    fitted = SOM(3, 3).fit(x)
    before = fitted.codebook_.copy()
    fitted.partial_fit(x + 1)
    assert 0 < abs(fitted.codebook_ - before).max() < 0.05  # the learning rate has reached its final value


# ---- scikit-learn ----------------------------------------------------------------------------------------------------


def test_a_map_works_in_pipelines_and_searches() -> None:
    x, y = load_iris(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), SOM(random_state=0), KNeighborsClassifier(3))
    search = GridSearchCV(pipeline, {"som__n_rows": [3, 8], "som__sigma_final": [0.5, 1.0]}, cv=3).fit(x, y)
    assert search.best_score_ > 0.85
    alone = GridSearchCV(SOM(random_state=0), {"n_rows": [2, 9]}, cv=3).fit(x)
    assert alone.best_params_ == {"n_rows": 9}


def test_clones_and_pickles() -> None:
    x = blobs()
    som = SOM(4, 3, topology="hexagonal", metric="cosine", random_state=1).fit(x)
    again = pickle.loads(pickle.dumps(som))
    np.testing.assert_array_equal(again.predict(x), som.labels_)
    assert again.grid_ == som.grid_ == Grid(4, 3, "hexagonal")
    assert clone(som).get_params() == som.get_params()
    assert not hasattr(clone(som), "codebook_")


def test_parameters_may_be_numpy_scalars() -> None:
    x = blobs()
    som = SOM(np.int64(3), np.int32(4), batch_size=np.int64(32), n_epochs=np.int64(2), periodic=np.bool_(True))
    assert som.set_params(algorithm="minibatch").fit(x).codebook_.shape == (12, 4)


@pytest.mark.parametrize("column", ["kind", "when", "name"])
def test_a_column_that_holds_no_numbers_is_named(column: str) -> None:
    frame = pandas.DataFrame(blobs(10), columns=list("abcd"))
    frame["kind"] = pandas.Categorical(["x", "y"] * 5)
    frame["when"] = pandas.date_range("2020-01-01", periods=10)
    frame["name"] = ["p", "q"] * 5
    with pytest.raises(ValueError, match=f"X must hold numbers, got .* in column '{column}'"):
        SOM(2, 2).fit(frame[["a", "b", column]])


def test_columns_of_a_table_are_known_by_name() -> None:
    frame = pandas.DataFrame(blobs(), columns=list("abcd"))
    som = SOM(3, 3).fit(frame)
    assert som.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names should match"):
        som.predict(frame[["b", "a", "c", "d"]])
    frame.loc[5, "c"] = np.nan
    with pytest.raises(ValueError, match="got NaN in row 5, column 'c'"):
        SOM(3, 3).fit(frame)


def test_data_of_another_width_are_refused() -> None:
    som = SOM(3, 3).fit(torch.from_numpy(blobs()))
    for data in (torch.ones(2, 3), np.ones((2, 3))):
        with pytest.raises(ValueError, match="X has 3 features, but SOM is expecting 4 features as input"):
            som.predict(data)


# ---- small and odd data ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["linear", "exponential", "inverse", "asymptotic", "two_phase", "three_phase"])
@pytest.mark.parametrize("algorithm", ["batch", "minibatch"])
def test_one_epoch_is_enough(schedule: str, algorithm: Any) -> None:
    som = SOM(3, 4, n_epochs=1, sigma_schedule=schedule, alpha_schedule=schedule, algorithm=algorithm).fit(blobs())
    assert np.isfinite(som.codebook_).all()
    assert len(som.history_) == 1


@pytest.mark.parametrize("init", ["pca", "random", "samples"])
@pytest.mark.parametrize("algorithm", ["batch", "minibatch"])
def test_one_row_is_enough(init: Any, algorithm: Any) -> None:
    som = SOM(3, 2, init=init, algorithm=algorithm, alpha_final=1.0).fit(np.array([[1.0, 2.0, 3.0]]))
    assert som.quantization_error_ == pytest.approx(0, abs=1e-6)


def test_a_map_larger_than_the_data() -> None:
    x = blobs(10)
    som = SOM(12, 11, topology="hexagonal").fit(x)
    assert np.isfinite(som.codebook_).all()
    assert len(set(som.labels_)) == 10
    with pytest.raises(ValueError, match="init must not be 'kmeans' for fewer rows than nodes, got 10 rows for 132"):
        SOM(12, 11, init="kmeans").fit(x)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan"])
@pytest.mark.parametrize("init", ["pca", "random", "kmeans"])
def test_constant_features_and_equal_rows(metric: Any, init: Any) -> None:
    x = blobs()
    x[:, 1] = 7.0
    som = SOM(3, 4, metric=metric, init=init).fit(x)
    np.testing.assert_allclose(som.codebook_[:, 1], 7.0, rtol=1e-6)
    equal = SOM(3, 4, metric=metric, init=init).fit(np.full((20, 3), 2.5))
    np.testing.assert_allclose(equal.codebook_, 2.5)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (1, 9), (9, 1), (2, 7), (7, 2)])
@pytest.mark.parametrize("periodic", [False, True])
def test_maps_of_any_shape_keep_rows_and_columns_apart(rows: int, cols: int, periodic: bool) -> None:
    """The data extend along two axes of different length; the long side of the map lies along the longer one."""
    x = np.random.default_rng(0).random((500, 2)) * [10.0, 1.0]
    som = SOM(rows, cols, periodic=periodic).fit(x)
    assert som.codebook_.shape == (rows * cols, 2)
    if max(rows, cols) > 6 and not periodic:
        along = som.transform(x)[:, 0 if rows > cols else 1]
        assert abs(np.corrcoef(along, x[:, 0])[0, 1]) > 0.95


def test_a_common_offset_does_not_matter() -> None:
    x = blobs(dim=6)
    near, far = (SOM(4, 4, n_epochs=10).fit(x.astype(np.float64) + offset) for offset in (0.0, 1e5))
    np.testing.assert_allclose(far.codebook_ - 1e5, near.codebook_, atol=1e-6)
    single = SOM(4, 4, n_epochs=10).fit((x + 1e4).astype(np.float32))
    assert single.quantization_error_ == pytest.approx(near.quantization_error_, rel=0.02)


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_rows": 0}, "rows must be a positive integer, got 0"),
        ({"topology": "triangular"}, "topology must be"),
        ({"n_rows": 3, "topology": "hexagonal", "periodic": True}, "rows must be even for a periodic hexagonal grid"),
        ({"neighborhood": "gauss"}, "neighborhood must be one of 'gaussian', .*, got 'gauss'"),
        ({"metric": "euclid"}, "metric must be one of 'euclidean', .*, got 'euclid'"),
        ({"metric": "minkowski", "p": 0.0}, "p must be from 1 to 64, got 0.0"),
        ({"init": "svd"}, "init must be one of 'pca', 'random', 'samples', 'kmeans', got 'svd'"),
        ({"init": np.ones((3, 4))}, r"init must be an array of shape \[K, D\] = \[100, 4\] or .*, got \[3, 4\]"),
        ({"init": np.full((100, 4), np.nan)}, "init must hold finite values, got NaN"),
        ({"algorithm": "online"}, "algorithm must be one of 'batch', 'minibatch', got 'online'"),
        ({"n_epochs": 0}, "n_epochs must be an integer of at least 1, got 0"),
        ({"n_epochs": 2.5}, "n_epochs must be an integer of at least 1, got 2.5"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, got 0"),
        ({"sigma_initial": -1.0}, "sigma_initial must be a finite number above 0, got -1.0"),
        ({"sigma_final": 0.0}, "sigma_final must be a finite number above 0, got 0.0"),
        ({"sigma_schedule": "cosine"}, "sigma_schedule must be one of 'linear', .*, got 'cosine'"),
        ({"alpha_initial": float("nan")}, "alpha_initial must be a finite number above 0, got nan"),
        ({"alpha_schedule": "cosine"}, "alpha_schedule must be one of 'linear', .*, got 'cosine'"),
        ({"feature_weights": [1.0]}, "feature_weights must hold one number for each of the 4 features, got 1"),
        ({"feature_weights": [1, 1, 1, -1]}, "feature_weights must hold one finite number of at least 0"),
        ({"missing": "drop"}, "missing must be one of 'error', 'ignore', got 'drop'"),
        ({"tol": 2.0}, "tol must be None or a share from 0 to below 1, got 2.0"),
        ({"patience": 0}, "patience must be an integer of at least 1, got 0"),
        (
            {"n_rows": 1, "n_cols": 1, "track_topographic_error": True},
            "track_topographic_error must be False for a map",
        ),
        ({"algorithm": "minibatch", "distributed": True}, "distributed must be False with algorithm='minibatch'"),
    ],
)
def test_an_invalid_parameter_is_refused_with_its_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SOM(**options).fit(blobs())


@pytest.mark.parametrize("data", [torch.ones(3), torch.ones(0, 4), torch.ones(4, 0), torch.ones(2, 2) * 1j])
def test_tensors_that_hold_no_rows_are_refused(data: Tensor) -> None:
    expected = "hold real numbers" if data.is_complex() else r"have shape \[N, D\] with at least one row and column"
    with pytest.raises(ValueError, match=f"X must {expected}"):
        SOM().fit(data)


def test_a_failed_fit_leaves_the_map_as_it_was() -> None:
    x = blobs()
    som = SOM(3, 3).fit(x)
    before = som.codebook_.copy()
    broken = x.copy()
    broken[0, 0] = np.inf
    with pytest.raises(ValueError, match="infinity in row 0, column 0"):
        som.partial_fit(broken)
    np.testing.assert_array_equal(som.codebook_, before)


def test_a_fit_that_fails_half_way_leaves_a_map_that_works() -> None:
    x = blobs()
    som = SOM(3, 3).fit(x)
    nodes = som.predict(x)

    def broken(distance: Tensor, sigma: float) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        som.set_params(n_rows=5, neighborhood=broken).fit(x)
    np.testing.assert_array_equal(som.predict(x), nodes)


def test_a_failed_fit_of_another_width_leaves_the_map_as_it_was() -> None:
    frame = pandas.DataFrame(blobs(), columns=list("abcd"))
    som = SOM(3, 3).fit(frame)
    with pytest.raises(ValueError, match="got NaN"):
        som.fit(np.full((5, 6), np.nan))
    np.testing.assert_array_equal(som.predict(frame), som.labels_)
    assert som.n_features_in_ == 4


def test_mini_batches_follow_the_schedules_of_learning_rate_and_width() -> None:
    x, seen = blobs(), []

    def schedule(step: int, num_steps: int, initial: float, final: float) -> float:
        seen.append((step, num_steps, initial, final))
        return final

    som = SOM(3, 3, n_epochs=3, alpha_schedule=schedule)
    for _ in range(5):
        som.partial_fit(x)
    assert seen == [(step, 3, 0.5, 0.01) for step in (0, 1, 2, 2, 2)]


def test_another_default_device_changes_nothing() -> None:
    x = torch.from_numpy(blobs())
    for init in ("pca", "random", "samples", "kmeans"):
        expected = SOM(3, 3, init=init, n_epochs=3, random_state=0).fit(x).codebook_  # type: ignore[arg-type]
        with torch.device("meta"):
            codebook = SOM(3, 3, init=init, n_epochs=3, random_state=0).fit(x).codebook_  # type: ignore[arg-type]
        assert torch.as_tensor(codebook).equal(torch.as_tensor(expected)), init


def test_an_iterator_is_refused_before_it_is_read() -> None:
    batches = iter([blobs(10), blobs(10)])
    with pytest.raises(ValueError, match="got an iterator, which can be read once"):
        SOM().fit(batches)
    assert len(list(batches)) == 2
    with pytest.raises(ValueError, match="X must be an array of rows for fit_predict"):
        SOM().fit_predict(DataLoader(TensorDataset(torch.ones(4, 2))))


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="device must be one that torch can use, got 'cuda' where it finds no GPU"):
        SOM(device="cuda").fit(blobs())


def test_a_row_with_values_only_in_features_of_weight_zero_is_refused() -> None:
    x = blobs()
    x[3, 1:] = np.nan
    with pytest.raises(ValueError, match="a value of a feature with a weight above 0 in each row"):
        SOM(3, 3, missing="ignore", feature_weights=[0, 1, 1, 1]).fit(x)


def test_streams_reuse_no_winners_as_hints() -> None:
    """An epoch's winners are hints for the next epoch, but only if the rows come again in the same order."""
    x = blobs()
    calls: list[object] = []

    def search(
        self: WinnerSearch, rows: Tensor, k: int = 1, hint: Tensor | None = None, has_gaps: bool = False
    ) -> BestMatch:
        calls.append(hint)
        return original(self, rows, k, hint, has_gaps)

    original = WinnerSearch.search
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WinnerSearch, "search", search)
        SOM(3, 3, n_epochs=3, compute_labels=False).fit(x)
        SOM(3, 3, n_epochs=3, compute_labels=False).fit(DataLoader(TensorDataset(torch.from_numpy(x)), batch_size=64))
    assert [hint is None for hint in calls] == [True, False, False, True, True, True]


def test_weights_for_batches_are_refused() -> None:
    with pytest.raises(ValueError, match="sample_weight must be None where X is an iterable of batches"):
        SOM().fit(DataLoader(TensorDataset(torch.ones(4, 2))), sample_weight=np.ones(4))


@pytest.mark.parametrize(
    ("neighborhood", "side", "sigma_final"), [("bubble", 49, 1.0), ("square", 27, 2.0), ("bubble", 33, 1.0)]
)
def test_a_hard_neighborhood_keeps_the_nearest_neighbors_to_the_end(
    neighborhood: str, side: int, sigma_final: float
) -> None:
    """With a width of .999... instead of 1, the last epoch would leave out all neighbors."""
    x = np.random.default_rng(0).random((600, 3), dtype=np.float32)
    som = SOM(side, side, neighborhood=neighborhood, sigma_final=sigma_final, n_epochs=8, random_state=0).fit(x)
    before = SOM(side, side, neighborhood=neighborhood, sigma_final=sigma_final * 1.01, n_epochs=8, random_state=0).fit(
        x
    )
    assert som.history_[-1]["sigma"] == sigma_final
    assert som.quantization_error_ > 0.8 * before.quantization_error_
