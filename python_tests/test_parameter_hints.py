"""A parameter name of another class or library is refused with an error that names the right parameter."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from sklearn.base import clone

from somvae_ext import estimators, nn
from somvae_ext.estimators import SOMVAEClusterer

# By library or class: our class, parameters as the other one names them, and the expected hint.
CALLS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "the layer's": (
        estimators.SOM,
        {"rows": 3, "cols": 4},
        "SOM takes n_rows instead of rows, n_cols instead of cols",
    ),
    "MiniSom": (
        estimators.SOM,
        {"x": 3, "y": 4, "learning_rate": 0.5, "sigma": 2.0},
        "SOM takes n_rows instead of x, n_cols instead of y, "
        "alpha_initial (with algorithm='minibatch') instead of learning_rate, sigma_initial instead of sigma",
    ),
    "sklearn-som": (estimators.SOM, {"m": 3, "n": 4}, "SOM takes n_rows instead of m, n_cols instead of n"),
    "quicksom": (estimators.SOM, {"n_epoch": 5}, "SOM takes n_epochs instead of n_epoch"),
    "somoclu": (estimators.SOM, {"n_columns": 4}, "SOM takes n_cols instead of n_columns"),
    "the estimator's": (
        nn.SOM,
        {"n_rows": 3, "n_cols": 4, "n_features": 2},
        "SOM takes rows instead of n_rows, cols instead of n_cols, dim instead of n_features",
    ),
    "the trainers'": (
        nn.SOM,
        {"num_rows": 3, "num_cols": 4, "num_features": 2},
        "SOM takes rows instead of num_rows, cols instead of num_cols, dim instead of num_features",
    ),
    "the model's": (
        SOMVAEClusterer,
        {"rows": 3, "epochs": 4},
        "SOMVAEClusterer takes n_rows instead of rows, n_epochs instead of epochs",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_error_names_the_parameter_to_use(name: str) -> None:
    kind, options, hint = CALLS[name]
    with pytest.raises(TypeError, match=f"^{re.escape(hint)}$"):
        kind(**options)


@pytest.mark.parametrize("kind", [estimators.SOM, SOMVAEClusterer, nn.SOM])
def test_every_hint_leads_to_a_parameter(kind: Any) -> None:
    names = inspect.getclosurevars(kind.__init__).nonlocals["names"]
    parameters = set(inspect.signature(kind).parameters)
    assert {hint.split(" ")[0] for hint in names.values()} <= parameters
    assert not set(names) & parameters


def test_other_names_are_refused_as_python_does() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
        estimators.SOM(depth=3)  # type: ignore[call-arg]


@pytest.mark.parametrize("iterations", ["max_iter", "n_iter"])
def test_iterations_are_not_taken_for_epochs(iterations: str) -> None:
    """An iteration of sklearn-som is an update with a single row."""
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{iterations}'"):
        estimators.SOM(**{iterations: 3})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [estimators.SOM, SOMVAEClusterer])
def test_scikit_learn_sees_the_real_parameters(kind: Any) -> None:
    estimator = kind(n_rows=3, n_cols=4)
    assert "n_rows" in estimator.get_params()
    assert not {"rows", "names", "kwargs", "args"} & estimator.get_params().keys()
    assert clone(estimator).get_params() == estimator.get_params()
