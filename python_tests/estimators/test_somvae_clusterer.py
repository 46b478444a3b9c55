"""The SOM-VAE with scikit-learn's interface: inputs and outputs, presets, and errors."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas
import polars
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone, is_clusterer
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from somvae_ext import training
from somvae_ext.data import Samples, Scaling
from somvae_ext.estimators import SOMVAEClusterer
from somvae_ext.evaluation import cluster_nodes
from somvae_ext.training import AffineAugmentation

QUICK: dict[str, Any] = {
    "n_epochs": 4,
    "learning_rate": 0.01,
    "model_options": {"hidden_sizes": (16,)},
    "random_state": 0,
}


def blobs(rows: int = 120, dim: int = 5) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    x, label = make_blobs(rows, dim, centers=4, random_state=0)
    return x.astype(np.float32), label


def oracle_distances(clusterer: SOMVAEClusterer, x: NDArray[Any]) -> NDArray[np.float64]:
    """Returns the distances from the encodings to all codes, ``[N, K]``, sorted, in float64."""
    z = np.asarray(clusterer.encode(x), dtype=np.float64)
    codes = np.asarray(clusterer.codebook_, dtype=np.float64)
    distances: NDArray[np.float64] = np.sort(np.linalg.norm(z[:, None] - codes, axis=2), axis=1)
    return distances


# ---- inputs and outputs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["clusters", "own-loss", "ordered"])
def test_each_node_holds_samples_of_one_blob(preset: str) -> None:
    x, label = blobs()
    clusterer = SOMVAEClusterer(4, 4, preset=preset, random_state=0).fit(x)
    assert is_clusterer(clusterer)
    for node in np.unique(clusterer.labels_):
        assert len(np.unique(label[clusterer.labels_ == node])) == 1


def test_results_have_the_type_of_the_data() -> None:
    x, _ = blobs()
    tensor = torch.from_numpy(x)
    of_numpy, of_torch = SOMVAEClusterer(3, 2, **QUICK).fit(x), SOMVAEClusterer(3, 2, **QUICK).fit(tensor)
    for clusterer, kind, data in ((of_numpy, np.ndarray, x), (of_torch, Tensor, tensor)):
        assert isinstance(clusterer.codebook_, kind)
        assert tuple(clusterer.prototypes_.shape) == (6, 5)
        for result, shape in (
            (clusterer.labels_, (120,)),
            (clusterer.predict(data), (120,)),
            (clusterer.transform(data), (120, 2)),
            (clusterer.encode(data), (120, 16)),
            (clusterer.confidence(data), (120,)),
            (clusterer.outlier_score(data), (120,)),
        ):
            assert isinstance(result, kind)
            assert tuple(result.shape) == shape
    np.testing.assert_array_equal(of_numpy.labels_, of_torch.labels_.numpy())
    np.testing.assert_array_equal(of_numpy.fit_predict(x), of_numpy.labels_)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_nodes_have_hits_prototypes_and_clusters(kind: Any) -> None:
    x = kind(blobs()[0])
    clusterer = SOMVAEClusterer(3, 2, **QUICK).fit(x)
    assert clusterer.hits_.tolist() == np.bincount(clusterer.labels_, minlength=6).tolist()
    decoded = clusterer.inverse_transform(clusterer.transform(x))
    np.testing.assert_array_equal(decoded, clusterer.prototypes_[clusterer.labels_])
    cluster = clusterer.cluster_nodes(2)
    np.testing.assert_array_equal(cluster, cluster_nodes(clusterer.codebook_, 2).cluster)
    for result in (clusterer.hits_, decoded, cluster):
        assert isinstance(result, type(x))
    with pytest.raises(ValueError, match=r"SOMVAEClusterer: X must hold rows from 0 to 2 and columns .*, got \[3, 0\]"):
        clusterer.inverse_transform([[3, 0]])


def test_series_lead_back_to_prototypes_frame_by_frame() -> None:
    series = [np.random.default_rng(row).random((length, 3), dtype=np.float32) for row, length in enumerate([5, 2, 7])]
    ragged = SOMVAEClusterer(2, 2, kind="series", **QUICK).fit(series)
    assert ragged.hits_.sum() == 14
    decoded = ragged.inverse_transform(ragged.transform(series))
    for part, labels in zip(decoded, ragged.labels_, strict=True):
        np.testing.assert_array_equal(part, ragged.prototypes_[labels])
    with pytest.raises(ValueError, match=r"X\[1\] must hold rows and columns of the map in an array \[T, 2\], got"):
        ragged.inverse_transform([[[0, 0]], [0, 0]])
    whole = SOMVAEClusterer(2, 2, kind="series", **QUICK).fit(np.stack([part[:2] for part in series]))
    places = whole.transform(np.stack([part[:2] for part in series]))
    np.testing.assert_array_equal(whole.inverse_transform(places), whole.prototypes_[whole.labels_])


def test_transform_gives_the_rows_and_columns_of_the_nodes() -> None:
    x, _ = blobs()
    clusterer = SOMVAEClusterer(2, 3, **QUICK).fit(x)
    place = clusterer.transform(x)
    np.testing.assert_array_equal(place[:, 0] * 3 + place[:, 1], clusterer.predict(x))
    assert list(clusterer.get_feature_names_out()) == ["som_row", "som_column"]


def test_confidence_is_the_simplified_silhouette() -> None:
    x, _ = blobs()
    clusterer = SOMVAEClusterer(2, 2, **QUICK).fit(x)
    best, second = oracle_distances(clusterer, x)[:, :2].T
    # A distance is the root of a float32 sum of squares, and the quotient of two distances has three roundings.
    np.testing.assert_allclose(clusterer.confidence(x), 1 - best / second, atol=4 * np.finfo(np.float32).eps)


def test_confidence_is_zero_between_two_codes_and_one_on_a_code() -> None:
    x, _ = blobs()
    clusterer = SOMVAEClusterer(1, 2, preset=None, latent_dim=5, **QUICK).fit(x)
    clusterer.model_.encoder = torch.nn.Identity()
    clusterer.model_.quantizer.codebook.data = torch.eye(5)[:2]
    clusterer.scaling_ = Scaling()
    between, on = np.full((1, 5), 0.5), np.eye(5)[:1]
    assert clusterer.confidence(np.concatenate([between, on])).tolist() == [0, 1]
    clusterer.model_.quantizer.codebook.data = torch.eye(5)[[0, 0]]
    assert clusterer.confidence(on).tolist() == [0]  # both codes coincide there


def test_scores_are_reconstruction_errors() -> None:
    x, _ = blobs()
    clusterer = SOMVAEClusterer(2, 2, **QUICK).fit(x)
    scaled = clusterer.scaling_.apply(torch.from_numpy(x))
    with torch.no_grad():
        output = clusterer.model_(scaled)
    of_codes = (output.reconstruction_q - scaled).double().square().mean(dim=1)
    of_encodings = (output.reconstruction_e - scaled).double().square().mean(dim=1)
    assert clusterer.score(x) == pytest.approx(-of_codes.mean().item(), rel=1e-5)
    np.testing.assert_allclose(clusterer.outlier_score(x), of_encodings, rtol=1e-5)
    far = x + 100 * np.eye(5, dtype=np.float32)[0]
    assert clusterer.outlier_score(far).min() > clusterer.outlier_score(x).max()


def test_with_one_decoder_outliers_are_scored_by_the_codes() -> None:
    x, _ = blobs()
    clusterer = SOMVAEClusterer(2, 2, preset=None, n_epochs=2, model_options={"gradient": "copy"}, random_state=0)
    clusterer.fit(x)
    assert clusterer.outlier_score(x).mean() == pytest.approx(-clusterer.score(x), rel=1e-5)


def test_prototypes_are_in_the_units_of_the_data() -> None:
    x, _ = blobs()
    shifted = 1000 + 50 * x
    prototypes = SOMVAEClusterer(2, 2, **QUICK | {"n_epochs": 20}).fit(shifted).prototypes_
    assert (prototypes > shifted.min(axis=0) - 1).all()
    assert (prototypes < shifted.max(axis=0) + 1).all()
    assert prototypes.std(axis=0).min() > 50  # they are not all at the mean


def test_images_may_be_arrays_of_images_or_rows() -> None:
    images = np.random.default_rng(0).random((40, 16, 18), dtype=np.float32)
    options = {"n_epochs": 4, "random_state": 0}
    of_images = SOMVAEClusterer(2, 2, **options).fit(images)
    of_rows = SOMVAEClusterer(2, 2, image_shape=(16, 18), **options).fit(images.reshape(40, -1))
    assert of_images.model_.config.network == "small-conv"
    assert of_images.prototypes_.shape == (4, 1, 16, 18)
    np.testing.assert_array_equal(of_images.labels_, of_rows.labels_)
    np.testing.assert_array_equal(of_rows.predict(images[:7].reshape(7, -1)), of_rows.labels_[:7])
    color = SOMVAEClusterer(2, 2, image_shape=(3, 16, 18), **options).fit(np.tile(images.reshape(40, -1), 3))
    assert color.prototypes_.shape == (4, 3, 16, 18)


def test_images_of_bytes_are_divided_by_255() -> None:
    images = np.random.default_rng(0).integers(0, 200, (40, 8, 8), dtype=np.uint8)
    of_bytes = SOMVAEClusterer(2, 2, **QUICK).fit(images)
    of_shares = SOMVAEClusterer(2, 2, **QUICK).fit(images.astype(np.float32) / 255)
    np.testing.assert_array_equal(of_bytes.labels_, of_shares.labels_)
    assert of_bytes.prototypes_.max() > 1  # in the range of bytes, like the data


def test_augmentation_reaches_the_training() -> None:
    images = np.random.default_rng(0).random((40, 8, 8), dtype=np.float32)
    still = SOMVAEClusterer(2, 2, **QUICK).fit(images)
    moved = SOMVAEClusterer(2, 2, augmentation=AffineAugmentation(max_shift=2), **QUICK).fit(images)
    assert moved.history_[0]["train"]["reconstruction_e"] != still.history_[0]["train"]["reconstruction_e"]


# ---- series ----------------------------------------------------------------------------------------------------------


def test_series_of_different_lengths_are_a_list() -> None:
    random = np.random.default_rng(0)
    series = [random.random((length, 3)).cumsum(axis=0) for length in (5, 9, 1, 12)]
    clusterer = SOMVAEClusterer(2, 2, kind="series", **QUICK).fit(series)
    assert clusterer.model_.transitions is not None
    for values in (clusterer.encode(series), clusterer.confidence(series), clusterer.outlier_score(series)):
        assert [len(part) for part in values] == [5, 9, 1, 12]
    assert [nodes.shape for nodes in clusterer.labels_] == [(5,), (9,), (1,), (12,)]
    assert [places.shape for places in clusterer.transform(series)] == [(5, 2), (9, 2), (1, 2), (12, 2)]
    alone = clusterer.predict([series[3]])
    np.testing.assert_array_equal(alone[0], clusterer.labels_[3])
    # Padding is never counted: the total score is the mean of the series' scores, weighted by their numbers of frames.
    scores = [len(frames) * clusterer.score([frames]) for frames in series]
    assert clusterer.score(series) == pytest.approx(sum(scores) / 27, rel=1e-5)


def test_series_of_one_length_are_an_array_and_tensors_stay_tensors() -> None:
    series = torch.rand(6, 7, 3, generator=torch.Generator().manual_seed(0)).cumsum(dim=1)
    clusterer = SOMVAEClusterer(2, 2, kind="series", **QUICK).fit(series)
    assert clusterer.labels_.shape == (6, 7)
    listed = clusterer.predict(list(series))
    assert all(isinstance(nodes, Tensor) for nodes in listed)
    assert torch.equal(torch.stack(listed), clusterer.labels_)
    assert isinstance(SOMVAEClusterer(2, 2, kind="series", **QUICK).fit(list(series)).codebook_, Tensor)


def test_an_array_of_series_of_different_lengths_is_a_list_of_them() -> None:
    series = np.empty(3, dtype=object)
    series[:] = [np.random.default_rng(0).random((length, 2)) for length in (4, 6, 5)]
    clusterer = SOMVAEClusterer(2, 2, kind="series", n_init=2, **QUICK).fit(series)
    assert [nodes.shape for nodes in clusterer.labels_] == [(4,), (6,), (5,)]


def test_five_axes_are_series_of_images() -> None:
    clusterer = SOMVAEClusterer(2, 2, **QUICK).fit(np.random.default_rng(0).random((4, 5, 1, 6, 6)))
    assert clusterer.labels_.shape == (4, 5)


# ---- conventions of scikit-learn -------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits_and_leaves_torch_alone() -> None:
    x, _ = blobs()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, second = (SOMVAEClusterer(2, 2, **QUICK).fit(x) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(first.codebook_, second.codebook_)
    other = SOMVAEClusterer(2, 2, **QUICK | {"random_state": 1}).fit(x)
    assert (other.codebook_ != first.codebook_).any()


def test_of_several_starts_the_best_reconstruction_is_kept() -> None:
    x, _ = blobs()
    clusterer = SOMVAEClusterer(2, 2, n_init=3, validation_fraction=0.2, **QUICK).fit(x)
    assert len(clusterer.candidates_) == 3
    assert clusterer.seed_ == min(clusterer.candidates_, key=clusterer.candidates_.__getitem__)
    assert len(clusterer.labels_) == 120


def test_the_clusterer_works_in_pipelines_searches_and_pickles() -> None:
    x, _ = blobs()
    frame = pandas.DataFrame(x, columns=list("abcde"))
    pipeline = make_pipeline(StandardScaler(), SOMVAEClusterer(2, 2, **QUICK))
    assert pipeline.fit(frame).predict(frame).shape == (120,)
    search = GridSearchCV(SOMVAEClusterer(2, 2, **QUICK), {"latent_dim": [2, 4]}, cv=2).fit(x)
    assert search.best_score_ == max(search.cv_results_["mean_test_score"])
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict(x), search.best_estimator_.predict(x))
    assert clone(again).get_params() == again.get_params()


def test_columns_must_be_those_that_were_fitted() -> None:
    x, _ = blobs()
    clusterer = SOMVAEClusterer(2, 2, **QUICK).fit(pandas.DataFrame(x, columns=list("abcde")))
    assert list(clusterer.feature_names_in_) == list("abcde")
    with pytest.raises(ValueError, match="feature names"):
        clusterer.predict(pandas.DataFrame(x, columns=list("edcba")))


def test_a_bar_is_shown_only_if_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    x, _ = blobs()
    SOMVAEClusterer(2, 2, **QUICK).fit(x)
    assert "epoch" not in capfd.readouterr().err
    SOMVAEClusterer(2, 2, verbose=True, **QUICK).fit(x)
    assert "epoch 4/4" in capfd.readouterr().err


def test_a_failed_refit_leaves_the_estimator_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = blobs()
    frame = pandas.DataFrame(x, columns=list("abcde"))
    clusterer = SOMVAEClusterer(2, 2, **QUICK).fit(frame)
    labels = clusterer.labels_
    with pytest.raises(ValueError, match="got n_samples = 3"):
        clusterer.fit(x[:3, :2])
    monkeypatch.setattr(training, "fit", failing)
    with pytest.raises(FloatingPointError):
        clusterer.fit(x[:, :2])
    np.testing.assert_array_equal(clusterer.predict(frame), labels)


def failing(*arguments: Any, **options: Any) -> None:
    raise FloatingPointError("fit: the loss is not finite")


def test_a_start_that_diverges_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = blobs()
    calls, fit = [], training.fit

    def second_fails(*arguments: Any, **options: Any) -> Any:
        calls.append(arguments)
        return failing() if len(calls) == 2 else fit(*arguments, **options)

    monkeypatch.setattr(training, "fit", second_fails)
    with pytest.warns(UserWarning, match="the training with seed .* failed"):
        clusterer = SOMVAEClusterer(2, 2, n_init=3, **QUICK).fit(x)
    assert [loss == np.inf for loss in clusterer.candidates_.values()] == [False, True, False]
    monkeypatch.setattr(training, "fit", failing)
    with pytest.raises(FloatingPointError), pytest.warns(UserWarning, match="failed"):
        SOMVAEClusterer(2, 2, n_init=2, **QUICK).fit(x)


def test_training_works_under_no_grad() -> None:
    x, _ = blobs()
    with torch.no_grad():
        assert SOMVAEClusterer(2, 2, **QUICK).fit(x).predict(x).shape == (120,)


def test_values_with_a_large_common_offset_are_distinguished() -> None:
    x = np.random.default_rng(0).normal(size=(120, 2))
    x[60:] += 20
    options = {**QUICK, "n_epochs": 20}
    near, far = (SOMVAEClusterer(2, 1, **options).fit(offset + x).labels_ for offset in (0.0, 1e9))
    assert set(far[:60]).isdisjoint(far[60:])
    np.testing.assert_array_equal(near, far)


def test_read_only_arrays_cause_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    images = np.random.default_rng(0).integers(0, 255, (30, 6, 6), dtype=np.uint8)
    images.flags.writeable = False
    SOMVAEClusterer(2, 2, **QUICK).fit(images)
    assert not [str(warning.message) for warning in recwarn if "writ" in str(warning.message)]


def test_a_constant_feature_keeps_its_value() -> None:
    x, _ = blobs()
    x[:, 2] = 7
    clusterer = SOMVAEClusterer(2, 2, **QUICK).fit(x)
    assert (clusterer.prototypes_[:, 2] == 7).all()


def test_the_worst_outlier_has_the_largest_score() -> None:
    x, _ = blobs()
    clusterer = SOMVAEClusterer(2, 2, **QUICK).fit(x)
    x[0, 0] = 3e38
    assert clusterer.outlier_score(x)[0] == np.inf
    assert 0 <= clusterer.confidence(x)[0] <= 1


def test_models_trained_on_cross_entropy_are_scored_by_squared_errors() -> None:
    x, _ = blobs()
    options = QUICK | {"model_options": {"hidden_sizes": (16,), "reconstruction": "bce"}}
    clusterer = SOMVAEClusterer(2, 2, **options).fit(x)
    assert -1 < clusterer.score(x) < 0
    assert clusterer.outlier_score(x + 100).min() > clusterer.outlier_score(x).max()


def test_codes_start_among_the_data_without_a_preset() -> None:
    x, _ = blobs()
    clusterer = SOMVAEClusterer(4, 4, preset=None, **QUICK).fit(x)
    assert clusterer.model_.config.init == "kmeans"
    assert len(np.unique(clusterer.labels_)) > 8


def test_options_of_the_dense_network_select_it() -> None:
    images = np.random.default_rng(0).random((20, 16, 16), dtype=np.float32)
    clusterer = SOMVAEClusterer(2, 2, **QUICK).fit(images)
    assert (clusterer.model_.config.network, clusterer.model_.config.hidden_sizes) == ("dense", (16,))


@pytest.mark.parametrize(
    "options", [{"network": "identity", "gamma": 0.0}, {"codebook_update": "ema"}, {"gradient": "copy"}]
)
def test_options_can_be_combined_with_the_preset_clusters(options: dict[str, Any]) -> None:
    x, _ = blobs()
    clusterer = SOMVAEClusterer(2, 2, n_epochs=3, model_options=options, random_state=0).fit(x)
    assert clusterer.labels_.shape == (120,)


def test_the_default_number_of_epochs_depends_on_the_steps_per_epoch() -> None:
    clusterer = SOMVAEClusterer(batch_size=512)
    x = torch.zeros(64_000, 2)
    config, recipe = clusterer._configs(Samples(x), "static", (2,))
    assert (recipe.epochs, config.warm_up_epochs) == (50, 17)


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "cluster"}, "preset must be one of 'ordered', 'clusters', .*, None, got 'cluster'"),
        ({"kind": "serie"}, "kind must be one of 'static', 'series', None, got 'serie'"),
        ({"device": "gpu"}, "device must be one of 'auto', 'cpu', 'cuda', got 'gpu'"),
        ({"n_rows": 0}, "n_rows must be an integer of at least 1, got 0"),
        ({"n_init": None}, "n_init must be an integer of at least 1, got None"),
        ({"n_epochs": 2.5}, "n_epochs must be an integer of at least 1, got 2.5"),
        ({"validation_fraction": 1.0}, "validation_fraction must be above 0 and below 1, got 1.0"),
        ({"model_options": {"warm_up_epochs": 4}}, "n_epochs must be at least 5 for warm_up_epochs = 4, got 4"),
        ({"augmentation": 2}, "augmentation must be None or a training.AffineAugmentation, got 2"),
        ({"augmentation": AffineAugmentation(max_shift=1)}, r"augmentation must be None for samples of shape \[5\]"),
        ({"augmented_target": True}, "augmented_target must be False without an augmentation, got True"),
        ({"verbose": "no"}, "verbose must be True or False, got 'no'"),
        ({"periodic": "no"}, "periodic must be True or False, got 'no'"),
        ({"learning_rate": "fast"}, "learning_rate must be a finite number above 0, got 'fast'"),
        ({"learning_rate": -1}, "learning_rate must be a finite number above 0, got -1"),
        ({"image_shape": 5}, r"image_shape must be \(H, W\) or \(C, H, W\), got 5"),
        ({"image_shape": (-5, -1)}, r"image_shape must be \(H, W\) or \(C, H, W\), got \(-5, -1\)"),
        ({"preset": np.array(["clusters", "ordered"])}, "preset must be one of 'ordered'"),
        ({"model_options": "alpha"}, "model_options must be a mapping or None, got 'alpha'"),
        ({"model_options": {"rows": 3}}, "model_options must not hold 'rows'; the parameter n_rows is for it"),
        ({"model_options": {"relabel_after": 9}}, "n_epochs must be at least 9 for relabel_after = 9, got 4"),
        (
            {"n_rows": 10, "n_cols": 11, "n_init": 2},
            "X must hold at least a row for each of the 110 nodes, got n_samples = 108 besides those that n_init = 2",
        ),
        ({"model_options": {"alfa": 1}}, "model_options must be fields of SOMVAEConfig, got 'alfa'"),
        ({"model_options": {"alpha": -1}}, "alpha must be .*, got -1"),
        ({"n_rows": 20, "n_cols": 20}, "X must hold at least a row for each of the 400 nodes, got n_samples = 120"),
        ({"image_shape": (2, 3)}, r"X must have 6 columns for image_shape \(2, 3\), got \[5\]"),
        ({"kind": "series"}, r"X must hold series \[B, T, F\]"),
    ],
)
def test_conflicting_options_are_refused_with_one_sentence(options: dict[str, Any], message: str) -> None:
    x, _ = blobs()
    with pytest.raises(ValueError, match=message):
        SOMVAEClusterer(**{"n_rows": 2, "n_cols": 2, **QUICK} | options).fit(x)


def test_broken_data_are_refused_with_their_position() -> None:
    images = np.zeros((20, 4, 4))
    images[3, 1, 2] = np.nan
    message = r"SOMVAEClusterer: values must be finite .*, got NaN in row 3, at \[0, 1, 2\] in it"
    with pytest.raises(ValueError, match=message):
        SOMVAEClusterer(2, 2, **QUICK).fit(images)
    x, _ = blobs()
    clusterer = SOMVAEClusterer(2, 2, **QUICK).fit(x)
    with pytest.raises(ValueError, match="X must hold samples as the data that were fitted, got series"):
        clusterer.predict(np.zeros((3, 2, 1, 4, 4)))
    with pytest.raises(ValueError, match=r"X must hold samples of shape \[5\], as those that were fitted"):
        clusterer.predict(np.zeros((3, 4, 4)))
    with pytest.raises(ValueError, match="X has 4 features, but SOMVAEClusterer is expecting 5 features as input"):
        clusterer.predict(x[:, :4])


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ([], "X must hold at least one series, got none"),
        ([np.zeros((3, 2)), np.zeros((0, 2))], r"X\[1\] must be a series \[T, F\] of at least one frame"),
        ([np.zeros((3, 2)), np.zeros((3, 4))], r"X\[1\] must have frames of shape \[2\] as X\[0\], got \[4\]"),
        ([np.zeros(3)], r"X\[0\] must be a series \[T, F\]"),
    ],
)
def test_broken_series_are_refused(series: list[NDArray[Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SOMVAEClusterer(2, 2, kind="series", **QUICK).fit(series)


def test_series_must_have_the_axes_of_series() -> None:
    for table in (np.zeros((6, 4)), pandas.DataFrame(np.zeros((6, 4))), polars.DataFrame(np.zeros((6, 4)))):
        with pytest.raises(ValueError, match=r"X must hold series .* got shape \[6, 4\]; one series of features is"):
            SOMVAEClusterer(2, 2, kind="series", **QUICK).fit(table)
    clusterer = SOMVAEClusterer(2, 2, **QUICK).fit(np.random.default_rng(0).random((4, 5, 1, 6, 6)))
    with pytest.raises(ValueError, match="X must hold series as the data that were fitted, got samples"):
        clusterer.score(np.zeros((5, 1, 6, 6)))


def test_columns_that_hold_no_numbers_are_named() -> None:
    frame = pandas.DataFrame({"a": [1.0, 2.0], "day": pandas.to_datetime(["2020-01-01", "2020-01-02"])})
    with pytest.raises(ValueError, match=r"SOMVAEClusterer: X must hold numbers, got datetime64.* in column 'day'"):
        SOMVAEClusterer(2, 2, **QUICK).fit(frame)


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device must be 'auto' or 'cpu' where torch finds no GPU, got 'cuda'"):
        SOMVAEClusterer(device="cuda").fit(blobs()[0])


def test_a_map_of_one_node_has_no_confidence() -> None:
    x, _ = blobs()
    clusterer = SOMVAEClusterer(1, 1, preset=None, **QUICK).fit(x)
    with pytest.raises(ValueError, match="the map must have at least 2 nodes for a confidence, got 1"):
        clusterer.confidence(x)
