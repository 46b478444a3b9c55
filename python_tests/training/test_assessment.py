"""Tests of the evaluation of a model on a whole data set, against metrics computed directly."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, confusion_matrix, normalized_mutual_info_score
from torch.distributions import Normal, kl_divergence

from somvae_ext.data import InterpolatedSeries, Samples
from somvae_ext.models import (
    SOMVAE,
    VAE,
    VQVAE,
    ConditionalVAE,
    ConditionalVAEConfig,
    GumbelVAE,
    GumbelVAEConfig,
    MoEVAE,
    MoEVAEConfig,
    SOMVAEConfig,
    VAEConfig,
    VQVAEConfig,
)
from somvae_ext.training import clustering_metrics, encode, evaluate


def make(**options: object) -> SOMVAE:
    torch.manual_seed(0)
    config = SOMVAEConfig(input_shape=(3,), rows=2, cols=3, network="identity", latent_dim=3, **options)  # type: ignore[arg-type]
    model = SOMVAE(config).eval()
    torch.nn.init.uniform_(model.quantizer.codebook)
    return model


def test_samples_are_encoded_in_order() -> None:
    model, x = make(), torch.rand(5000, 3)
    encodings = encode(model, Samples(x, torch.arange(5000)))
    assert encodings.z.equal(x)
    assert encodings.indices.equal(model.assign(x))
    assert encodings.label is not None
    assert encodings.label.equal(torch.arange(5000))


@pytest.mark.parametrize("shape", [(700, 3), (90, 8, 3), (2, 700, 3)], ids=["samples", "series", "long series"])
def test_no_more_than_256_frames_are_encoded_at_once(shape: tuple[int, ...]) -> None:
    model, x = make(), torch.rand(shape)
    sizes: list[int] = []
    model.encoder.register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
    encodings = encode(model, Samples(x))
    assert max(sizes) <= 256
    assert encodings.z.equal(x)
    assert encodings.indices.shape == shape[:-1]


def test_padding_is_ignored_and_the_label_of_a_series_applies_to_its_frames() -> None:
    model = make(gamma=1.0)
    x, mask = torch.rand(4, 6, 3), torch.arange(6) < torch.tensor([6, 1, 3, 4])[:, None]
    label = torch.tensor([0, 1, 2, 1])
    evaluation = evaluate(model, Samples(x, label, mask))
    frames = x[mask]
    expected = evaluate(make(), Samples(frames, label[:, None].expand(4, 6)[mask]))
    assert evaluation["samples"] == 14
    shared = expected.keys() - {"transition", "smoothness"}  # these losses need series
    assert {name: evaluation[name] for name in shared} == pytest.approx({name: expected[name] for name in shared})


def test_agreement_needs_labels_and_accuracy_needs_as_many_nodes_as_classes() -> None:
    x = torch.rand(60, 3)
    agreement = {"purity", "nmi_arithmetic", "nmi_geometric", "ari"}
    assert not agreement & evaluate(make(), Samples(x)).keys()
    ten = evaluate(make(), Samples(x, torch.arange(60) % 10))
    six = evaluate(make(), Samples(x, torch.arange(60) % 6))
    assert agreement <= ten.keys()
    assert "acc" not in ten
    assert "acc" in six


def test_quantization_error_is_the_mean_distance_to_the_nearest_code() -> None:
    model, x = make(), torch.rand(50, 3)
    expected = torch.cdist(x.double(), model.quantizer.codebook.detach().double()).amin(dim=1).mean()
    assert evaluate(model, Samples(x))["quantization_error"] == pytest.approx(expected.item(), rel=1e-6)


def test_topographic_errors_are_computed_for_each_connectivity() -> None:
    model, x = make(), torch.rand(50, 3)
    grid = model.quantizer.grid
    distance = torch.cdist(model.encode(x).double(), model.quantizer.codebook.double())
    best, second = distance.argsort(dim=1)[:, :2].unbind(dim=1)
    apart = grid.distance(best, second)
    evaluation = evaluate(model, Samples(x))
    assert {name for name in evaluation if "topographic" in name} == {"topographic_error_4", "topographic_error_8"}
    assert evaluation["topographic_error_4"] == pytest.approx((apart > 1.1).double().mean().item())
    assert evaluation["topographic_error_8"] == pytest.approx((apart > 1.5).double().mean().item())
    hexagons = evaluate(make(topology="hexagonal"), Samples(x))
    assert {name for name in hexagons if "topographic" in name} == {"topographic_error_6"}


def somvae_of_images(**options: object) -> SOMVAE:
    torch.manual_seed(0)
    config = SOMVAEConfig(input_shape=(1, 4, 5), rows=2, cols=3, latent_dim=3, hidden_sizes=(8,), **options)  # type: ignore[arg-type]
    model = SOMVAE(config).eval()
    with torch.no_grad():  # all nodes win some images
        model.quantizer.codebook.copy_(model.encode(torch.rand(6, 1, 4, 5)))
    return model


@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
def test_order_is_computed_on_the_decoded_map(topology: str) -> None:
    model = somvae_of_images(topology=topology)
    pictures, grid = model.decoded_map().double().view(6, -1), model.config.grid
    distance = torch.cdist(pictures, pictures, compute_mode="donot_use_mm_for_euclid_dist")
    nodes = torch.arange(6)
    # Grid neighbors are at distance 1 in both topologies.
    near = (grid.distance(nodes[:, None], nodes) - 1).abs() < 1e-9
    expected = (distance[near].mean() / distance[nodes[:, None] != nodes].mean()).item()
    data = Samples(torch.rand(20, 1, 4, 5))
    assert evaluate(model, data)["order"] == pytest.approx(expected, rel=1e-12)
    assert clustering_metrics(model, data)["order"] == evaluate(model, data)["order"]


def test_order_is_left_out_if_all_codes_are_equal() -> None:
    model, data = make(), Samples(torch.rand(20, 3))
    torch.nn.init.constant_(model.quantizer.codebook, 0.5)
    assert "order" not in evaluate(model, data)
    assert "order" not in clustering_metrics(model, data)


def test_no_more_than_256_nodes_are_decoded_at_once() -> None:
    config = SOMVAEConfig(input_shape=(3,), rows=20, cols=30, network="identity", latent_dim=3)
    model = SOMVAE(config).eval()
    sizes: list[int] = []
    model.decoder_q.register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
    clustering_metrics(model, Samples(torch.rand(5, 3)))
    assert (max(sizes), sum(sizes)) == (256, 600)


NEAR = [f"{figure}_{distance}" for figure in ("moves_within", "transition_mass_within") for distance in (1, 2)]


def test_moves_and_learned_transitions_are_measured_on_the_grid() -> None:
    model = make(gamma=1.0)
    assert model.transitions is not None
    torch.nn.init.normal_(model.transitions.logits)
    x, mask = torch.rand(8, 9, 3), torch.arange(9) < torch.tensor([9, 9, 5, 1, 2, 8, 9, 3])[:, None]
    evaluation, grid = evaluate(model, Samples(x, mask=mask)), model.quantizer.grid
    matrix, moves, mass = model.transitions.matrix().detach().double(), [], []
    for row, length in zip(model.assign(x).tolist(), mask.sum(dim=1).tolist(), strict=True):
        for prev, cur in itertools.pairwise(row[:length]):
            moves += [(prev, cur, 1.0)] if prev != cur else []
            mass += [(prev, node, matrix[prev, node].item()) for node in range(6) if node != prev]
    for name, steps in (("moves_within", moves), ("transition_mass_within", mass)):
        for distance in (1, 2):
            near = sum(p for i, j, p in steps if grid.distance(torch.tensor(i), torch.tensor(j)) <= distance)
            expected = near / sum(p for _, _, p in steps)
            assert evaluation[f"{name}_{distance}"] == pytest.approx(expected, rel=1e-6)  # P is float32
    assert 0 < evaluation["moves_within_1"] < evaluation["moves_within_2"]
    each_epoch = clustering_metrics(model, Samples(x, mask=mask))
    assert {name: each_epoch[name] for name in NEAR} == {name: evaluation[name] for name in NEAR}


def test_metrics_of_moves_need_series_and_learned_transitions() -> None:
    assert not set(NEAR) & evaluate(make(), Samples(torch.rand(20, 3))).keys()
    series = Samples(torch.rand(5, 4, 3))
    assert set(NEAR[:2]) == set(NEAR) & evaluate(make(), series).keys()
    assert set(NEAR[:2]) == set(NEAR) & clustering_metrics(make(), series).keys()
    still = Samples(torch.rand(5, 1, 3).expand(5, 4, 3))
    # Constant series have no moves, but initial transition probabilities are uniform and so include moves.
    assert set(NEAR[2:]) == set(NEAR) & evaluate(make(gamma=1.0), still).keys()
    one_frame = Samples(torch.rand(5, 1, 3))
    assert not set(NEAR) & evaluate(make(gamma=1.0), one_frame).keys()


def images(count: int = 60) -> Samples:
    generator = torch.Generator().manual_seed(3)
    return Samples(torch.rand(count, 1, 4, 5, generator=generator), torch.arange(count) % 3)


def test_series_made_of_images_are_also_scored_on_the_images() -> None:
    model, series = somvae_of_images(gamma=1.0), InterpolatedSeries(images(), num_series=20)
    evaluation, of_images = evaluate(model, series), evaluate(somvae_of_images(), images())
    assert evaluation["samples"] == 20 * 32
    static = {name: evaluation[name] for name in evaluation if name.startswith("static")}
    scores = ("samples", "purity", "nmi_arithmetic", "nmi_geometric", "ari")
    assert static == {f"static_{name}": of_images[name] for name in scores}
    assert evaluation["nmi_arithmetic"] != evaluation["static_nmi_arithmetic"]
    each_epoch = clustering_metrics(model, series)
    static_each_epoch = {name for name in each_epoch if name.startswith("static")}
    assert static_each_epoch == {"static_nmi_arithmetic", "static_purity"}
    assert each_epoch == {name: evaluation[name] for name in each_epoch}


def test_other_series_have_no_static_scores() -> None:
    made = InterpolatedSeries(images(), num_series=20)
    evaluation = evaluate(somvae_of_images(gamma=1.0), Samples(made.x, made.label))
    assert not {name for name in evaluation if name.startswith("static")}


def test_transition_likelihoods_are_reported_with_those_of_counted_matrices() -> None:
    model = make(gamma=1.0)
    held_out, train = torch.rand(5, 9, 3), torch.rand(40, 9, 3)
    evaluation = evaluate(model, Samples(held_out), train=Samples(train))
    assert evaluation["transition_nll"] == pytest.approx(math.log(6))  # untrained: all nodes are equally likely

    def counts(x: torch.Tensor) -> torch.Tensor:
        table = torch.zeros(6, 6, dtype=torch.float64)
        for row in model.assign(x).tolist():
            for prev, cur in itertools.pairwise(row):
                table[prev, cur] += 1
        return table

    steps, counted = counts(held_out), counts(train) + 1 / 6
    for name, table in (("lowest_nll", steps), ("counted_nll", counted)):
        log_p = (table / table.sum(dim=1, keepdim=True).clamp_min(1e-300)).log()
        expected = -(steps[steps > 0] * log_p[steps > 0]).sum() / steps.sum()
        assert evaluation[name] == pytest.approx(expected.item(), rel=1e-5)
    assert evaluation["lowest_nll"] <= evaluation["counted_nll"]


def test_series_of_one_frame_have_no_transitions() -> None:
    assert "transition_nll" not in evaluate(make(gamma=1.0), Samples(torch.rand(5, 1, 3)))
    mask = torch.tensor([[True, False, True]] * 4)
    assert "transition_nll" not in evaluate(make(gamma=1.0), Samples(torch.rand(4, 3, 3), mask=mask))


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="data must hold at least one sample, got none"):
        encode(make(), Samples(torch.zeros(0, 3)))


def vae(**options: object) -> VAE:
    torch.manual_seed(0)
    return VAE(VAEConfig(input_shape=(2, 5), latent_dim=3, hidden_sizes=(8,), **options)).eval()  # type: ignore[arg-type]


def conditional_vae() -> ConditionalVAE:
    torch.manual_seed(0)
    config = ConditionalVAEConfig(input_shape=(2, 5), num_classes=4, latent_dim=3, hidden_sizes=(8,))
    return ConditionalVAE(config).eval()


def gumbel_vae() -> GumbelVAE:
    torch.manual_seed(0)
    model = GumbelVAE(GumbelVAEConfig(input_shape=(2, 5), num_categories=4, latent_dim=3, hidden_sizes=(8,))).eval()
    torch.nn.init.normal_(model.categories.weight)  # gives more than one cluster
    return model


def moe_vae() -> MoEVAE:
    torch.manual_seed(0)
    model = MoEVAE(MoEVAEConfig(input_shape=(2, 5), num_experts=4, latent_dim=3, hidden_size=8)).eval()
    for layer in (model.manager[0], model.manager[2]):
        torch.nn.init.normal_(layer.weight, std=5.0)  # type: ignore[arg-type]  # uses several experts
    return model


def somvae() -> SOMVAE:
    torch.manual_seed(0)
    return SOMVAE(SOMVAEConfig(input_shape=(2, 5), rows=2, cols=2, latent_dim=3, hidden_sizes=(8,))).eval()


def vqvae() -> VQVAE:
    torch.manual_seed(0)
    model = VQVAE(VQVAEConfig(input_shape=(2, 5), num_codes=4, latent_dim=3, hidden_sizes=(8,))).eval()
    model.initialize_codebook(samples().x)
    return model


def samples(count: int = 600) -> Samples:
    """Returns more than two batches of samples in four classes that correlate with the values."""
    x = torch.rand(count, 2, 5, generator=torch.Generator().manual_seed(1))
    return Samples(x, (x[:, 0, 0] * 4).long())


WITHOUT_CLUSTERS = {"vae": vae, "conditional-vae": conditional_vae}
WITH_POSTERIORS = {"gumbel-vae": gumbel_vae, "moe-vae": moe_vae}
CLUSTERING = WITH_POSTERIORS | {"vqvae": vqvae, "somvae": somvae}
MODELS_OF_SAMPLES = WITHOUT_CLUSTERS | CLUSTERING


@pytest.mark.parametrize("name", WITHOUT_CLUSTERS | WITH_POSTERIORS)
def test_encodings_are_posterior_means_and_clusters_match_assign(name: str) -> None:
    model, data = (WITHOUT_CLUSTERS | WITH_POSTERIORS)[name](), samples()
    encodings, posterior = encode(model, data), model.encode(data.x)
    z = posterior.mu.transpose(0, 1) if name == "moe-vae" else posterior.mu
    # Matrix products with another batch size may differ in their last bits.
    torch.testing.assert_close(encodings.z, z.detach())
    assert encodings.shape == (600,)
    if name in WITH_POSTERIORS:
        assert encodings.indices is not None
        assert encodings.indices.equal(model.assign(data.x))  # type: ignore[union-attr]
        torch.testing.assert_close(encodings.log_probs, posterior.log_probs.detach())  # type: ignore[union-attr]
    else:
        assert (encodings.indices, encodings.log_probs) == (None, None)


@pytest.mark.parametrize("name", CLUSTERING)
def test_cluster_metrics_match_scikit_learn(name: str) -> None:
    model, data = CLUSTERING[name](), samples()
    evaluation = evaluate(model, data)
    label, cluster = data.label, model.assign(data.x)
    table = confusion_matrix(label, cluster, labels=range(4))
    shares = cluster.bincount(minlength=4) / 600
    expected = {
        "samples": 600,
        "purity": table.max(axis=0).sum() / 600,
        "nmi_arithmetic": normalized_mutual_info_score(label, cluster, average_method="arithmetic"),
        "nmi_geometric": normalized_mutual_info_score(label, cluster, average_method="geometric"),
        "ari": adjusted_rand_score(label, cluster),
        "acc": table[linear_sum_assignment(-table)].sum() / 600,
        "usage": len(cluster.unique()) / 4,
        "perplexity": math.exp(torch.distributions.Categorical(shares.double()).entropy()),
    }
    assert len(cluster.unique()) > 1
    assert {metric: evaluation[metric] for metric in expected} == pytest.approx(expected, rel=1e-6)
    each_epoch = {"nmi_arithmetic", "acc", "purity", "usage", "perplexity"}
    each_epoch |= {"topographic_error_4", "topographic_error_8", "order"} if name == "somvae" else set()
    assert clustering_metrics(model, data) == {metric: evaluation[metric] for metric in each_epoch}


@pytest.mark.parametrize("name", WITHOUT_CLUSTERS)
def test_models_without_clusters_have_losses_only(name: str) -> None:
    model = MODELS_OF_SAMPLES[name]()
    assert evaluate(model, samples()).keys() == {"samples", "reconstruction", "kl"}
    with pytest.raises(ValueError, match=f"model must be one that clusters, got {type(model).__name__}"):
        clustering_metrics(model, samples())


@pytest.mark.parametrize("name", WITHOUT_CLUSTERS)
def test_losses_are_means_over_the_samples(name: str) -> None:
    model, data = MODELS_OF_SAMPLES[name](), samples()
    assert isinstance(model, VAE | ConditionalVAE)
    torch.nn.init.zeros_(model.logvar.weight)
    torch.nn.init.constant_(model.logvar.bias, -60.0)  # draws are equal to the mean
    mu = model.encode(data.x).mu.double()
    assert data.label is not None
    x = model.reconstruct(data.x) if isinstance(model, VAE) else model.reconstruct(data.x, data.label)
    entropy = torch.nn.functional.binary_cross_entropy(x.double(), data.x.double(), reduction="sum") / 600
    prior = Normal(torch.zeros((), dtype=torch.float64), 1.0)
    kl = kl_divergence(Normal(mu, torch.full_like(mu, math.exp(-30))), prior).sum(dim=1).mean()
    evaluation = evaluate(model, data)
    # Sums of ten and three terms in float32, and means over 256 of them; the noise is of size exp(-30).
    assert evaluation["reconstruction"] == pytest.approx(entropy.item(), rel=300 * 2**-23)
    assert evaluation["kl"] == pytest.approx(kl.item(), rel=300 * 2**-23)


def test_losses_of_series_are_means_over_their_real_frames() -> None:
    model = make(gamma=1.0, tau=1.0)
    x, mask = torch.rand(70, 6, 3), torch.arange(6) < torch.randint(1, 7, (70, 1))
    evaluation = evaluate(model, Samples(x, mask=mask))
    losses = model.loss(model(x, mask), x, mask)
    for name, value in zip(losses._fields[1:], losses[1:], strict=True):
        # A mean over a few hundred frames of terms with a few values each.
        assert evaluation[name] == pytest.approx(value.item(), rel=1000 * 2**-23)


@pytest.mark.parametrize("name", MODELS_OF_SAMPLES)
def test_an_evaluation_is_reproducible_and_keeps_the_global_generator(name: str) -> None:
    model = MODELS_OF_SAMPLES[name]()
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        results.append(evaluate(model, samples()))
        assert torch.get_rng_state().equal(before)
    assert results[0] == results[1]


def test_a_model_with_several_codes_per_sample_has_usage_and_distance_but_no_agreement() -> None:
    torch.manual_seed(0)
    model = VQVAE(VQVAEConfig(input_shape=(1, 8, 12), network="conv", num_codes=5, latent_dim=3)).eval()
    data = Samples(torch.rand(80, 1, 8, 12), torch.arange(80) % 5)
    encodings, evaluation = encode(model, data), evaluate(model, data)
    assert encodings.z.shape == (80, 2, 3, 3)  # channels last
    codes = model.assign(data.x)
    assert encodings.indices is not None
    assert encodings.indices.equal(codes)
    used = len(codes.unique())
    distance = (encodings.z - model.quantizer.codebook.detach()[codes]).norm(dim=-1).mean()
    assert evaluation["usage"] == used / 5
    assert evaluation["quantization_error"] == pytest.approx(distance.item(), rel=1e-5)
    assert not {"purity", "nmi_arithmetic", "acc"} & evaluation.keys()
    assert clustering_metrics(model, data).keys() == {"usage", "perplexity"}


def test_metrics_of_an_epoch_are_computed_on_a_sample_drawn_from_the_seed() -> None:
    model, data = gumbel_vae(), samples()
    rows = torch.randperm(600, generator=torch.Generator().manual_seed(5))[:200]
    assert clustering_metrics(model, data, limit=200, seed=5) == clustering_metrics(model, data.rows(rows))
    assert clustering_metrics(model, data, limit=200, seed=5) != clustering_metrics(model, data, limit=200, seed=6)
    assert clustering_metrics(model, data, limit=600, seed=5) == clustering_metrics(model, data)


def test_metrics_of_an_epoch_without_labels_are_usage_and_map_metrics() -> None:
    of_map = {"topographic_error_4", "topographic_error_8", "order"}
    assert clustering_metrics(make(), Samples(torch.rand(60, 3))).keys() == {"usage", "perplexity"} | of_map
    one_node = SOMVAE(SOMVAEConfig(input_shape=(3,), rows=1, cols=1, network="identity", latent_dim=3)).eval()
    assert clustering_metrics(one_node, Samples(torch.rand(60, 3))).keys() == {"usage", "perplexity"}
    assert not of_map & evaluate(one_node, Samples(torch.rand(60, 3))).keys()


def test_the_topographic_error_of_an_epoch_is_computed_on_a_sample_of_the_frames() -> None:
    model, x = make(), torch.rand(40, 10, 3)
    rows = torch.randperm(400, generator=torch.Generator().manual_seed(5))[:50]
    expected = evaluate(model, Samples(x.view(400, 3)[rows]))
    metrics = clustering_metrics(model, Samples(x), limit=50, seed=5)
    errors = ("topographic_error_4", "topographic_error_8")
    assert {name: metrics[name] for name in errors} == {name: expected[name] for name in errors}
    assert metrics["perplexity"] == evaluate(model, Samples(x))["perplexity"]  # of all frames


def test_a_conditional_model_encodes_without_labels_but_needs_them_for_losses() -> None:
    model, data = conditional_vae(), samples()
    assert encode(model, Samples(data.x)).z.equal(encode(model, data).z)
    with pytest.raises(ValueError, match="ConditionalVAE: label must be given"):
        evaluate(model, Samples(data.x))


def with_window(**options: object) -> SOMVAE:
    torch.manual_seed(0)
    config = SOMVAEConfig(input_shape=(1, 2, 2), rows=2, cols=3, latent_dim=3, hidden_sizes=(5,), window=3, **options)  # type: ignore[arg-type]
    model = SOMVAE(config).eval()
    assert model.window is not None
    torch.nn.init.normal_(model.window.projection.weight)
    torch.nn.init.normal_(model.quantizer.codebook)
    return model


def test_windowed_encodings_do_not_depend_on_the_batches() -> None:
    model, x = with_window(), torch.rand(2, 700, 1, 2, 2)
    mask = torch.arange(700) < torch.tensor([700, 400])[:, None]
    sizes: list[int] = []
    model.encoder.register_forward_hook(lambda module, args, output: sizes.append(len(args[0])))
    encodings = encode(model, Samples(x, mask=mask))
    assert max(sizes) <= 256
    with torch.no_grad():
        expected = torch.cat([model.encode(x[:1]), model.encode(x[1:], mask[1:])])
    torch.testing.assert_close(encodings.z[mask], expected[mask])
    assert encodings.indices is not None
    assert encodings.indices[mask].equal(model.quantizer.assign(encodings.z)[mask])


def test_windowed_models_encode_static_images_as_series_of_one_frame() -> None:
    generator = torch.Generator().manual_seed(3)
    images = Samples(torch.rand(60, 1, 2, 2, generator=generator), torch.arange(60) % 3)
    model = with_window(gamma=1.0)
    evaluation = evaluate(model, InterpolatedSeries(images, num_series=9))
    alone = evaluate(with_window(), Samples(images.x[:, None], images.label[:, None]))  # type: ignore[index]
    for name in ("purity", "nmi_arithmetic", "nmi_geometric", "ari"):
        assert evaluation[f"static_{name}"] == alone[name]
    assert evaluation["static_samples"] == 60


def test_models_without_windows_are_also_scored_on_static_images() -> None:
    images = Samples(torch.rand(30, 1, 8, 8), torch.arange(30) % 3)
    vqvae = VQVAE(VQVAEConfig(input_shape=(1, 8, 8), num_codes=8)).eval()
    measured = clustering_metrics(vqvae, InterpolatedSeries(images, num_series=4))
    assert {"static_purity", "static_nmi_arithmetic"} <= measured.keys()
