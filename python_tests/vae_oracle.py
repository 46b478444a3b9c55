"""The VAEs' losses in float64 NumPy, from weights and random draws, without using the package."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float64]


def weights(model: nn.Module) -> dict[str, Array]:
    return {name: value.detach().double().numpy() for name, value in model.state_dict().items()}


def linear(w: Mapping[str, Array], name: str, x: Array) -> Array:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def hidden(w: Mapping[str, Array], x: Array) -> Array:
    """Applies one dense hidden layer with ReLU."""
    return np.maximum(linear(w, "trunk.1", x.reshape(len(x), -1)), 0)


def pixels(w: Mapping[str, Array], code: Array) -> Array:
    """Returns the Bernoulli probabilities of the dense decoder with one hidden layer."""
    return sigmoid(linear(w, "decoder.layers.2", np.maximum(linear(w, "decoder.layers.0", code), 0)))


def cross_entropy(y: Array, x: Array) -> Array:
    """Returns the Bernoulli cross-entropy, summed over all but the first axis."""
    terms = x * np.log(y) + (1 - x) * np.log(1 - y)
    return -terms.reshape(len(x), -1).sum(axis=1)


def kl_normal(mu: Array, var: Array) -> Array:
    return 0.5 * (mu**2 + var - 1 - np.log(var)).sum(axis=-1)


def one_hot(label: NDArray[np.int64], count: int) -> Array:
    return np.eye(count)[label]


def array(values: Tensor) -> Array:
    return values.detach().double().numpy()
