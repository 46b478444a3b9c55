"""The interface of SOMVAE: shapes, networks, parameter groups and errors."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from torch import nn

from somvae_ext.models import SOMVAE, DenseDecoder, DenseEncoder, SOMVAEConfig
from somvae_ext.nn import SOMQuantizer

CONFIG = SOMVAEConfig(input_shape=(1, 3, 3), rows=3, cols=2, latent_dim=4, hidden_sizes=(6, 5))


def model(**options: object) -> SOMVAE:
    torch.manual_seed(0)
    return SOMVAE(dataclasses.replace(CONFIG, **options))


@pytest.mark.parametrize("leading", [(5,), (2, 3)])
def test_every_output_has_the_leading_shape_of_the_input(leading: tuple[int, ...]) -> None:
    output = model()(torch.rand(*leading, 1, 3, 3))
    sample, latent = (*leading, 1, 3, 3), (*leading, 4)
    shapes = [tuple(field.shape) for field in output]
    assert shapes == [sample, sample, latent, latent, leading, leading, leading]
    assert output.indices.dtype == torch.int64


def test_the_quantized_encoding_is_the_winners_code() -> None:
    somvae, x = model(), torch.rand(5, 1, 3, 3)
    output = somvae(x)
    assert output.z_q.equal(somvae.quantizer.codebook[output.indices])
    assert output.indices.equal(somvae.assign(x))
    assert output.reconstruction_q.equal(somvae.reconstruct(x))
    assert output.z_e.equal(somvae.encode(x))


def test_the_decoded_map_shows_each_node_at_its_place() -> None:
    somvae = model()
    images = somvae.decoded_map()
    assert images.shape == (3, 2, 1, 3, 3)
    assert not images.requires_grad
    torch.testing.assert_close(images[2, 1], somvae.decode(somvae.quantizer.codebook[5:])[0])


@pytest.mark.parametrize(("gamma", "tau", "exists"), [(0.0, 0.0, False), (1.0, 0.0, True), (0.0, 1.0, True)])
def test_without_transitions_there_is_no_table(gamma: float, tau: float, exists: bool) -> None:
    somvae = model(gamma=gamma, tau=tau)
    assert (somvae.transitions is not None) == exists
    assert any("logits" in name for name, _ in somvae.named_parameters()) == exists


def test_the_logits_learn_at_a_hundred_times_the_rate_and_no_parameter_is_left_out() -> None:
    somvae = model(gamma=1.0)
    assert somvae.transitions is not None
    others, logits = somvae.parameter_groups(0.01)
    assert (others["lr"], logits["lr"]) == (0.01, 1.0)
    assert logits["params"] == [somvae.transitions.logits]
    assert len(others["params"]) + 1 == len(list(somvae.parameters()))
    (only,) = model().parameter_groups(0.01)
    assert len(only["params"]) == len(list(model().parameters()))


def test_the_published_setting_has_the_published_numbers() -> None:
    published = SOMVAEConfig.published()
    assert (published.rows, published.cols, published.latent_dim, published.border) == (8, 8, 64, "zero")
    assert (published.alpha, published.beta, published.gamma, published.tau) == (1.0, 0.9, 1.8, 1.4)
    dense = dataclasses.replace(published, network="dense", latent_relu=True)
    assert (SOMVAE(dense)(torch.rand(2, 3, 1, 28, 28)).z_e >= 0).all()  # ReLU on the encodings


def test_custom_networks_replace_the_dense_ones() -> None:
    encoder = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())
    decoders = [nn.Sequential(nn.Linear(4, 9), nn.Unflatten(1, (1, 3, 3))) for _ in range(2)]
    somvae = SOMVAE(CONFIG, encoder, *decoders)
    x = torch.rand(5, 1, 3, 3)
    somvae.loss(somvae(x), x).total.backward()
    assert all(parameter.grad is not None for parameter in somvae.parameters())


def test_dense_networks_have_the_layers_of_the_published_ones() -> None:
    encoder, decoder = DenseEncoder((28, 28), 64), DenseDecoder(64, (28, 28))
    sizes = [(layer.in_features, layer.out_features) for layer in encoder if isinstance(layer, nn.Linear)]
    assert sizes == [(784, 256), (256, 128), (128, 64)]
    sizes = [(layer.in_features, layer.out_features) for layer in decoder.layers if isinstance(layer, nn.Linear)]
    assert sizes == [(64, 128), (128, 256), (256, 784)]
    x = decoder(torch.randn(3, 64))
    assert x.shape == (3, 28, 28)
    assert ((x > 0) & (x < 1)).all()


def test_a_config_survives_json() -> None:
    config = SOMVAEConfig.published()
    assert SOMVAEConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": ()}, r"input_shape must hold sizes of at least 1, got \[\]"),
        ({"input_shape": (1, 0)}, r"input_shape must hold sizes of at least 1, got \[1, 0\]"),
        ({"hidden_sizes": (0,)}, r"hidden_sizes must hold sizes of at least 1, got \[0\]"),
        ({"latent_dim": 0}, "latent_dim must be an integer of at least 1, got 0"),
        ({"alpha": -1.0}, "alpha must be a finite number of at least 0, got -1.0"),
        ({"tau": float("nan")}, "tau must be a finite number of at least 0, got nan"),
        ({"border": "wrap"}, "border must be 'zero' or 'mask', got 'wrap'"),
        ({"rows": 0}, "rows must be an integer of at least 1, got 0"),
    ],
)
def test_a_config_refuses_invalid_values(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SOMVAEConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(5, 3, 3), (5, 1, 3, 4), (1, 3, 3), (2, 2, 2, 1, 3, 3)])
def test_samples_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"x must have shape \[N, 1, 3, 3\] or \[B, T, 1, 3, 3\], got"):
        model()(torch.rand(shape))


@pytest.mark.parametrize(
    ("leading", "mask"),
    [
        ((2, 3), torch.ones(2, 4, dtype=torch.bool)),
        ((2, 3), torch.ones(2, 3)),
        ((6,), torch.ones(6, dtype=torch.bool)),
    ],
)
def test_a_mask_must_be_bool_and_fit_series(leading: tuple[int, ...], mask: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"mask must be of dtype bool and shape \[B, T\]"):
        model()(torch.rand(*leading, 1, 3, 3), mask)


def test_networks_whose_output_does_not_fit_are_refused() -> None:
    x = torch.rand(5, 1, 3, 3)
    with pytest.raises(ValueError, match=r"encoder must give shape \[5, 4\], got \[5, 9\]"):
        SOMVAE(CONFIG, encoder=nn.Flatten())(x)
    with pytest.raises(ValueError, match=r"decoder_q must give shape \[5, 1, 3, 3\], got \[5, 4\]"):
        SOMVAE(CONFIG, decoder_q=nn.Identity())(x)


def test_losses_stay_finite_where_the_logits_are_too_large_for_exp() -> None:
    somvae = model(gamma=1.0, tau=1.0)
    assert somvae.transitions is not None
    x = torch.rand(2, 6, 1, 3, 3)
    optimizer = torch.optim.SGD(somvae.parameter_groups(1e-3, 1e6))
    for _ in range(50):
        optimizer.zero_grad()
        losses = somvae.loss(somvae(x), x)
        losses.total.backward()
        optimizer.step()
        assert all(torch.isfinite(term) for term in losses)
    assert somvae.transitions.logits.abs().max() > 100  # exp of it overflows


# ---- the interface that all models share -----------------------------------------------------------------------------


def test_the_terms_of_a_sample_equal_its_losses_as_a_single_sample() -> None:
    somvae, x = model(reconstruction="bce"), torch.rand(5, 1, 3, 3)
    terms = somvae.terms(somvae(x), x)
    for sample in range(5):
        alone = somvae.loss(somvae(x[sample : sample + 1]), x[sample : sample + 1])
        for name, values in terms._asdict().items():
            assert values.shape == (5,)
            torch.testing.assert_close(values[sample], getattr(alone, name))


def test_the_terms_of_masked_frames_are_zero() -> None:
    somvae = model(gamma=1.0, tau=1.0, hardening=1.0, soft_som=1.0, neighbor_margin=1.0, prediction=1.0)
    x, mask = torch.rand(2, 4, 1, 3, 3), torch.arange(4) < torch.tensor([[4], [2]])
    x[~mask] = torch.nan
    output = somvae(x, mask)
    terms, losses = somvae.terms(output, x, mask), somvae.loss(output, x, mask)
    for name, values in terms._asdict().items():
        assert values.shape == (2, 4)
        assert (values[~mask] == 0).all()
        if name == "prediction":
            assert (values[:, :-1][mask[:, 1:]] > 0).all()
            assert (values[[0, 1], [3, 1]] == 0).all()  # no frame follows them
        else:
            assert (values[mask] > 0).all() or name == "neighbor_margin"  # the margin is 0 without topographic errors
        count = 4 if name == "prediction" else 6  # number of steps, or of frames
        torch.testing.assert_close(values.sum() / count, getattr(losses, name))


def test_masked_frames_have_no_code() -> None:
    somvae, x = model(gamma=1.0, tau=1.0), torch.rand(2, 4, 1, 3, 3)
    mask = torch.arange(4) < torch.tensor([[4], [2]])
    output = somvae(torch.where(mask[..., None, None, None], x, torch.nan), mask)
    assert (output.indices[~mask] == -1).all()
    assert (output.z_q[~mask] == 0).all()
    assert output.indices[mask].equal(somvae.assign(x)[mask])


def test_samples_are_decoded_nodes_and_depend_only_on_the_generator() -> None:
    somvae = model()
    images = somvae.decoded_map().flatten(0, 1)
    drawn = [somvae.sample(100, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    nodes = (drawn[0][:, None] - images).abs().flatten(2).amax(dim=2).argmin(dim=1)
    torch.testing.assert_close(drawn[0], images[nodes])
    assert nodes.unique().tolist() == list(range(somvae.num_clusters))
    assert drawn[0].equal(drawn[1])
    assert not drawn[0].equal(drawn[2])
    with pytest.raises(ValueError, match=r"SOMVAE.sample: num_samples must be an integer of at least 1, got 0"):
        somvae.sample(0)


def test_the_model_describes_its_outputs_and_inputs() -> None:
    assert (SOMVAE.name, SOMVAE.config_type, SOMVAE.batch_fields) == ("somvae", SOMVAEConfig, ("x", "mask"))
    assert model().num_clusters == 6


# ---- modes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network": "cnn"}, "network must be 'dense', 'conv', 'unpadded-conv', 'small-conv' or 'identity', got 'cnn'"),
        ({"gradient": "straight"}, "gradient must be 'som', 'copy' or 'none', got 'straight'"),
        ({"reconstruction": "l1"}, "reconstruction must be 'mse' or 'bce', got 'l1'"),
        ({"output": "tanh"}, "output must be 'sigmoid' or 'linear', got 'tanh'"),
        ({"init": "pca"}, "init must be 'normal', 'kmeans' or 'som', got 'pca'"),
        ({"neighbors_only": True, "beta": 0}, "neighbors_only must be False for beta 0, which leaves no SOM loss, got"),
        ({"network": "conv", "latent_relu": True}, "latent_relu must be False for network 'conv', got True"),
        ({"network": "identity", "latent_dim": 4}, "latent_dim must be the size of a sample .*, 784, got 4"),
        (
            {"network": "identity", "latent_dim": 784, "reconstruction": "bce"},
            "reconstruction must be 'mse' for network 'identity', got 'bce'",
        ),
        ({"reconstruction": "bce", "output": "linear"}, "output must be 'sigmoid' for reconstruction 'bce'"),
        ({"transitions": "sparse"}, "transitions must be 'dense' or 'local', got 'sparse'"),
        ({"transitions": "local", "transition_radius": -1}, "transition_radius must be an integer .*, got -1"),
        ({"sigma_final": 0.5}, "codebook_update must be 'ema' for sigma_final to mean anything, got 0.5"),
        ({"decay": 0.9}, "codebook_update must be 'ema' for decay to mean anything, got 0.9"),
        ({"codebook_update": "ema", "soft_som": 0.1}, "codebook_update must be 'gradient' for soft_som .*, got 0.1"),
        ({"hardening": -1.0}, "hardening must be a finite number of at least 0, got -1.0"),
        ({"relabel_after": -1}, "relabel_after must be an integer of at least 0, got -1"),
        (
            {"relabel_after": 2, "warm_up_epochs": 2},
            "relabel_after must be above warm_up_epochs = 2, before which there are no codes, got 2",
        ),
        ({"relabel_after": 2, "transitions": "local"}, "transitions must be 'dense' for relabel_after.*'local' and 2"),
        ({"codebook_update": "ema", "border": "mask"}, "codebook_update must be 'gradient' for border .*, got 'mask'"),
        (
            {"codebook_update": "ema", "sigma_initial": 0.5},
            "sigma_initial must be at least sigma_final, 0.7, got 0.5",
        ),
        ({"codebook_update": "ema", "network": "identity", "latent_dim": 784}, "network must not be 'identity' for .*"),
        ({"codebook_update": "ema", "sigma_steps": 0}, "sigma_steps must be an integer of at least 1, or None, got 0"),
        ({"warm_up_epochs": -1}, "warm_up_epochs must be an integer of at least 0, got -1"),
        (
            {"warm_up_epochs": 2, "gradient": "copy"},
            "gradient must be 'som' for warm_up_epochs to mean anything, got 2",
        ),
        (
            {"warm_up_epochs": 2, "network": "identity", "latent_dim": 784},
            "network must not be 'identity' for warm_up_epochs to mean anything, got 2",
        ),
        ({"transition_radius": 3}, "transitions must be 'local' for a transition_radius .*, got 'dense' and 3"),
    ],
)
def test_a_config_refuses_unknown_names_and_contradictions(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SOMVAEConfig(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        {"network": "unpadded-conv", "gradient": "copy", "init": "kmeans"},
        {"network": "identity", "latent_dim": 784, "output": "linear", "topology": "hexagonal", "periodic": True},
        {"transitions": "local", "transition_radius": 3, "gamma": 0.1},
        {"codebook_update": "ema", "sigma_final": 0.5, "sigma_steps": 30, "decay": 0.98, "init": "som"},
        {"warm_up_epochs": 2, "init": "kmeans"},
        {"reconstruction": "bce", "gradient": "none", "border": "mask", "square_gamma": True, "gamma": 0.1},
    ],
)
def test_every_option_survives_json(options: dict[str, object]) -> None:
    config = SOMVAEConfig(**options)  # type: ignore[arg-type]
    assert SOMVAEConfig(**json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_local_transitions_with_a_window_of_all_nodes_give_the_losses_of_dense_ones() -> None:
    x = torch.rand(2, 5, 1, 3, 3)
    losses = []
    for options in ({}, {"transitions": "local", "transition_radius": 9}):
        torch.manual_seed(0)
        somvae = model(gamma=1.0, tau=1.0, **options)
        losses.append(somvae.loss(somvae(x), x))
        losses[-1].total.backward()
        assert somvae.transitions.logits.grad.any()
    for local, dense in zip(losses[1], losses[0], strict=True):
        torch.testing.assert_close(local, dense)


def test_an_unused_second_decoder_is_refused() -> None:
    with pytest.raises(ValueError, match="decoder_e must be None for gradient 'copy'"):
        SOMVAE(dataclasses.replace(CONFIG, gradient="copy"), decoder_e=nn.Identity())


def test_with_cross_entropy_reconstruct_applies_the_sigmoid_to_the_logits() -> None:
    somvae, x = model(reconstruction="bce"), torch.rand(5, 1, 3, 3)
    output = somvae(x)
    assert output.reconstruction_q.min() < 0  # logits
    assert output.reconstruction_q.sigmoid().equal(somvae.reconstruct(x))
    pictures = somvae.decoded_map()
    assert ((pictures > 0) & (pictures < 1)).all()


# ---- start and revival -----------------------------------------------------------------------------------------------


def test_with_init_kmeans_the_codebook_starts_at_k_means_of_the_first_encodings() -> None:
    x = torch.rand(40, 1, 3, 3)
    plain, kmeans = model(), model(init="kmeans")
    before = plain.quantizer.codebook.detach().clone()
    plain.initialize_codebook(x)
    assert plain.quantizer.codebook.equal(before)
    kmeans.initialize_codebook(x, seed=3)
    expected = SOMQuantizer(CONFIG.grid, 4)
    expected.initialize_kmeans(kmeans.encode(x), seed=3)
    assert kmeans.quantizer.codebook.equal(expected.codebook)
    assert len(kmeans.assign(x).unique()) == 6  # each node wins a sample


def test_masked_frames_are_ignored_by_start_and_revival() -> None:
    torch.manual_seed(0)
    x, mask = torch.rand(8, 3, 1, 3, 3), torch.ones(8, 3, dtype=torch.bool)
    mask[:, 2] = False
    x[:, 2] = torch.nan
    somvae = model(init="kmeans")
    somvae.initialize_codebook(x, mask)
    assert somvae.quantizer.codebook.isfinite().all()
    ((parameter, rows),) = somvae.revive(torch.tensor([0, 5]), x, torch.Generator().manual_seed(0), mask=mask)
    assert parameter is somvae.quantizer.codebook
    assert rows.tolist() == [0, 5]
    real = somvae.encode(x.nan_to_num())[mask]  # of the same batch, because the rounding may depend on the batch
    assert all((somvae.quantizer.codebook[row] == real).all(dim=1).any() for row in rows)


def test_nonfinite_frames_are_ignored_by_start_and_revival() -> None:
    torch.manual_seed(0)
    x = torch.rand(8, 3, 1, 3, 3)
    x[2, 1, 0, 2, 2], x[5, 0, 0, 0, 0] = torch.nan, torch.inf
    somvae = model(init="kmeans")
    somvae.initialize_codebook(x)
    assert somvae.quantizer.codebook.isfinite().all()
    somvae.revive(torch.arange(6), x)
    assert somvae.quantizer.codebook.isfinite().all()


@pytest.mark.parametrize("gradient", ["som", "copy"])
def test_codes_may_be_replaced_before_the_backward_pass_of_the_loss(gradient: str) -> None:
    x, results = torch.rand(3, 4, 1, 3, 3), []
    for replaced in (False, True):
        somvae = model(gamma=1.0, tau=1.0, init="kmeans", gradient=gradient)
        losses = somvae.loss(somvae(x), x)
        if replaced:
            somvae.initialize_codebook(x)
            somvae.revive(torch.tensor([1, 4]), x)
        losses.total.backward()
        results.append([parameter.grad for parameter in somvae.parameters()])
    assert all(a.equal(b) for a, b in zip(*results, strict=True))


def test_a_start_from_too_few_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="at least K = 6 encodings that are finite and not masked, got 5 among 5"):
        model(init="kmeans").initialize_codebook(torch.rand(5, 1, 3, 3))


# ---- training on degenerate data -------------------------------------------------------------------------------------

MODES = {
    "default": {},
    "cross entropy": {"reconstruction": "bce"},
    "copied gradient": {"gradient": "copy"},
    "no gradient": {"gradient": "none"},
    "GB-SOM": {"network": "identity", "latent_dim": 9},
    "k-means start": {"init": "kmeans"},
}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
@pytest.mark.parametrize(
    ("leading", "kind"),
    [
        ((12,), "constant"),
        ((1,), "one row"),
        ((6, 1), "series of one frame"),
        ((3, 4), "constant"),
        ((3, 4), "all masked"),
        ((1, 1), "one frame of one series"),
    ],
)
def test_training_on_degenerate_data_stays_finite(leading: tuple[int, ...], kind: str, mode: dict[str, object]) -> None:
    somvae = model(**({"gamma": 1.8, "tau": 1.4} if len(leading) == 2 else {}), **mode)
    x = torch.full((*leading, 1, 3, 3), 0.5) if kind == "constant" else torch.rand(*leading, 1, 3, 3)
    mask = torch.zeros(leading, dtype=torch.bool) if kind == "all masked" else None
    if x[..., 0, 0, 0].numel() >= 6 and mask is None:
        somvae.initialize_codebook(x)
    optimizer = torch.optim.Adam(somvae.parameter_groups(1e-2))
    for _ in range(10):
        optimizer.zero_grad()
        losses = somvae.loss(somvae(x, mask), x, mask)
        losses.total.backward()
        optimizer.step()
        assert all(term.isfinite() for term in losses)
    assert all(parameter.isfinite().all() for parameter in somvae.parameters())


@pytest.mark.parametrize(
    "options",
    [{"hardening": 1.0, "soft_som": 0.5}, {"neighbor_margin": 1.0}, {"neighbors_only": True}],
    ids=["hardening", "margin", "neighbors only"],
)
def test_the_other_objectives_compile_in_one_graph(options: dict[str, float]) -> None:
    somvae, x = model(**options), torch.rand(6, 1, 3, 3)
    plain = somvae.loss(somvae(x), x)
    compiled = torch.compile(lambda x: somvae.loss(somvae(x), x), backend="aot_eager", fullgraph=True)(x)
    torch.testing.assert_close(compiled.total, plain.total)


def with_window(window: int = 3, **options: object) -> SOMVAE:
    """Returns a model whose window has random weights instead of its initial ones."""
    somvae = model(window=window, **options)
    assert somvae.window is not None
    nn.init.normal_(somvae.window.projection.weight)
    return somvae


def test_encodings_depend_on_the_frames_of_their_window_and_on_no_later_one() -> None:
    somvae, x = with_window(3), torch.rand(2, 7, 1, 3, 3)
    with torch.no_grad():
        whole = somvae.encode(x)
        for end in range(1, 8):
            torch.testing.assert_close(somvae.encode(x[:, max(0, end - 3) : end])[:, -1], whole[:, end - 1])
        others = x.clone()
        others[:, 3] += 1
        differs = (somvae.encode(others) - whole).abs().amax(dim=(0, 2)) > 1e-6
    assert differs.tolist() == [False, False, False, True, True, True, False]


def test_a_new_window_changes_no_output_but_can_learn() -> None:
    x = torch.rand(2, 4, 1, 3, 3)
    assert model(window=5).window is not None
    torch.manual_seed(0)
    alone = SOMVAE(CONFIG)
    somvae = SOMVAE(dataclasses.replace(CONFIG, window=5))
    somvae.load_state_dict(alone.state_dict(), strict=False)
    assert somvae.encode(x).equal(alone.encode(x))


def test_all_methods_of_a_model_with_a_window_accept_a_mask() -> None:
    somvae, x = with_window(3, gamma=1.0), torch.rand(2, 5, 1, 3, 3)
    mask = torch.tensor([[True, False, True, True, True], [True, True, True, False, False]])
    x[~mask] = torch.nan
    output = somvae(x, mask)
    assert output.z_e[mask].equal(somvae.encode(x, mask)[mask])
    assert output.indices[mask].equal(somvae.assign(x, mask)[mask])
    assert output.reconstruction_q[mask].equal(somvae.reconstruct(x, mask)[mask])
    torch.testing.assert_close(somvae.encode_in_parts(x, mask)[mask], output.z_e[mask])
    assert all(term.isfinite() for term in somvae.loss(output, x, mask))


def test_a_window_needs_series_and_a_network_with_parameters() -> None:
    with pytest.raises(
        ValueError, match=r"because encodings see a window of 3 frames, got \[5, 1, 3, 3\]; give one series"
    ):
        with_window(3).encode(torch.rand(5, 1, 3, 3))
    with pytest.raises(ValueError, match="network must not be 'identity' for window to mean anything, got 2"):
        dataclasses.replace(CONFIG, network="identity", latent_dim=9, window=2)
    with pytest.raises(ValueError, match="window must be an integer of at least 1, got 0"):
        dataclasses.replace(CONFIG, window=0)


def test_the_next_frame_is_predicted_from_the_frames_before_it() -> None:
    somvae, x = with_window(2, prediction=1.0, reconstruction="bce"), torch.rand(2, 5, 1, 3, 3)
    following = somvae.predict_next(x)
    assert following.shape == x.shape
    assert ((following > 0) & (following < 1)).all()
    others = x.clone()
    others[:, 3] += 1
    differs = (somvae.predict_next(others) - following).abs().amax(dim=(0, 2, 3, 4)) > 0
    assert differs.tolist() == [False, False, False, True, True]
    expected = -(x[:, 1:] * following[:, :-1].log() + (1 - x[:, 1:]) * (1 - following[:, :-1]).log())
    torch.testing.assert_close(somvae.loss(somvae(x), x).prediction, expected.mean())


def test_a_prediction_needs_series_a_network_with_parameters_and_a_positive_weight() -> None:
    somvae, x = model(prediction=1.0), torch.rand(5, 1, 3, 3)
    output = somvae(x)
    with pytest.raises(ValueError, match=r"because prediction = 1.0 weighs that of the next frame, got \[5, 1, 3, 3\]"):
        somvae.loss(output, x)
    with pytest.raises(ValueError, match=r"network must not be 'identity' for prediction to mean anything, got 1.0"):
        dataclasses.replace(CONFIG, network="identity", latent_dim=9, prediction=1.0)
    with pytest.raises(ValueError, match=r"SOMVAE\.predict_next: the config's prediction must be above 0, got 0"):
        model().predict_next(torch.rand(2, 5, 1, 3, 3))


def test_a_model_with_a_window_is_exported_for_series_of_any_number_and_length() -> None:
    somvae, x, mask = (
        with_window(3, gamma=1.0).eval(),
        torch.rand(3, 6, 1, 3, 3),
        torch.arange(6) < torch.tensor([[6], [4], [2]]),
    )
    sizes = {0: torch.export.Dim("series"), 1: torch.export.Dim("frames")}
    program = torch.export.export(somvae, (x, mask), dynamic_shapes=(sizes, sizes)).module()
    x, mask = torch.rand(2, 9, 1, 3, 3), torch.arange(9) < torch.tensor([[5], [9]])
    expected, output = somvae(x, mask), program(x, mask)
    assert output.indices.equal(expected.indices)
    torch.testing.assert_close(output.z_e, expected.z_e)
