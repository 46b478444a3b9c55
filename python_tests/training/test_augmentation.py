"""Tests of the augmentation: transforms against a pixel-by-pixel oracle, random parameters, and use in training."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from somvae_ext.config_checks import config_from_section
from somvae_ext.data import Samples
from somvae_ext.models import SOMVAE, SOMVAEConfig
from somvae_ext.store import ResultFolder
from somvae_ext.training import TrainingConfig, fit
from somvae_ext.training.augmentation import AffineAugmentation, augmentation_for, warp

SHAPE = (1, 6, 9)
AUGMENTED = AffineAugmentation(max_shift=2, max_rotation=40, max_scale=0.3, max_shear=0.2)
RECIPE = TrainingConfig(epochs=3, batch_size=4, learning_rate=1e-2, **dataclasses.asdict(AUGMENTED))


class Parameters(NamedTuple):
    """Parameters of an affine transform: scale factors, shear, angle in radians, and shifts in pixels."""

    scale_x: float
    scale_y: float
    shear: float
    angle: float
    shift_x: float
    shift_y: float


def forward_map(parameters: Parameters) -> np.ndarray:
    """Returns the map ``[3, 3]`` of points (x, y, 1): scaling, then shear, rotation and shift."""
    scale_x, scale_y, shear, angle, shift_x, shift_y = parameters
    cos, sin = math.cos(angle), math.sin(angle)
    scaled = np.diag([scale_x, scale_y, 1])
    sheared = np.array([[1, shear, 0], [0, 1, 0], [0, 0, 1]])
    rotated = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    shifted = np.array([[1, 0, shift_x], [0, 1, shift_y], [0, 0, 1]])
    return shifted @ rotated @ sheared @ scaled


def parameters_of(inverse: Tensor) -> Parameters:
    """Recovers the parameters of a sampling map ``[2, 3]`` by a QR decomposition of its inverse."""
    matrix = np.linalg.inv(np.vstack([inverse.numpy(), [0, 0, 1]]))
    angle = math.atan2(matrix[1, 0], matrix[0, 0])
    cos, sin = math.cos(angle), math.sin(angle)
    scale_x = math.hypot(matrix[0, 0], matrix[1, 0])
    shear_by_scale, scale_y = np.array([[cos, sin], [-sin, cos]]) @ matrix[:2, 1]
    return Parameters(scale_x, scale_y, shear_by_scale / scale_y, angle, matrix[0, 2], matrix[1, 2])


def transform(image: np.ndarray, forward: np.ndarray) -> np.ndarray:
    """Transforms the image ``[H, W]`` in float64; each pixel is interpolated at its inverse image."""
    height, width = image.shape
    inverse = np.linalg.inv(forward)
    result = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            x, y, _ = inverse @ (column - (width - 1) / 2, row - (height - 1) / 2, 1)
            x, y = x + (width - 1) / 2, y + (height - 1) / 2
            left, top = math.floor(x), math.floor(y)
            for i in (top, top + 1):
                for j in (left, left + 1):
                    if 0 <= i < height and 0 <= j < width:
                        result[row, column] += (1 - abs(x - j)) * (1 - abs(y - i)) * image[i, j]
    return result


def images(*leading: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Tensor:
    return torch.rand(*leading, *shape, generator=torch.Generator().manual_seed(seed))


def tolerance(dtype: torch.dtype, *size: int) -> float:
    """Returns the effect of about 16 roundings of a coordinate on values that change by at most 2 per pixel."""
    return 2 * 16 * torch.finfo(dtype).eps * max(size)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(7, 7), (8, 8), (6, 11), (13, 4), (1, 5)], ids=str)
def test_images_match_the_oracle(size: tuple[int, int], dtype: torch.dtype) -> None:
    x = images(6, shape=(2, *size)).to(dtype)
    augmentation = AffineAugmentation(max_shift=3, max_rotation=180, max_scale=0.5, max_shear=0.4)
    torch.manual_seed(1)
    result = augmentation(x)
    torch.manual_seed(1)
    transforms = [forward_map(parameters_of(inverse)) for inverse in augmentation.draw(6)]
    expected = [
        [transform(channel.double().numpy(), forward) for channel in image]
        for image, forward in zip(x, transforms, strict=True)
    ]
    assert result.dtype == dtype
    torch.testing.assert_close(result.double(), torch.tensor(np.array(expected)), rtol=0, atol=tolerance(dtype, *size))


@pytest.mark.parametrize(
    ("parameters", "target"),
    [
        (Parameters(1, 1, 0, 0, 2, -1), (2, 6)),  # the pixel at (3, 4) goes one up, two to the right
        (Parameters(1, 1, 0, math.pi / 2, 0, 0), (1, 6)),
        (Parameters(2, 1, 0, 0, 0, 0), (3, 2)),
        (Parameters(1, 1, 3, math.pi, 0, 0), (3, 8)),
    ],
    ids=["shift", "clockwise quarter", "twice as wide", "half turn"],
)
def test_a_pixel_moves_to_its_expected_position(parameters: Parameters, target: tuple[int, int]) -> None:
    x = torch.zeros(1, 1, 7, 13, dtype=torch.float64)
    x[0, 0, 3, 4] = 1  # two pixels to the left of the center (3, 6)
    inverse = torch.tensor(np.linalg.inv(forward_map(parameters))[None, :2])
    result = warp(x, inverse)[0, 0]
    assert result[target].item() == pytest.approx(1, abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(
    max_shift=st.floats(0, 5),
    max_rotation=st.floats(0, 179),
    max_scale=st.floats(0, 0.9),
    max_shear=st.floats(0, 2),
    seed=st.integers(0, 1000),
)
def test_drawn_parameters_are_within_their_bounds(
    max_shift: float, max_rotation: float, max_scale: float, max_shear: float, seed: int
) -> None:
    torch.manual_seed(seed)
    drawn = AffineAugmentation(max_shift, max_rotation, max_scale, max_shear).draw(8)
    for scale_x, scale_y, shear, angle, shift_x, shift_y in map(parameters_of, drawn):
        slack = 1e-9  # float64, inverted with a condition number of up to about 1e3
        assert max(abs(scale_x - 1), abs(scale_y - 1)) <= max_scale + slack
        assert abs(shear) <= max_shear + slack
        assert abs(math.degrees(angle)) <= max_rotation + slack
        assert max(abs(shift_x), abs(shift_y)) <= max_shift + slack


def test_drawn_parameters_are_independent_and_cover_their_range() -> None:
    torch.manual_seed(0)
    bounds = np.array([0.3, 0.3, 0.2, math.radians(40), 2, 2])
    drawn = np.array([parameters_of(inverse) for inverse in AUGMENTED.draw(2000)])
    unit = (drawn - [1, 1, 0, 0, 0, 0]) / bounds
    assert (unit.min(axis=0) < -0.98).all()
    assert (unit.max(axis=0) > 0.98).all()
    # The covariance of uniform numbers on [-1, 1] is 1/3; five standard errors of 2,000 of them.
    np.testing.assert_allclose(unit.T @ unit / 2000, np.eye(6) / 3, rtol=0, atol=5 / 3 / math.sqrt(2000))


def test_the_draw_of_a_part_does_not_depend_on_the_bounds_of_the_others() -> None:
    torch.manual_seed(0)
    alone = [parameters_of(inverse).angle for inverse in AffineAugmentation(max_rotation=40).draw(5)]
    torch.manual_seed(0)
    together = [parameters_of(inverse).angle for inverse in AUGMENTED.draw(5)]
    assert alone == pytest.approx(together, abs=1e-12)


def test_with_bounds_of_zero_images_are_unchanged_and_nothing_is_drawn() -> None:
    x, state = images(3), torch.get_rng_state()
    assert AffineAugmentation()(x) is x
    assert torch.get_rng_state().equal(state)
    assert augmentation_for(AffineAugmentation(), nn.Linear(2, 2)) is None


def test_samples_get_different_transforms_and_frames_of_a_series_the_same() -> None:
    torch.manual_seed(0)
    frame = images(1)
    result = AUGMENTED(frame.expand(4, *SHAPE)[:, None].expand(4, 3, *SHAPE))
    assert result.shape == (4, 3, *SHAPE)
    assert result.equal(result[:, :1].expand_as(result))
    assert all(not result[i].equal(result[j]) for i in range(4) for j in range(i))


def test_a_series_is_transformed_frame_by_frame() -> None:
    x = images(3, 4)
    torch.manual_seed(0)
    result = AUGMENTED(x)
    for frame in range(4):
        torch.manual_seed(0)
        assert AUGMENTED(x[:, frame]).equal(result[:, frame])


def test_frames_of_nan_do_not_affect_the_others() -> None:
    x = images(3, 4)
    broken = x.clone()
    broken[:, 2:] = torch.nan
    torch.manual_seed(0)
    expected = AUGMENTED(x)
    torch.manual_seed(0)
    assert AUGMENTED(broken)[:, :2].equal(expected[:, :2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_dtypes_are_computed_in_float32(dtype: torch.dtype) -> None:
    x = images(3).to(dtype)
    torch.manual_seed(0)
    result = AUGMENTED(x)
    torch.manual_seed(0)
    assert result.equal(AUGMENTED(x.float()).to(dtype))


@pytest.mark.parametrize("bound", ["max_shift", "max_shear"])
def test_absurd_bounds_leave_values_finite(bound: str) -> None:
    result = AffineAugmentation(**{bound: 1e300})(images(5))
    assert ((result >= 0) & (result <= 1)).all()


@pytest.mark.cuda
def test_the_same_seed_gives_the_same_images_on_cuda() -> None:
    x = images(8, 3, shape=(2, 28, 20))
    torch.manual_seed(0)
    expected = AUGMENTED(x)
    torch.manual_seed(0)
    result = AUGMENTED(x.cuda())
    assert result.is_cuda
    torch.testing.assert_close(result.cpu(), expected, rtol=0, atol=tolerance(torch.float32, 28, 20))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_shift": -1}, "max_shift must be a finite number of at least 0, got -1"),
        ({"max_shift": math.inf}, "max_shift must be a finite number of at least 0, got inf"),
        ({"max_rotation": 181}, "max_rotation must be a finite number from 0 to 180, got 181"),
        ({"max_scale": 1.0}, "max_scale must be a finite number of at least 0 and below 1, got 1.0"),
        ({"max_shear": math.nan}, "max_shear must be a finite number of at least 0, got nan"),
    ],
)
@pytest.mark.parametrize("config", [TrainingConfig, AffineAugmentation])
def test_invalid_bounds_are_refused(config: type, options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{config.__name__}: {message}"):
        config(**options)


@pytest.mark.parametrize("shape", [(5, 6), (2, 6, 9), (2, 2, 2, 1, 6, 9)])
def test_only_images_and_series_of_images_are_transformed(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"AffineAugmentation: x must have shape \[N, C, H, W\] or \[N, T, C, H, W\]"):
        AUGMENTED(torch.rand(shape))


class Losses(NamedTuple):
    total: Tensor


class ImageConfig(NamedTuple):
    input_shape: tuple[int, ...] = SHAPE


class RecordingModel(nn.Module):
    """Learns a bias, and records the arguments of the forward pass and the loss."""

    batch_fields: ClassVar[tuple[str, ...]] = ("x", "mask")

    def __init__(self) -> None:
        super().__init__()
        self.config = ImageConfig()
        self.bias = nn.Parameter(torch.zeros(()))
        self.seen: dict[bool, list[tuple[Tensor, Tensor]]] = {True: [], False: []}

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return x + self.bias

    def loss(self, output: Tensor, x: Tensor, mask: Tensor | None = None) -> Losses:
        self.seen[self.training].append((output.detach() - self.bias.detach(), x))
        return Losses((output - x).square().mean())


def test_training_transforms_the_inputs_but_not_the_targets() -> None:
    model, x = RecordingModel(), images(8)
    fit(model, Samples(x), RECIPE, accelerator="cpu")
    given_images = [image for seen, _ in model.seen[True] for image in seen]
    clean = [image for _, target in model.seen[True] for image in target]
    assert len(given_images) == 8 * 3
    assert all(any(image.equal(sample) for sample in x) for image in clean)
    # In each epoch every image differs from the sample and from its versions in earlier epochs.
    assert not any(torch.allclose(a, b, atol=1e-3) for a, b in zip(given_images, clean, strict=True))
    assert not any(torch.allclose(a, b, atol=1e-3) for i, a in enumerate(given_images) for b in given_images[:i])


def test_validation_and_metrics_see_clean_images_only() -> None:
    model, held_out = RecordingModel(), images(5, seed=1)
    state: list[Tensor] = []
    history = fit(
        model,
        Samples(images(8)),
        RECIPE,
        validation=Samples(held_out),
        metrics=lambda: {"total": model.loss(model(held_out), held_out).total.item()},
        after_epoch=lambda _: state.append(model.bias.detach().clone()),
        accelerator="cpu",
    )
    assert len(model.seen[False]) == 3 * (2 + 1)  # two batches and the metrics in each epoch
    assert all(any(image.equal(sample) for sample in held_out) for _, target in model.seen[False] for image in target)
    eps = torch.finfo(torch.float32).eps  # the bias was added to the recorded image and subtracted
    assert all(torch.allclose(seen, target, rtol=0, atol=4 * eps) for seen, target in model.seen[False])
    for record, bias in zip(history, state, strict=True):  # a clean image differs from its output only by the bias
        assert record["validation"]["total"] == pytest.approx(bias.square().item(), rel=1e-3)
        assert record["metrics"]["total"] == pytest.approx(bias.square().item(), rel=1e-3)


def test_training_on_series_ignores_padding_of_nan() -> None:
    torch.manual_seed(0)
    model = SOMVAE(SOMVAEConfig(input_shape=SHAPE, rows=2, cols=3, latent_dim=4, hidden_sizes=(8,), gamma=1.0, tau=0.5))
    mask = torch.arange(5) < torch.arange(8)[:, None] % 5 + 1
    x = torch.where(mask[..., None, None, None], images(8, 5), torch.nan)
    history = fit(model, Samples(x, mask=mask), RECIPE, accelerator="cpu")
    assert all(math.isfinite(value) for record in history for value in record["train"].values())
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def som_vae() -> SOMVAE:
    torch.manual_seed(0)
    return SOMVAE(SOMVAEConfig(input_shape=SHAPE, rows=2, cols=3, latent_dim=4, hidden_sizes=(8,)))


def test_a_resumed_training_is_bit_identical_to_an_uninterrupted_one(tmp_path: Path) -> None:
    data = Samples(images(10))
    whole = som_vae()
    expected = fit(whole, data, RECIPE, validation=data, accelerator="cpu")
    folder = ResultFolder.create(tmp_path, "model")
    folder.save_config({})
    first = dataclasses.replace(RECIPE, epochs=1)
    fit(som_vae(), data, first, validation=data, run_folder=folder, accelerator="cpu")
    torch.rand(13)  # the generators of a new process are in other states
    parts, opened = som_vae(), ResultFolder.open(tmp_path)
    history = fit(parts, data, RECIPE, validation=data, run_folder=opened, resume=True, accelerator="cpu")
    for name in ("train", "validation"):
        assert [record[name] for record in history] == [record[name] for record in expected]
    assert all(value.equal(parts.state_dict()[name]) for name, value in whole.state_dict().items())


def test_validation_and_metrics_do_not_change_an_augmented_training() -> None:
    data = Samples(images(10))
    alone, watched = som_vae(), som_vae()
    fit(alone, data, RECIPE, accelerator="cpu")
    fit(watched, data, RECIPE, validation=data, metrics=lambda: {"drawn": torch.rand(()).item()}, accelerator="cpu")
    assert all(value.equal(watched.state_dict()[name]) for name, value in alone.state_dict().items())


class Unconfigured(nn.Module):
    batch_fields: ClassVar[tuple[str, ...]] = ("x",)

    def loss(self, output: Tensor, x: Tensor) -> Losses:
        raise AssertionError("nothing may be trained")


@pytest.mark.parametrize(
    ("model", "came"),
    [
        (SOMVAE(SOMVAEConfig(input_shape=(6,), rows=2, cols=2, latent_dim=2)), r"\(6,\)"),
        (Unconfigured(), "one without"),
    ],
    ids=["table", "without input_shape"],
)
def test_models_of_other_data_than_images_are_refused(model: SOMVAE | Unconfigured, came: str) -> None:
    message = rf"^fit: max_scale needs images, .* config\.input_shape is \(C, H, W\), got {came}; set max_scale to 0$"
    with pytest.raises(ValueError, match=message):
        fit(model, Samples(torch.rand(4, 6)), TrainingConfig(max_scale=0.1, max_shear=0.1), accelerator="cpu")


def test_configs_without_augmentation_fields_have_no_augmentation() -> None:
    values = dataclasses.asdict(TrainingConfig(epochs=7))
    earlier = {name: value for name, value in values.items() if not name.startswith("max_") or name == "max_grad_norm"}
    assert len(earlier) == len(values) - 4
    assert config_from_section(TrainingConfig, json.loads(json.dumps(earlier))) == TrainingConfig(epochs=7)
