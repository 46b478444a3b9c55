"""What scikit-learn keeps about an estimator's features, and the check that columns are numeric."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from sklearn.base import BaseEstimator  # type: ignore[import-untyped]

_FEATURE_ATTRIBUTES = ("n_features_in_", "feature_names_in_")


@contextlib.contextmanager
def features_restored_on_failure(estimator: BaseEstimator) -> Iterator[None]:
    """Restores the feature attributes of the earlier fit if a refit fails: checking the data overwrites them."""
    state = vars(estimator)
    saved = {name: state[name] for name in _FEATURE_ATTRIBUTES if name in state}
    try:
        yield
    except BaseException:
        for name in _FEATURE_ATTRIBUTES:
            state.pop(name, None)
        state.update(saved)
        raise


def check_numeric_columns(owner: str, X: Any) -> None:
    """Checks that the columns of a table are numeric, as far as their dtypes tell.

    Raises:
        ValueError: a column of dates, time spans, categories or text.
    """
    for name, dtype in getattr(X, "dtypes", {}).items() if hasattr(X, "columns") else ():
        if getattr(dtype, "kind", "O") in "mM" or str(dtype) in ("category", "string", "str"):
            raise ValueError(f"{owner}: X must hold numbers, got {dtype} in column {name!r}; leave it out or encode it")
