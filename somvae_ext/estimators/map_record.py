"""The config of a map's result folder, parsed once."""

from __future__ import annotations

import dataclasses
from typing import Any, Self

import numpy as np

from somvae_ext.config_checks import Bounds, check_fields, config_from_section
from somvae_ext.data.record import RowsRecord
from somvae_ext.data.scaling import Scaling
from somvae_ext.estimators.som import SOM
from somvae_ext.grid import Grid
from somvae_ext.store import ResultFolder

# Parameters that say how an estimator runs and do not change its result.
_RUN_PARAMETERS = ("compute_labels", "device", "distributed", "verbose")


@dataclasses.dataclass(frozen=True)
class MapRecord:
    """The parameters of a trained map and its training data.

    Args:
        parameters: the estimator's parameters by name, limited to what JSON can hold: no functions and no arrays.
        dim: number of features D.
        scaling: how the data were scaled.
        feature_names: names of the features, if the data had any.
        classes: names of the labels 0, 1, ...
        data: source of the training rows, if known.
        threads: number of CPU threads, if one was requested.
        device: device of the training, if one was requested.

    Raises:
        ValueError: a field of a wrong type or value, or parameters that are not those of a map.
    """

    parameters: Parameters
    dim: int
    scaling: Scaling
    feature_names: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    data: RowsRecord | None = None
    threads: int | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        check_fields(self, threads=Bounds(at_least=1, at_most=4096))
        # A single shift applies to all features, and unscaled values have none.
        num_scaled = len(self.scaling.shift) if len(self.scaling.shift) > 1 else self.dim
        sizes = {num_scaled, len(self.feature_names or ()) or self.dim, self.dim}
        if len(sizes) > 1:
            raise ValueError(f"scaling and feature_names must be of the same number of features, got {sorted(sizes)}")

    @classmethod
    def from_estimator(cls, som: SOM, dim: int, scaling: Scaling, **fields: Any) -> Self:
        """Returns the record of an estimator; ``fields`` are further fields by name.

        Raises:
            ValueError: a parameter that JSON cannot hold, such as a function.
        """
        parameters = {name: value for name, value in som.get_params().items() if name not in _RUN_PARAMETERS}
        return cls(Parameters.from_dict(parameters), dim, scaling, **fields)

    def build_estimator(self, **run_options: Any) -> SOM:
        """Returns an unfitted estimator with these parameters; ``run_options`` adds others, such as a device."""
        return SOM(**self.parameters.values | run_options)

    @property
    def grid(self) -> Grid:
        return self.build_estimator()._grid()

    def to_config(self) -> dict[str, Any]:
        """Returns the config of the map's result folder, which :meth:`from_folder` reads."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | {
            "parameters": self.parameters.values,
            "scaling": self.scaling.to_dict(),
            "data": None if self.data is None else self.data.to_dict(),
        }

    @classmethod
    def from_folder(cls, folder: ResultFolder) -> Self:
        """Reads the record of a result folder.

        Raises:
            ValueError: the config does not describe a map; the message names the folder and what is wrong.
        """
        values = dict(folder.config)
        try:
            values["parameters"] = Parameters.from_dict(values.get("parameters"))
            values["scaling"] = Scaling.from_dict(values.get("scaling"))
            values["data"] = None if values.get("data") is None else RowsRecord.from_dict(values["data"])
            return config_from_section(cls, values)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{folder.path}: its config must describe a map, but it does not: {error}") from error


@dataclasses.dataclass(frozen=True)
class Parameters:
    """Parameters of an estimator that JSON can hold, by name."""

    values: dict[str, Any]

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Checks parameters and returns their record.

        Raises:
            ValueError: values that JSON cannot hold, or parameters that are not those of a :class:`SOM`.
        """
        if not isinstance(values, dict):
            raise ValueError(f"parameters must be an object, got {values!r}")
        values = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
        for name, value in values.items():
            if not isinstance(value, (str, int, float, bool, type(None))):
                raise ValueError(f"{name} must be text, a number or None to be saved, got {value!r}")
        try:
            SOM(**values).check_parameters()
        except TypeError as error:  # an unknown parameter
            raise ValueError(" ".join(str(error).split())) from error
        return cls(values)
