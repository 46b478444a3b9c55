"""torch.func.vmap, which loops over the batch, and torch.export for any number of rows, saved and loaded."""

from __future__ import annotations

import io

import pytest
import torch
from calls import CALLS, GRID, assert_same_bits, make_inputs
from torch import Tensor, nn

from somvae_ext import ops
from somvae_ext.nn import SOMQuantizer, VectorQuantizer

WITH_ROWS = [name for name, call in CALLS.items() if "z" in call.inputs]


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("name", WITH_ROWS)
def test_vmap_gives_the_bits_of_each_call(name: str, device: torch.device) -> None:
    inputs = make_inputs(device=device)
    batch = torch.stack([inputs["z"], inputs["z"].flip(0), 2 * inputs["z"]])

    def call(z: Tensor) -> tuple[Tensor, ...]:
        return tuple(CALLS[name].function({**inputs, "z": z}))

    together = torch.func.vmap(call)(batch)
    for row, z in enumerate(batch):
        assert_same_bits([output[row] for output in together], call(z))


class Search(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.codebook = nn.Parameter(make_inputs()["codebook"])

    def forward(self, z: Tensor) -> ops.BestMatch:
        return ops.bmu(z, self.codebook)


@pytest.mark.parametrize(
    "module",
    [Search(), SOMQuantizer(GRID, 5), SOMQuantizer(GRID, 5, border="mask"), VectorQuantizer(7, 5, update="ema")],
    ids=["bmu", "SOMQuantizer", "SOMQuantizer, masked border", "VectorQuantizer"],
)
def test_a_program_for_any_number_of_rows_is_exported_saved_and_loaded(module: nn.Module) -> None:
    example = (make_inputs()["z"],)
    program = torch.export.export(module, example, dynamic_shapes=({0: torch.export.Dim("rows")},))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for rows in (2, 23):
        z = torch.randn(rows, 5, generator=torch.Generator().manual_seed(rows))
        output, expected = loaded(z), module(z)
        assert type(output) is type(expected)
        assert_same_bits(*(torch.utils._pytree.tree_leaves(values) for values in (output, expected)))
