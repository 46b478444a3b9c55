"""Scaling to [0, 1]: by hand, on the training split only, and through JSON."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from somvae_ext.data import Samples, Scaling

VALUES = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20)


def test_each_feature_is_scaled_by_its_own_ends() -> None:
    scaling = Scaling.fit(Samples(torch.tensor([[0.0, 10.0], [4.0, 20.0]])), per_feature=True)
    assert scaling == Scaling((0.0, 10.0), (4.0, 20.0))
    assert scaling.apply(torch.tensor([[1.0, 10.0], [8.0, 15.0]])).tolist() == [[0.25, 0], [2, 0.5]]


def test_images_are_scaled_as_a_whole() -> None:
    scaling = Scaling.fit(Samples(torch.tensor([[[-1.0, 0.0]], [[1.0, 3.0]]])), per_feature=False)
    assert scaling == Scaling((-1.0,), (3.0,))
    assert scaling.apply(torch.ones(2, 3, 5)).eq(0.5).all()


def test_padding_does_not_count() -> None:
    x = torch.tensor([[[1.0], [2.0]], [[3.0], [-99.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    assert Scaling.fit(Samples(x, mask=mask), per_feature=True) == Scaling((1.0,), (3.0,))


def test_without_arguments_nothing_changes() -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert Scaling().apply(x).equal(x)


def test_bytes_are_values_from_0_to_255_and_only_a_scaling_that_does_nothing_brings_them_to_the_unit_interval() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    from_torchvision = images.to(torch.float32).div(255)
    for scaling in (Scaling(), Scaling((0.0,), (255.0,))):
        assert scaling.apply(images).equal(from_torchvision)
    fitted = Scaling((3.0,), (200.0,))
    assert fitted.apply(images).equal(fitted.apply(images.float()))


def test_a_constant_feature_becomes_zero() -> None:
    assert Scaling((5.0,), (5.0,)).apply(torch.full((3, 1), 5.0)).eq(0).all()


@given(VALUES)
def test_what_it_was_fitted_to_lands_between_zero_and_one(values: list[float]) -> None:
    x = torch.tensor(values)[:, None]
    scaled = Scaling.fit(Samples(x), per_feature=True).apply(x)
    assert scaled.dtype == torch.float32
    assert ((scaled >= 0) & (scaled <= 1)).all()
    assert len(x.unique()) == 1 or (scaled.min(), scaled.max()) == (0, 1)


@given(VALUES)
def test_it_survives_json(values: list[float]) -> None:
    scaling = Scaling.fit(Samples(torch.tensor([values, values])), per_feature=True)
    assert Scaling.from_dict(json.loads(json.dumps(scaling.to_dict()))) == scaling


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"x must have 2 features like the data .* was fitted to, got 3"):
        Scaling((0.0, 0.0), (1.0, 1.0)).apply(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="must hold the same number of values, at least one, got 2 and 1"):
        Scaling((0.0, 0.0), (1.0,))
    with pytest.raises(ValueError, match="must hold the same number of values, at least one, got 0 and 0"):
        Scaling((), ())
    for low, high in ((1.0, 0.0), (float("nan"), 1.0), (0.0, float("inf"))):
        with pytest.raises(ValueError, match=f"minimum must be finite and at most maximum, got {low} and {high}"):
            Scaling((low,), (high,))


def test_undoing_brings_back_the_units_of_the_data() -> None:
    x = torch.tensor([[-3.0, 7.0, 100.0], [5.0, 7.0, -20.0]])
    scaling = Scaling.fit(Samples(x), per_feature=True)
    # Each value is the end of its feature: exact but for the rounding of the division.
    torch.testing.assert_close(scaling.undo(scaling.apply(x)), x, rtol=2**-22, atol=0)


@pytest.mark.parametrize(
    ("x", "tabular", "expected"),
    [
        (torch.tensor([[0.0, 3.0], [1.0, 5.0]]), True, Scaling((0.0, 3.0), (1.0, 5.0))),
        (torch.tensor([[0.25, 0.5]]), False, Scaling()),
        (torch.tensor([[0.25, 4.5]]), False, Scaling((0.25,), (4.5,))),
        (torch.tensor([[3, 200]], dtype=torch.uint8), False, Scaling((0.0,), (255.0,))),
    ],
)
def test_tables_are_scaled_by_feature_and_images_where_they_must(x: Tensor, tabular: bool, expected: Scaling) -> None:
    assert Scaling.for_training_data(Samples(x), tabular=tabular) == expected
