"""Samples and labels of any dtype are cast to the model's if nothing is lost, and refused otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import Dataset

from somvae_ext.data import Samples
from somvae_ext.models import MODELS, SOMVAE, ConditionalVAE, ConditionalVAEConfig, SOMVAEConfig
from somvae_ext.training import TrainingConfig, clustering_metrics, encode, evaluate, fit
from somvae_ext.training.batches import CastSamples, batch_loader

RECIPE = TrainingConfig(epochs=2, batch_size=8, learning_rate=1e-2, revive=True)
FLOATING = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64]
DTYPES = [*FLOATING, *INTEGERS, torch.bool]
LABEL_DTYPES = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool]


def pixels(rows: int = 24) -> Tensor:
    """Returns images of 0 and 1, which all dtypes represent."""
    return torch.randint(2, (rows, 1, 4, 4), generator=torch.Generator().manual_seed(0)).float()


def make(name: str, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    torch.manual_seed(0)
    return MODELS[name](MODELS[name].config_type(input_shape=(1, 4, 4), **options)).to(dtype)  # type: ignore[call-arg]


def series_model(dtype: torch.dtype = torch.float32) -> SOMVAE:
    torch.manual_seed(0)
    config = SOMVAEConfig(input_shape=(4,), rows=2, cols=3, latent_dim=3, hidden_sizes=(8,), gamma=1.0, tau=0.5)
    return SOMVAE(config).to(dtype)


@pytest.mark.parametrize(
    ("name", "dtype"), [*(("somvae", dtype) for dtype in DTYPES), *((name, torch.uint8) for name in MODELS)], ids=str
)
def test_training_on_any_dtype_equals_training_on_the_models_dtype(name: str, dtype: torch.dtype) -> None:
    label = torch.arange(24) % 3
    states, records = [], []
    for values in (pixels(), pixels().to(dtype)):
        start: dict[str, dict[str, Any]] = {
            "somvae": {"init": "kmeans", "rows": 2},
            "vqvae": {"init": "kmeans", "num_codes": 4},
        }
        model = make(name, **start.get(name, {}))
        data = Samples(values, label)
        history = fit(model, data, RECIPE, validation=data, accelerator="cpu")
        states.append(model.state_dict())
        records.append((history[-1]["train"], history[-1]["validation"], evaluate(model, data)))
        assert encode(model, data).z.dtype == torch.float32
    assert records[0] == records[1]
    assert all(states[0][key].equal(states[1][key]) for key in states[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("model_dtype", [torch.float32, torch.float64], ids=str)
def test_series_and_their_padding_are_cast_too(dtype: torch.dtype, model_dtype: torch.dtype) -> None:
    mask = torch.arange(5) < torch.tensor([5, 2, 4, 1, 5, 3])[:, None]
    x = torch.rand(6, 5, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    x[~mask] = torch.nan
    label, data = torch.arange(6).to(torch.int32) % 2, Samples(x, mask=mask)
    states = []
    for values in (x, x.to(model_dtype)):
        model, data = series_model(model_dtype), Samples(values, label, mask)
        fit(model, data, RECIPE, validation=data, accelerator="cpu")
        states.append(model.state_dict())
        assert evaluate(model, data, train=data)["samples"] == 20
        assert clustering_metrics(model, data)["usage"] > 0
    assert all(states[0][key].equal(states[1][key]) for key in states[0])


class Images(Dataset[dict[str, Tensor]]):
    """A custom data set of bytes with Python integers as labels."""

    def __len__(self) -> int:
        return 10

    def __getitem__(self, row: int) -> Any:
        return {"x": pixels(10)[row].to(torch.uint8).numpy(), "label": row % 3}


def test_a_custom_data_set_may_hold_bytes() -> None:
    model = make("conditional-vae")
    history = fit(model, Images(), RECIPE, accelerator="cpu")
    assert math.isfinite(history[-1]["train"]["total"])


@pytest.mark.parametrize("dtype", LABEL_DTYPES, ids=str)
def test_labels_of_any_integer_dtype_are_classes(dtype: torch.dtype) -> None:
    label = torch.arange(24) % 2
    totals = []
    for labels in (label, label.to(dtype)):
        torch.manual_seed(0)
        model = ConditionalVAE(ConditionalVAEConfig(input_shape=(1, 4, 4), num_classes=2))
        totals.append(fit(model, Samples(pixels(), labels), RECIPE, accelerator="cpu")[-1]["train"]["total"])
    assert totals[0] == totals[1]


def test_labels_that_are_not_integers_are_refused_if_they_are_needed() -> None:
    data = Samples(pixels(), torch.rand(24))
    with pytest.raises(ValueError, match=r"^ConditionalVAE: label must be of an integer dtype, got float32; cast it"):
        fit(make("conditional-vae"), data, RECIPE, accelerator="cpu")
    fit(make("vae"), data, RECIPE, accelerator="cpu")


@pytest.mark.parametrize(
    ("x", "model_dtype", "sentence"),
    [
        (torch.tensor([2**24 + 1]), torch.float32, "x must hold integers of at most 16777216 in magnitude to be cast "
         "to the model's float32, got 16777217 in int64; scale the samples"),
        (torch.tensor([-(2**24) - 1], dtype=torch.int32), torch.float32, "got 16777217 in int32"),
        (torch.tensor([2**64 - 1], dtype=torch.uint64), torch.float32, "in uint64"),
        (torch.tensor([2**53 + 1]), torch.float64, "at most 9007199254740991 in magnitude"),
        (torch.tensor([257], dtype=torch.int16), torch.bfloat16, "at most 256 in magnitude to be cast to the model's"),
        (torch.tensor([2049]), torch.float16, "at most 2048 in magnitude"),
        (torch.tensor([1e39], dtype=torch.float64), torch.float32, "x must hold values of at most 3.40282e.38 in "
         "magnitude to be cast to the model's float32, got 1e.39 in float64; scale the samples"),
        (torch.tensor([1e5]), torch.float16, "at most 65504 in magnitude"),
        (torch.tensor([1j]), torch.float32, "x must hold real numbers to be .*, got others in complex64"),
    ],
)  # fmt: skip
def test_samples_that_the_models_dtype_cannot_represent_are_refused(
    x: Tensor, model_dtype: torch.dtype, sentence: str
) -> None:
    model = SOMVAE(SOMVAEConfig(input_shape=(1,), rows=2, cols=2, latent_dim=2, output="linear")).to(model_dtype)
    data = Samples(torch.cat([torch.zeros_like(x), x])[:, None])
    uses: list[Callable[[], object]] = [lambda: encode(model, data)]
    if model_dtype != torch.float16:  # fit refuses float16 models
        uses.append(lambda: fit(model, data, RECIPE, accelerator="cpu"))
    for use in uses:
        with pytest.raises(ValueError, match=rf"^SOMVAE: .*{sentence}"):
            use()


@given(st.integers(-(2**63), 2**63 - 1), st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
def test_an_integer_is_cast_exactly_or_refused(value: int, dtype: torch.dtype) -> None:
    model = nn.Linear(1, 1, dtype=dtype)
    model.config = SOMVAEConfig(input_shape=(1,))  # type: ignore[assignment]
    try:
        (item,) = batch_loader(CastSamples(Samples(torch.tensor([[value]])), model), 1)
    except ValueError as error:
        refused = "x must hold integers of at most" in str(error)
    else:
        refused = False
        assert int(item["x"].item()) == value
    assert refused == (abs(value) > min(2 / torch.finfo(dtype).eps, 2**53 - 1))


NETWORKS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in MODELS),
    *((name, {"network": "conv"}) for name in ("vae", "conditional-vae", "gumbel-vae")),
]


@pytest.mark.parametrize(("name", "options"), NETWORKS, ids=str)
def test_training_changes_all_weights_of_a_bfloat16_model(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model: Any = MODELS[name](MODELS[name].config_type(input_shape=(1, 16, 16), **options)).bfloat16()
    x = torch.rand(24, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    data = Samples(x, torch.arange(24) % 10)
    before = {key: value.clone() for key, value in model.named_parameters()}
    history = fit(model, data, TrainingConfig(epochs=1, batch_size=8), validation=data, accelerator="cpu")
    assert all(math.isfinite(value) for part in ("train", "validation") for value in history[-1][part].values())
    for key, value in model.named_parameters():
        assert value.dtype == torch.bfloat16
        assert value.isfinite().all()
        assert not value.equal(before[key]), key
    label = {"label": data.label} if name == "conditional-vae" else {}
    assert model.reconstruct(x.bfloat16(), **label).isfinite().all()
    assert model.sample(3).isfinite().all()


def test_training_a_float16_model_is_refused_because_adams_epsilon_underflows() -> None:
    for name in MODELS:
        sentence = r"^fit: model must have weights of float64, float32 or bfloat16, .*, got float16 in \w+"
        with pytest.raises(ValueError, match=sentence):
            fit(make(name, torch.float16), Samples(pixels()), RECIPE, accelerator="cpu")


class TokenOutput(NamedTuple):
    logits: Tensor


class TokenLosses(NamedTuple):
    total: Tensor


class Tokens(nn.Module):
    """A custom model whose samples are integers."""

    batch_fields = ("x",)

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)

    def forward(self, x: Tensor) -> TokenOutput:
        return TokenOutput(self.embedding(x))

    def loss(self, output: TokenOutput, x: Tensor) -> TokenLosses:
        return TokenLosses(output.logits.square().mean())


def test_samples_of_a_model_without_a_declared_dtype_are_not_cast() -> None:
    model = Tokens()
    fit(model, Samples(torch.arange(10)[:, None] % 5), RECIPE, accelerator="cpu")


def test_samples_of_the_models_dtype_are_not_copied() -> None:
    data = Samples(pixels())
    assert CastSamples(data, make("vae"))[[0, 1]]["x"].equal(data.x[:2])
    row = CastSamples(data, make("vae"))[3]["x"]
    assert row.data_ptr() == data.x[3].data_ptr()
