"""scikit-learn's own checks of estimators."""

from __future__ import annotations

from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import parametrize_with_checks

from somvae_ext.estimators import SOM, SOMVAEClusterer


@parametrize_with_checks(
    [
        SOM(),
        SOM(3, 2, algorithm="minibatch", n_epochs=3, random_state=0),
        SOM(4, 3, topology="hexagonal", metric="cosine", missing="ignore"),
        SOMVAEClusterer(2, 2, n_epochs=4, learning_rate=0.01, model_options={"hidden_sizes": (8,)}, random_state=0),
    ]
)
def test_scikit_learns_checks_pass(estimator: BaseEstimator, check: Any) -> None:
    check(estimator)
