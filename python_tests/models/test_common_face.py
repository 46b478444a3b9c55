"""The interface that all models share, with which one training loop, command and report serve all of them."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import children
import pytest
import torch
from torch import Tensor

import somvae_ext
from somvae_ext.data import Samples
from somvae_ext.models import MODELS, GumbelVAEConfig
from somvae_ext.store import ResultFolder
from somvae_ext.training import TrainingConfig, fit

SHAPE = (1, 4, 4)
RECIPE = TrainingConfig(epochs=2, batch_size=16, learning_rate=1e-3, decay_factor=1.0)
ROOT = Path(somvae_ext.__file__).parents[1]

all_models = pytest.mark.parametrize("name", list(MODELS))


def make(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return MODELS[name](MODELS[name].config_type(input_shape=SHAPE, **options))  # type: ignore[call-arg]


def samples(n: int = 40) -> Samples:
    generator = torch.Generator().manual_seed(0)
    return Samples(torch.rand(n, *SHAPE, generator=generator), torch.randint(10, (n,), generator=generator))


def fields_of(model: Any, data: Samples) -> dict[str, Tensor]:
    return {name: value for name in model.batch_fields if (value := getattr(data, name)) is not None}


@all_models
def test_configs_are_frozen_and_survive_json_lists(name: str) -> None:
    config: Any = MODELS[name].config_type(input_shape=[1, 4, 4])
    assert config.input_shape == SHAPE
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.input_shape = (2,)


@all_models
def test_losses_are_means_of_the_terms_of_each_sample(name: str, device: torch.device) -> None:
    model, data = make(name).double().to(device), samples()
    fields = fields_of(model, Samples(data.x.double().to(device), data.label.to(device)))
    output = model(**fields)
    terms, losses = model.terms(output, **fields), model.loss(output, **fields)
    assert losses._fields[0] == "total"
    assert set(terms._fields) <= set(losses._fields[1:])
    for term, values in terms._asdict().items():
        assert values.shape == (len(data),)
        torch.testing.assert_close(values.mean(), getattr(losses, term))
    assert all(value.shape == () for value in losses)
    losses.total.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


@all_models
def test_the_loss_compiles_to_one_graph(name: str) -> None:
    model, fields = make(name), fields_of(make(name), samples(6))

    def loss(**fields: Tensor) -> Tensor:
        torch.manual_seed(0)
        total: Tensor = model.loss(model(**fields), **fields).total
        return total

    expected = model.loss
    compiled = torch.compile(
        lambda **inputs: expected(model(**inputs), **inputs).total, backend="aot_eager", fullgraph=True
    )
    torch.manual_seed(0)
    once = compiled(**fields)
    # Fused sums add up in another order: a few hundred roundings.
    torch.testing.assert_close(once, loss(**fields), rtol=1e-4, atol=1e-4)


@all_models
def test_encoder_and_decoder_are_exported_for_any_number_of_samples(name: str) -> None:
    class Reconstruct(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = make(name)

        def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
            result: Tensor = self.model.reconstruct(x) if label is None else self.model.reconstruct(x, label)
            return result

    module = Reconstruct().eval()
    few, more = (tuple(fields_of(module.model, samples(n)).values()) for n in (4, 9))
    number = torch.export.Dim("number")
    shapes = tuple({0: number} for _ in few)
    exported = torch.export.export(
        module, few, dynamic_shapes=(*shapes, *(None,) * (2 - len(few)))[: len(few)]
    ).module()
    torch.testing.assert_close(exported(*more), module(*more))


@all_models
def test_samples_and_reconstructions_look_like_the_data(name: str, device: torch.device) -> None:
    model, data = make(name).to(device), samples(5)
    fields = {field: value.to(device) for field, value in fields_of(model, data).items()}
    assert model.reconstruct(**fields).shape == data.x.shape
    drawn = [model.sample(3, generator=torch.Generator().manual_seed(4)) for _ in range(2)]
    assert drawn[0].shape == (3, *SHAPE)
    assert drawn[0].device.type == device.type
    assert torch.equal(*drawn)


@all_models
def test_a_seed_draws_the_same_on_all_devices(name: str, device: torch.device) -> None:
    here, there = make(name).double(), make(name).double().to(device)
    # Linear layers and functions of them in float64 differ only by rounding, by a few hundred units in the last place.
    one, other = (model.sample(4, generator=torch.Generator().manual_seed(1)).cpu() for model in (here, there))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@all_models
def test_assign_gives_the_indices_of_the_output(name: str, device: torch.device) -> None:
    model, data = make(name).to(device), samples(9)
    if not hasattr(model, "assign"):
        assert not hasattr(model, "num_clusters")
        return
    indices = model(data.x.to(device)).indices
    assert indices.dtype == torch.int64
    assert torch.equal(model.assign(data.x.to(device)), indices)
    assert 0 <= indices.min() <= indices.max() < model.num_clusters


@all_models
def test_one_loop_trains_records_and_resumes_with_the_same_bits(name: str, tmp_path: Path) -> None:
    def train(folder: str, epochs: int, *, resume: bool = False) -> tuple[Any, ResultFolder]:
        model = make(name)
        run = ResultFolder.open(tmp_path / folder) if resume else ResultFolder.create(tmp_path / folder, "model")
        if not resume:
            run.save_config({})
        recipe = dataclasses.replace(RECIPE, epochs=epochs)
        fit(model, samples(), recipe, validation=samples(10), run_folder=run, resume=resume, accelerator="cpu")
        return model, run

    straight, run = train("straight", 3)
    train("interrupted", 1)
    resumed, again = train("interrupted", 3, resume=True)
    for (key, one), other in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), key
    for record, other in zip(run.load_log("metrics"), again.load_log("metrics"), strict=True):
        assert {k: v for k, v in record.items() if k != "seconds"} == {k: v for k, v in other.items() if k != "seconds"}
        assert ("usage" in record) == hasattr(straight, "assign")
    assert run.load_log("iterations") == again.load_log("iterations")
    assert [len(record["losses"]["total"]) for record in run.load_log("iterations")] == [3, 3, 3]  # 40 samples by 16


@all_models
def test_validation_does_not_change_what_training_learns(name: str) -> None:
    watched, alone = make(name), make(name)
    fit(watched, samples(), RECIPE, validation=samples(20), accelerator="cpu")
    fit(alone, samples(), RECIPE, accelerator="cpu")
    for one, other in zip(watched.state_dict().values(), alone.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_validation_uses_the_same_draws_after_each_epoch() -> None:
    """With a model that learns nothing, equal draws give equal validation losses."""
    model = make("vae")
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.logvar.bias.requires_grad_(True)
    recipe = dataclasses.replace(RECIPE, learning_rate=1e-30)
    first, second = (r["validation"] for r in fit(model, samples(), recipe, validation=samples(9), accelerator="cpu"))
    assert first == second


NAN_REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("vae", {}),
    ("conditional-vae", {}),
    ("gumbel-vae", {}),
    ("moe-vae", {}),
    ("somvae", {"reconstruction": "bce"}),
    ("vqvae", {"reconstruction": "bce"}),
]


@pytest.mark.parametrize(("name", "options"), NAN_REFUSED, ids=str)
@pytest.mark.parametrize("values", [1, 16])
def test_a_loss_refuses_a_nan_before_it_reaches_the_weights(name: str, options: dict[str, Any], values: int) -> None:
    model, data = make(name, **options), samples(5)
    fields = fields_of(model, data)
    output = model(**fields)
    fields["x"].view(5, 16)[3, :values] = torch.nan
    for method in (model.loss, model.terms):
        with pytest.raises(ValueError, match=rf": x must .*\[0, 1\].*, got NaN in {values} of 80 values"):
            method(output, **fields)


@pytest.mark.parametrize(("name", "options"), NAN_REFUSED, ids=str)
def test_a_value_out_of_range_is_reported_even_if_there_is_a_nan(name: str, options: dict[str, Any]) -> None:
    model, data = make(name, **options), samples(5)
    fields = fields_of(model, data)
    output = model(**fields)
    fields["x"][3, 0, 0, :2] = torch.tensor([torch.nan, 7.0])
    with pytest.raises(ValueError, match=r"got values from .* to 7; scale"):
        model.loss(output, **fields)


@pytest.mark.parametrize(("name", "options"), NAN_REFUSED, ids=str)
def test_training_reports_the_step_of_a_nan_that_a_loss_refuses(name: str, options: dict[str, Any]) -> None:
    data = samples()
    data.x[7, 0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"fit: the \w+ loss is nan at step [123] \(epoch 1\)"):
        fit(make(name, **options), data, RECIPE, accelerator="cpu")
    model = make(name, **options)  # after the training, a loss refuses NaN again
    fields = fields_of(model, data)
    with pytest.raises(ValueError, match="got NaN in 1 of 640 values"):
        model.loss(model(**fields), **fields)


@pytest.mark.parametrize(("name", "options"), NAN_REFUSED, ids=str)
def test_a_nan_in_the_validation_data_does_not_stop_training(name: str, options: dict[str, Any]) -> None:
    held_out = samples(9)
    held_out.x[2, 0, 0, 0] = torch.nan
    history = fit(make(name, **options), samples(), RECIPE, validation=held_out, accelerator="cpu")
    assert math.isnan(history[-1]["validation"]["total"])


def test_a_compiled_loss_does_not_check_values() -> None:
    for name in ("vae", "somvae", "vqvae"):
        _assert_compiled_loss_does_not_check_values(make(name))


def _assert_compiled_loss_does_not_check_values(model: Any) -> None:
    x = samples(5).x
    output = model(x)
    x[3, 0, 0, 0] = torch.nan
    loss = torch.compile(model.loss, backend="eager", fullgraph=True)
    assert loss(output, x).total.isnan()


SQUARED_ERROR: list[tuple[str, dict[str, Any]]] = [("somvae", {}), ("vqvae", {}), ("vqvae", {"codebook_update": "ema"})]
BROKEN = [torch.nan, torch.inf, -torch.inf]


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize(("name", "options"), SQUARED_ERROR, ids=str)
@pytest.mark.parametrize("values", [1, 16])
def test_a_squared_error_refuses_nonfinite_values(
    name: str, options: dict[str, Any], values: int, broken: float, device: torch.device
) -> None:
    model, data = make(name, **options).to(device), samples(5)
    x = data.x.to(device) * 1e3  # finite values of any scale are accepted
    output = model(x)
    assert model.loss(output, x).total.isfinite()
    x.view(5, 16)[3, :values] = broken
    for method in (model.loss, model.terms):
        with pytest.raises(ValueError, match=rf": x must hold finite .*, got NaN or infinity in {values} of 80 values"):
            method(output, x)


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize(("name", "options"), SQUARED_ERROR, ids=str)
def test_training_reports_the_step_of_a_value_that_a_squared_error_refuses(
    name: str, options: dict[str, Any], broken: float
) -> None:
    data = samples()
    data.x[7, 0, 0, 0] = broken
    with pytest.raises(FloatingPointError, match=r"fit: the \w+ loss is (nan|inf) at step [123] \(epoch 1\)"):
        fit(make(name, **options), data, RECIPE, accelerator="cpu")


@pytest.mark.parametrize("extreme", [torch.finfo(torch.float32).max, torch.finfo(torch.float32).tiny / 2])
def test_the_largest_and_the_smallest_numbers_are_accepted(extreme: float) -> None:
    model, x = make("vqvae"), samples(5).x
    output = model(x)
    x[3, 0, 0, :2] = torch.tensor([extreme, -extreme])
    model.loss(output, x)
    assert model.loss(model(x[:0]), x[:0]).total == 0


@pytest.mark.parametrize("name", [name for name in MODELS if name != "conditional-vae"])  # it needs labels
def test_an_exported_model_is_saved_and_loaded_with_its_named_tuples(name: str) -> None:
    model, example = make(name).eval(), (samples(3).x,)
    program = torch.export.export(model, example, dynamic_shapes=({0: torch.export.Dim("samples")},))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    x = samples(7).x
    torch.manual_seed(0)
    expected = model(x)
    torch.manual_seed(0)
    output = torch.export.load(file).module()(x)
    assert type(output) is type(expected)
    torch.testing.assert_close(output, expected)


@pytest.mark.cuda
def test_a_captured_loss_does_not_check_values() -> None:
    model, x = make("vqvae").cuda(), samples(5).x.cuda()
    with torch.no_grad():
        output = model(x)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            model.loss(output, x)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            total = model.loss(output, x).total
        graph.replay()
        assert total.isfinite()
        x[3, 0, 0, 0] = torch.nan
        graph.replay()
        assert total.isnan()


def test_padding_may_hold_nan_with_the_squared_error() -> None:
    model = make("somvae", gamma=1.0)
    x, mask = torch.rand(2, 3, *SHAPE), torch.tensor([[True, True, False], [True, False, False]])
    x[~mask] = torch.nan
    output = model(x, mask)
    assert model.loss(output, x, mask).total.isfinite()
    x[0, 1, 0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"^SOMVAE\.loss: x must hold finite values, got NaN or infinity in 1 of 96"):
        model.loss(output, x, mask)


def test_padding_may_hold_nan_with_the_cross_entropy() -> None:
    model = make("somvae", reconstruction="bce", gamma=1.0)
    x, mask = torch.rand(2, 3, *SHAPE), torch.tensor([[True, True, False], [True, False, False]])
    x[~mask] = torch.nan
    assert model.loss(model(x, mask), x, mask).total.isfinite()


@all_models
def test_a_nan_stops_the_training_and_says_where(name: str, tmp_path: Path) -> None:
    data = samples()
    model = make(name)
    run = ResultFolder.create(tmp_path, "model")
    run.save_config({})
    fit(model, data, dataclasses.replace(RECIPE, epochs=1), run_folder=run, accelerator="cpu")
    before = run.load_weights()
    data.x[7] = torch.nan
    with pytest.raises(
        FloatingPointError,
        match=r"fit: the \w+ loss is nan at step [456] \(epoch 2\), .*; .* holds the checkpoint of epoch 1",
    ) as caught:
        fit(model, data, RECIPE, run_folder=run, resume=True, accelerator="cpu")
    assert str(tmp_path) in str(caught.value)
    assert "the total loss" not in str(caught.value)  # the message names a term, which is more precise
    assert all(torch.equal(value, before[key]) for key, value in run.load_weights().items())


def test_a_nan_in_the_first_epoch_leaves_no_checkpoint_and_the_message_says_so(tmp_path: Path) -> None:
    data, run = samples(), ResultFolder.create(tmp_path, "model")
    run.save_config({})
    data.x[7] = torch.nan
    with pytest.raises(
        FloatingPointError, match=r"at step [123] \(epoch 1\).*; no epoch was completed, so .* holds no checkpoint"
    ):
        fit(make("vae"), data, RECIPE, run_folder=run, accelerator="cpu")


def test_the_training_sets_the_capacities() -> None:
    model = make("gumbel-vae", objective="dupont", capacity_ramp=10, capacity_z=4.0)
    fit(model, samples(), RECIPE, accelerator="cpu")
    assert model.capacity_z.item() == pytest.approx(4.0 * 6 / 10)  # six steps
    other = make("gumbel-vae", **_without_shape(GumbelVAEConfig.with_entropy_capacity()))
    fit(other, samples(), RECIPE, accelerator="cpu")
    assert other.capacity_z.item() == pytest.approx(2 * 100 / 40)  # two epochs


def _without_shape(config: Any) -> dict[str, Any]:
    values = dataclasses.asdict(config)
    del values["input_shape"]
    return values


def test_models_do_not_need_the_extra_train() -> None:
    script = f"""
import sys
for module in ("jsonargparse", "lightning_fabric", "matplotlib", "scipy", "sklearn", "torchvision", "tqdm", "pandas"):
    sys.modules[module] = None  # importing it raises ModuleNotFoundError
import torch
from somvae_ext.models import MODELS
x, label = torch.rand(4, *{SHAPE}), torch.arange(4)
for name, make in MODELS.items():
    model = make(make.config_type(input_shape={SHAPE}))
    fields = {{"x": x}} | ({{"label": label}} if "label" in model.batch_fields else {{}})
    model.loss(model(**fields), **fields).total.backward()
    model.sample(2)
print(*MODELS)
"""
    done = children.run("-W", "ignore", "-c", script, imported=children.TORCH)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == list(MODELS)
