"""Scaling: fitted to blocks and to samples, applied to arrays and tensors, undone, and saved as JSON.

The oracle of the fit is Python's statistics module, which computes with fractions; the oracle of the mapping is
Python's float arithmetic, one value at a time.
"""

from __future__ import annotations

import json
import math
import statistics
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from rounding import gamma
from torch import Tensor

from somvae_ext.data import Samples, Scaling
from somvae_ext.data.scaling import ScalingKind

BYTES = Scaling("minmax", shift=(0.0,), width=(255.0,))
FITTED: tuple[ScalingKind, ...] = ("standard", "minmax")
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
Rows = NDArray[np.float64]


@st.composite
def rows(draw: st.DrawFn, *, gaps: bool = False) -> Rows:
    """Rows [N, D] of any magnitude or with a large offset; with ``gaps``, NaN anywhere except in the first row."""
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
    if draw(st.booleans()):
        x = draw(hnp.arrays(np.float64, shape, elements=FINITE))
    else:
        x = 1e8 + draw(hnp.arrays(np.float64, shape, elements=st.floats(-1, 1)))
    if gaps:
        x[1:][draw(hnp.arrays(np.bool_, (shape[0] - 1, shape[1])))] = np.nan
    return x


def cut(x: Rows, places: list[int]) -> list[Rows]:
    """Splits rows into blocks, some of which may be empty."""
    return np.split(x, sorted(place % (len(x) + 1) for place in places))


CUTS = st.lists(st.integers(0, 12), max_size=4)


def values_of(column: Rows) -> list[float]:
    return [value for value in column.tolist() if not math.isnan(value)]


# ---- fit -------------------------------------------------------------------------------------------------------------


@given(rows(gaps=True), CUTS)
def test_standard_is_the_mean_and_the_standard_deviation_of_all_blocks(x: Rows, places: list[int]) -> None:
    scaling = Scaling.fit("standard", cut(x, places), x.shape[1])
    assert scaling.kind == "standard"
    for column, shift, width in zip(x.T, scaling.shift, scaling.width, strict=True):
        values = values_of(column)
        # A mean takes one rounding per value and six per merged block, of which there are at most five. The standard
        # deviation is the root of a mean square, so an error of the means changes it by at most that error.
        error = gamma(2 * (len(values) + 6 * 5), torch.float64) * max(map(abs, values))
        assert shift == pytest.approx(statistics.mean(values), rel=0, abs=error)
        assert width == pytest.approx(statistics.pstdev(values), rel=0, abs=error)


@given(rows(gaps=True), CUTS)
def test_minmax_is_the_smallest_value_and_the_range_of_all_blocks(x: Rows, places: list[int]) -> None:
    low, high = np.nanmin(x, axis=0), np.nanmax(x, axis=0)
    expected = Scaling("minmax", tuple(low.tolist()), tuple((high - low).tolist()))
    assert Scaling.fit("minmax", cut(x, places), x.shape[1]) == expected


def test_a_small_spread_beside_a_large_offset_is_not_lost() -> None:
    x = 1e8 + np.random.default_rng(0).normal(size=(1000, 1))
    (width,) = Scaling.fit("standard", np.array_split(x, 7), 1).width
    # An error d of the mean turns the deviation s into sqrt(s^2 + d^2); for a sum of 1000 values near 1e8, d < 1e-4.
    # Subtracting the squared mean from the mean square, both near 1e16, would lose s completely.
    assert width == pytest.approx(statistics.pstdev(x[:, 0].tolist()), rel=1e-8)


@given(st.sampled_from(FITTED), FINITE, st.integers(1, 12), CUTS)
def test_a_constant_feature_is_found_exactly(kind: ScalingKind, value: float, count: int, places: list[int]) -> None:
    scaling = Scaling.fit(kind, cut(np.full((count, 1), value), places), 1)
    assert scaling == Scaling(kind, shift=(value,), width=(0.0,))


@pytest.mark.parametrize("kind", FITTED)
def test_a_feature_without_any_value_has_shift_and_width_0(kind: ScalingKind) -> None:
    x = np.array([[np.nan, 1.0], [np.nan, 3.0]])
    scaling = Scaling.fit(kind, [x[:1], x[1:]], 2)
    assert (scaling.shift[0], scaling.width[0]) == (0, 0)
    assert np.isnan(scaling.apply(x)[:, 0]).all()


def test_none_does_not_read_the_data() -> None:
    def blocks() -> Any:
        raise AssertionError
        yield

    assert Scaling.fit("none", blocks(), 3) == Scaling()


@pytest.mark.parametrize("kind", FITTED)
@pytest.mark.parametrize("values", [[1.0, np.inf], [-np.inf, -np.inf], [-1.7e308, 1.7e308]])
def test_infinite_statistics_are_refused(values: list[float], kind: ScalingKind) -> None:
    with pytest.raises(ValueError, match="Scaling: shift and width must be finite numbers, and width at least 0, got"):
        Scaling.fit(kind, [np.array(values)[:, None]], 1)


# ---- fit to samples --------------------------------------------------------------------------------------------------

TABLE = torch.tensor([[0.0, 3.0], [1.0, 5.0]])
IMAGES = torch.tensor([[[-1.0, 0.0]], [[1.0, 3.0]]])
IMAGE_BYTES = torch.tensor([[[3, 200]]], dtype=torch.uint8)


@pytest.mark.parametrize(
    ("kind", "x", "tabular", "expected"),
    [
        (None, TABLE, True, Scaling("minmax", (0.0, 3.0), (1.0, 2.0))),
        ("minmax", TABLE, True, Scaling("minmax", (0.0, 3.0), (1.0, 2.0))),
        ("standard", TABLE, True, Scaling("standard", (0.5, 4.0), (0.5, 1.0))),
        ("none", TABLE, True, Scaling()),
        (None, IMAGES, False, Scaling("minmax", (-1.0,), (4.0,))),
        (None, IMAGES.clamp(0, 1), False, Scaling()),
        ("standard", IMAGES, False, Scaling("standard", (0.75,), (math.sqrt(35) / 4,))),
        ("none", IMAGES, False, Scaling()),
        (None, IMAGE_BYTES, False, BYTES),
        ("standard", IMAGE_BYTES, False, Scaling("standard", (101.5,), (98.5,))),
        ("none", IMAGE_BYTES, False, Scaling()),
    ],
)
def test_tables_are_scaled_by_feature_and_images_as_a_whole(
    kind: ScalingKind | None, x: Tensor, tabular: bool, expected: Scaling
) -> None:
    scaling = Scaling.from_samples(Samples(x), tabular=tabular, kind=kind)
    assert (scaling.kind, scaling.shift) == (expected.kind, expected.shift)
    assert scaling.width == pytest.approx(expected.width, rel=gamma(4, torch.float64))


@pytest.mark.parametrize("tabular", [True, False])
def test_padding_does_not_count(tabular: bool) -> None:
    x = torch.tensor([[[1.0], [2.0]], [[3.0], [-99.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    scaling = Scaling.from_samples(Samples(x, mask=mask), tabular=tabular)
    assert scaling == Scaling("minmax", (1.0,), (2.0,))


@pytest.mark.parametrize("kind", FITTED)
def test_samples_of_many_blocks_are_fitted_like_those_of_one(
    kind: ScalingKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    whole = Scaling.from_samples(Samples(x), tabular=True, kind=kind)
    monkeypatch.setattr("somvae_ext.data.scaling._VALUES_PER_BLOCK", 10)
    blocks = Scaling.from_samples(Samples(x), tabular=True, kind=kind)
    tolerance = gamma(200, torch.float64) * x.abs().max().item()
    assert blocks.shift == pytest.approx(whole.shift, rel=0, abs=tolerance)
    assert blocks.width == pytest.approx(whole.width, rel=0, abs=tolerance)


@given(st.lists(FINITE, min_size=1, max_size=20))
def test_minmax_brings_training_data_to_the_unit_interval(values: list[float]) -> None:
    x = torch.tensor(values)[:, None]
    scaled = Scaling.from_samples(Samples(x), tabular=True).apply_to_samples(Samples(x)).x
    assert scaled.dtype == torch.float32
    assert ((scaled >= 0) & (scaled <= 1)).all()
    assert len(x.unique()) == 1 or (scaled.min(), scaled.max()) == (0, 1)


# ---- apply and undo --------------------------------------------------------------------------------------------------


@given(rows(), st.sampled_from(FITTED), st.sampled_from([np.float32, np.float64]))
def test_arrays_and_tensors_are_mapped_alike_in_float64_and_rounded_once(
    x: Rows, kind: ScalingKind, dtype: Any
) -> None:
    x = x.astype(dtype)
    scaling = Scaling.fit(kind, [x], x.shape[1])
    terms = list(zip(scaling.shift, scaling.width, strict=True))
    expected = [
        [(value - shift) / (width if width > 0 else 1.0) for value, (shift, width) in zip(row, terms, strict=True)]
        for row in x.tolist()
    ]
    array, tensor = scaling.apply(x), scaling.apply(torch.from_numpy(x))
    assert (array.dtype, tensor.dtype) == (np.float32, torch.from_numpy(x).dtype)
    np.testing.assert_array_equal(array, np.array(expected).astype(np.float32))
    np.testing.assert_array_equal(tensor.numpy(), np.array(expected).astype(dtype))

    original = [
        [value * width + shift for value, (shift, width) in zip(row, terms, strict=True)] for row in array.tolist()
    ]
    assert scaling.undo(array).dtype == np.float64
    np.testing.assert_array_equal(scaling.undo(array), np.array(original))
    with np.errstate(over="ignore"):  # float32 rounds values near its largest up to infinity
        np.testing.assert_array_equal(
            scaling.undo(torch.from_numpy(array)).numpy(), np.array(original).astype(np.float32)
        )


@given(rows(gaps=True), st.sampled_from(FITTED))
def test_undo_restores_the_data(x: Rows, kind: ScalingKind) -> None:
    scaling = Scaling.fit(kind, [x], x.shape[1])
    array = scaling.undo(scaling.apply(x))
    tensor = scaling.undo(scaling.apply(torch.from_numpy(x))).numpy()
    # Difference, quotient, product and sum take one rounding each; the array is rounded to float32 in between.
    in_float64 = gamma(4, torch.float64) * (np.abs(x) + 2 * np.abs(scaling.shift))
    in_float32 = gamma(1, torch.float32) * np.abs(x - np.array(scaling.shift)) + in_float64
    gaps = np.isnan(x)
    assert (np.isnan(tensor) == gaps).all()
    assert (np.isnan(array) == gaps).all()
    assert (np.abs(tensor - x) <= in_float64)[~gaps].all()
    # A scaled value may have lost as much as the smallest positive float32.
    lost = np.finfo(np.float32).smallest_subnormal * np.array(scaling.width, dtype=np.float64)
    assert (np.abs(array - x) <= in_float32 + lost)[~gaps].all()


@pytest.mark.parametrize("kind", FITTED)
@pytest.mark.parametrize("value", [0.1, -7.0, 1e8 + 1 / 3])
def test_a_constant_feature_maps_to_zero_and_back_to_its_value(value: float, kind: ScalingKind) -> None:
    scaling = Scaling(kind, shift=(value,), width=(0.0,))
    x = torch.full((3, 1), value, dtype=torch.float64)
    other = torch.tensor([[-2.0], [0.0], [0.5]], dtype=torch.float64)
    assert scaling.apply(x).eq(0).all()
    assert scaling.apply(x.numpy()).tolist() == [[0], [0], [0]]
    assert scaling.apply(x + 2).eq(x + 2 - value).all()  # other data are only shifted
    assert scaling.undo(other).equal(x)
    assert scaling.undo(other.numpy()).tolist() == x.tolist()


def test_a_single_shift_and_width_apply_to_all_values() -> None:
    images = torch.ones(2, 3, 5)
    assert Scaling("minmax", (-1.0,), (4.0,)).apply(images).eq(0.5).all()
    assert (Scaling("minmax", (-1.0,), (4.0,)).apply(images.numpy()) == 0.5).all()


def test_none_leaves_values_as_they_are() -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    array = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert Scaling().apply(x).equal(x)
    assert Scaling().undo(x).equal(x)
    assert Scaling().apply(array) is array
    assert Scaling().undo(array).dtype == np.float64
    assert Scaling().undo(array).tolist() == array.tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_tensors_keep_a_floating_dtype_and_integers_become_float32(dtype: torch.dtype) -> None:
    scaling = Scaling("standard", (1.0, 2.0), (2.0, 4.0))
    expected = dtype if dtype.is_floating_point else torch.float32
    scaled = scaling.apply(torch.tensor([[2, 3]], dtype=dtype))
    assert (scaled.dtype, scaled.tolist()) == (expected, [[0.5, 0.25]])
    original = scaling.undo(torch.tensor([[1, 2]], dtype=dtype))
    assert (original.dtype, original.tolist()) == (expected, [[3, 10]])


def test_bytes_are_mapped_to_the_unit_interval_only_without_scaling() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    from_torchvision = images.to(torch.float32).div(255)
    for scaling in (Scaling(), BYTES):
        assert scaling.apply(images).equal(from_torchvision)
    for scaling in (Scaling("minmax", (3.0,), (197.0,)), Scaling("standard", (100.0,), (50.0,))):
        assert scaling.apply(images).equal(scaling.apply(images.float()))


@pytest.mark.cuda
def test_tensors_stay_on_their_device() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    scaling = Scaling.from_samples(Samples(x), tabular=True, kind="standard")
    assert scaling == Scaling.from_samples(Samples(x.cuda()), tabular=True, kind="standard")
    scaled = scaling.apply(x.cuda())
    assert scaled.is_cuda
    assert scaling.undo(scaled).is_cuda
    assert scaled.cpu().equal(scaling.apply(x))
    assert scaling.undo(scaled).cpu().equal(scaling.undo(scaling.apply(x)))


@pytest.mark.parametrize("of", [torch.zeros, np.zeros])
def test_another_number_of_features_is_refused(of: Any) -> None:
    scaling = Scaling("minmax", (0.0, 0.0), (1.0, 1.0))
    for shape in ((4, 3), (4, 1)):
        for method in (scaling.apply, scaling.undo):
            with pytest.raises(ValueError, match=rf"x must have 2 features like the data .* fitted to, got {shape[1]}"):
                method(of(shape))


# ---- construction and JSON -------------------------------------------------------------------------------------------


@given(rows(gaps=True), st.sampled_from(["standard", "minmax", "none"]))
def test_a_scaling_survives_json(x: Rows, kind: ScalingKind) -> None:
    scaling = Scaling.fit(kind, [x], x.shape[1])
    assert Scaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


def test_integers_of_json_become_floats() -> None:
    scaling = Scaling.from_dict({"kind": "minmax", "shift": [10**30], "width": [1]})
    assert scaling.apply(torch.tensor([[1e30]], dtype=torch.float64)).eq(0).all()
    assert [type(value) for value in scaling.shift + scaling.width] == [float, float]


@pytest.mark.parametrize(
    ("kind", "shift", "width", "message"),
    [
        ("robust", (0.0,), (1.0,), "kind must be 'standard', 'minmax' or 'none', got 'robust'"),
        ("minmax", (0.0, 0.0), (1.0,), "the same number of values, at least one, for 'minmax', got 2 and 1 values"),
        ("standard", (), (), "the same number of values, at least one, for 'standard', got 0 and 0 values"),
        ("none", (0.0,), (1.0,), "shift and width must be empty for 'none', got 1 and 1 values"),
        ("minmax", (0.0,), (-1.0,), "width at least 0, got 0.0 and -1.0"),
        ("minmax", (math.nan,), (1.0,), "must be finite numbers, and width at least 0, got nan and 1.0"),
        ("minmax", (0.0,), (math.inf,), "must be finite numbers, and width at least 0, got 0.0 and inf"),
        ("minmax", (10**400,), (1.0,), "must be finite numbers"),
        ("minmax", ("0",), (1.0,), "must be finite numbers, and width at least 0, got '0' and 1.0"),
        ("minmax", (0.0,), (True,), "must be finite numbers, and width at least 0, got 0.0 and True"),
    ],
)
def test_invalid_scalings_are_refused(kind: Any, shift: Any, width: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^Scaling: .*{message}"):
        Scaling(kind, shift, width)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "must be an object of 'kind', 'shift' and 'width', got None"),
        ({}, "must be an object of 'kind', 'shift' and 'width', got nothing"),
        ({"minimum": [0], "maximum": [1]}, "of 'kind', 'shift' and 'width', got 'minimum', 'maximum'"),
        ({"kind": "minmax", "shift": 0, "width": [1]}, "shift must be a list of numbers, got 0"),
        ({"kind": "minmax", "shift": [0], "width": {"0": 1}}, r"width must be a list of numbers, got \{'0': 1\}"),
        ({"kind": ["minmax"], "shift": [0], "width": [1]}, r"kind must be .*, got \['minmax'\]"),
        ({"kind": "minmax", "shift": [None], "width": [1]}, "must be finite numbers, .*, got None and 1"),
    ],
)
def test_json_without_a_valid_scaling_is_refused(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^Scaling: .*{message}"):
        Scaling.from_dict(values)
