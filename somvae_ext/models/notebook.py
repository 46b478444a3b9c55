"""The display of models in notebooks."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from somvae_ext.models.networks import FRAMES_AT_ONCE
from somvae_ext.notebook_html import Picture, View, render

_SEED = 0  # of the samples
_CODES_PER_ROW = 16
_MOST_CODES = 128  # codes of a VQ-VAE that are drawn
_MOST_ROWS, _SAMPLES_PER_ROW = 20, 8
# Limits of a map that is decoded: its nodes, and the values of all decoded nodes. They bound the time to a second.
_LARGEST_DECODED_MAP, _MOST_DECODED_VALUES = 1024, 1 << 21


class ShownInNotebooks:
    """A mixin that displays models in notebooks: map, codes or samples as pictures, and the config as a table.

    The display changes neither the model's mode nor the state of a global random generator.
    """

    def _repr_html_(self) -> str:
        return render(lambda: _view(self))


def _view(model: Any) -> View:
    config = model.config
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    grid = getattr(getattr(model, "quantizer", None), "grid", None)
    facts = [] if grid is None else [grid.describe()]
    shape = config.input_shape
    facts.append(f"samples of {shape[0]} features" if len(shape) == 1 else f"samples {' x '.join(map(str, shape))}")
    facts.append(f"{num_parameters:,} parameters")
    table = {field.name: str(getattr(config, field.name)) for field in dataclasses.fields(config)}
    return View(type(model).__name__, facts, _pictures(model), type(config).__name__, table)


def _pictures(model: Any) -> list[Picture]:
    from somvae_ext.data.sample_arrays import is_image_shape

    shape = model.config.input_shape
    draws_images = is_image_shape(shape)
    if hasattr(model, "decoded_map"):
        num_nodes = model.num_clusters
        is_small = num_nodes <= _LARGEST_DECODED_MAP and num_nodes * math.prod(shape) <= _MOST_DECODED_VALUES
        if draws_images and is_small:
            return [_picture(model, "What each node stands for: the decoded codes", _draw_decoded_map)]
        return [_picture(model, "U-matrix: distances between the codes of neighbors", _draw_u_matrix)]
    if not draws_images:
        return []
    if hasattr(model, "quantizer"):
        selection = f", {_MOST_CODES} of {model.num_clusters}" if model.num_clusters > _MOST_CODES else ""
        tiling = ", each in all places of a sample" if model.codes_per_sample > 1 else ""
        return [_picture(model, f"The decoded codes{tiling}{selection}", _draw_codes)]
    if getattr(model, "num_categories", _MOST_ROWS + 1) <= _MOST_ROWS:
        return [_picture(model, "Samples from the prior, a row for each category", _draw_categories)]
    return [_picture(model, "Samples from the prior", _draw_samples)]


def _picture(model: nn.Module, caption: str, draw: Callable[[Any], Any]) -> Picture:
    def draw_unchanged() -> Any:
        with torch.no_grad(), _evaluation_mode(model):
            return draw(model)

    return Picture(caption, draw_unchanged)


@contextlib.contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts all modules in evaluation mode, which keeps running statistics, and restores the mode of each afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in modes:
            module.training = False
        yield
    finally:
        for module, training in modes:
            module.training = training


def _draw_decoded_map(model: Any) -> Any:
    from somvae_ext.plotting import notebook

    grid = model.quantizer.grid
    images = _decode(model, model.quantizer.codebook)
    return notebook.decoded_map_figure(images.unflatten(0, (grid.rows, grid.cols)), grid)


def _draw_u_matrix(model: Any) -> Any:
    from somvae_ext.plotting import notebook

    return notebook.u_matrix_figure(model.quantizer.codebook.float().cpu(), model.quantizer.grid)


def _draw_codes(model: Any) -> Any:
    from somvae_ext.plotting import notebook

    codes = model.quantizer.codebook[:_MOST_CODES]
    if model.codes_per_sample > 1:
        codes = codes[:, :, None, None].expand(-1, -1, *model.config.code_shape)
    images = _decode(model, codes)
    columns = min(_CODES_PER_ROW, len(images))
    rows = -(-len(images) // columns)
    blank = images.new_ones(rows * columns - len(images), *images.shape[1:])  # white, like the page
    return notebook.image_rows_figure(torch.cat([images, blank]).unflatten(0, (rows, columns)))


def _draw_categories(model: Any) -> Any:
    from somvae_ext.plotting import notebook

    samples = model.sample_each_category(_SAMPLES_PER_ROW, generator=torch.Generator("cpu").manual_seed(_SEED))
    return notebook.image_rows_figure(samples.float().cpu(), row_labels=range(len(samples)))


def _draw_samples(model: Any) -> Any:
    from somvae_ext.plotting import notebook

    samples = model.sample(3 * _SAMPLES_PER_ROW, generator=torch.Generator("cpu").manual_seed(_SEED))
    return notebook.image_rows_figure(samples.float().cpu().unflatten(0, (3, -1)))


def _decode(model: Any, codes: Tensor) -> Tensor:
    """Decodes codes in parts, to samples on the CPU: the hidden layers of all at once may take gigabytes."""
    return torch.cat([model.decode(part).float().cpu() for part in codes.split(FRAMES_AT_ONCE)])
