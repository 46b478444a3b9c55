"""Evaluation of a model on a whole data set, against each metric computed directly."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from somvae_ext.data import Samples
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.training import encode, evaluate


def make(**options: object) -> SOMVAE:
    torch.manual_seed(0)
    config = SOMVAEConfig(input_shape=(3,), rows=2, cols=3, network="identity", latent_dim=3, **options)  # type: ignore[arg-type]
    model = SOMVAE(config).eval()
    torch.nn.init.uniform_(model.quantizer.codebook)
    return model


def test_samples_are_encoded_in_their_order_whatever_the_batches() -> None:
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


def test_padding_counts_for_nothing_and_a_label_of_a_series_is_that_of_its_frames() -> None:
    model = make(gamma=1.0)
    x, mask = torch.rand(4, 6, 3), torch.arange(6) < torch.tensor([6, 1, 3, 4])[:, None]
    label = torch.tensor([0, 1, 2, 1])
    evaluation = evaluate(model, Samples(x, label, mask))
    frames = x[mask]
    expected = evaluate(make(), Samples(frames, label[:, None].expand(4, 6)[mask]))
    assert evaluation["samples"] == 14
    shared = expected.keys() - {"transition", "smoothness"}  # losses of series only
    assert {name: evaluation[name] for name in shared} == pytest.approx({name: expected[name] for name in shared})


def test_metrics_without_labels_and_accuracy_only_with_as_many_nodes_as_classes() -> None:
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


def test_transition_likelihoods_stand_beside_those_of_counted_matrices() -> None:
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
