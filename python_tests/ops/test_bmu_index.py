"""Pruned search: bitwise the same results as ``bmu``, and bounds that never rule out a code that could win.

Native only: without the compiled library, a ``BMUIndex`` calls ``bmu``.
"""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from calls import Tensors, assert_same_bits, run
from cases import DTYPES, integers, lay_out, layouts, normal, seeds
from flushing import caller_flushes
from hypothesis import given
from hypothesis import strategies as st
from rounding import compute_dtype
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from somvae_ext import Grid, ops
from somvae_ext.ops import BMUIndex, _bmu_index

NAN, INF = float("nan"), float("inf")

GRIDS = [
    Grid(1, 1),
    Grid(1, 7),
    Grid(2, 9),
    Grid(9, 2),
    Grid(3, 5),
    Grid(5, 7, topology="hexagonal"),
    Grid(16, 16, periodic=True),
    Grid(17, 33),
    Grid(40, 64, topology="hexagonal"),
    Grid(64, 64),
]
DIMS = [1, 2, 3, 15, 16, 17, 50, 130, 300]
ROWS = [0, 1, 15, 16, 17, 300]

grids, dims, row_counts, dtypes = (st.sampled_from(values) for values in (GRIDS, DIMS, ROWS, DTYPES))


# ---- codebooks and rows ----------------------------------------------------------------------------------------------


def sheet(grid: Grid, dim: int, seed: int = 0, noise: float = 0.01) -> Tensor:
    """Returns a smooth map: a square sheet, bent through all dimensions, with a little noise. float64 ``[K, D]``."""
    rows = torch.linspace(0, 1, grid.rows, dtype=torch.float64).repeat_interleave(grid.cols)
    cols = torch.linspace(0, 1, grid.cols, dtype=torch.float64).repeat(grid.rows)
    bends = normal(3, dim, seed=seed, dtype=torch.float64)
    bent = torch.sin(2 * rows[:, None] * bends[0] + 2 * cols[:, None] * bends[1] + bends[2])
    return bent + noise * normal(grid.num_nodes, dim, seed=seed + 1, dtype=torch.float64)


def near_codes(codebook: Tensor, rows: int, seed: int, distance: float) -> Tensor:
    """Draws rows around random codes; with a distance of 0, the codes themselves."""
    some = codebook[integers(rows, seed=seed, below=len(codebook))]
    return some + distance * normal(*some.shape, seed=seed + 1, dtype=torch.float64)


def smooth(grid: Grid, dim: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    codebook = sheet(grid, dim, seed)
    return near_codes(codebook, rows, seed, 0.1), codebook


def random(grid: Grid, dim: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    return normal(rows, dim, seed=seed, dtype=torch.float64), normal(
        grid.num_nodes, dim, seed=seed + 1, dtype=torch.float64
    )


def duplicates(grid: Grid, dim: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    z, codebook = smooth(grid, dim, rows, seed)
    return z, codebook[integers(len(codebook), seed=seed, below=1 + len(codebook) // 3)]


def constant(grid: Grid, dim: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    z, codebook = smooth(grid, dim, rows, seed)
    return z, codebook[:1].repeat(len(codebook), 1)


def lattice(grid: Grid, dim: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Integers and half-integers: distances are exact, and codes all over the grid tie."""
    z = integers(rows, dim, seed=seed, below=8, dtype=torch.float64) / 2
    return z, integers(grid.num_nodes, dim, seed=seed + 1, below=4, dtype=torch.float64)


def offset(grid: Grid, dim: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    z, codebook = smooth(grid, dim, rows, seed)
    return z + 1e4, codebook + 1e4


def far_rows(grid: Grid, dim: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    codebook = sheet(grid, dim, seed)
    return near_codes(codebook, rows, seed, 1e3), codebook


def codes_as_rows(grid: Grid, dim: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    codebook = sheet(grid, dim, seed)
    return near_codes(codebook, rows, seed, 0), codebook


def flat(grid: Grid, dim: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """A map that varies in only one feature: all other principal directions are arbitrary."""
    z, codebook = smooth(grid, dim, rows, seed)
    codebook[:, 1:] = 0.25
    return z, codebook


def scaled(scale: float) -> Callable[[Grid, int, int, int], tuple[Tensor, Tensor]]:
    def make(grid: Grid, dim: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
        z, codebook = smooth(grid, dim, rows, seed)
        return z * scale, codebook * scale

    return make


def bad_rows(grid: Grid, dim: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Five of every 21 rows are not finite, or so large that their squares overflow."""
    z, codebook = smooth(grid, dim, rows, seed)
    for i, value in enumerate([NAN, INF, -INF, 1e30, 1e200]):
        z[3 * i :: 21, i % dim] = value
    return z, codebook


def dwarfed(grid: Grid, dim: int, rows: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows with large values in a feature in which all codes agree."""
    z, codebook = smooth(grid, dim, rows, seed)
    codebook[:, -1] = 0.0
    z[:, -1] = torch.tensor([100.0, -3e4, 1e7]).repeat(rows)[:rows]
    return z, codebook


Data = Callable[[Grid, int, int, int], tuple[Tensor, Tensor]]
DATA: dict[str, Data] = {
    "smooth": smooth,
    "random": random,
    "duplicates": duplicates,
    "constant": constant,
    "lattice": lattice,
    "offset": offset,
    "far rows": far_rows,
    "codes as rows": codes_as_rows,
    "flat": flat,
    "bad rows": bad_rows,
    "dwarfed": dwarfed,
    "squares underflow": scaled(1e-25),
    "squares are subnormal": scaled(1e-20),
}
LARGE_DATA: dict[str, Data] = {"1e15": scaled(1e15), "1e16": scaled(1e16)}

every_data = pytest.mark.parametrize("data", DATA.values(), ids=DATA)


def make(data: Data, grid: Grid, dim: int, rows: int, dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor]:
    z, codebook = data(grid, dim, rows, seed)
    return z.to(dtype), codebook.to(dtype)


def check_pruned(z: Tensor, codebook: Tensor, grid: Grid, k: int, hint: Tensor | None = None) -> None:
    assert_same_bits(BMUIndex(codebook, grid).search(z, k, hint, prune=True), ops.bmu(z, codebook, k))


@pytest.fixture
def _threads_restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


# ---- pruned search is bitwise equal to bmu ---------------------------------------------------------------------------


@every_data
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("k", [1, 2])
def test_pruned_search_equals_bmu(data: Data, dtype: torch.dtype, k: int) -> None:
    for grid, dim in [(Grid(16, 16), 3), (Grid(17, 33), 50), (Grid(40, 64), 17)]:
        check_pruned(*make(data, grid, dim, 300, dtype), grid, k)


@pytest.mark.parametrize("data", LARGE_DATA.values(), ids=LARGE_DATA)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("k", [1, 2])
def test_large_values_may_be_pruned_too(data: Data, dtype: torch.dtype, k: int) -> None:
    for dim in (3, 50):
        check_pruned(*make(data, Grid(17, 33), dim, 300, dtype), Grid(17, 33), k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dim", [2, 17, 300])
def test_the_largest_values_that_may_be_pruned(dtype: torch.dtype, dim: int) -> None:
    """Values up to sqrt(largest number / 64 D): building the index must not sum the squares of a whole column."""
    grid = Grid(40, 64)
    largest = (torch.finfo(compute_dtype(dtype)).max / (64 * dim)) ** 0.5
    codebook = sheet(grid, dim)
    codebook = (codebook * (0.99 * largest / codebook.abs().max())).to(dtype)
    check_pruned(codebook[::40], codebook, grid, 1)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("dim", DIMS)
def test_any_grid_and_number_of_features(grid: Grid, dim: int) -> None:
    for k in (1, 2)[: grid.num_nodes]:
        check_pruned(*make(smooth, grid, dim, 40, torch.float32), grid, k)


@given(
    data=st.sampled_from(list(DATA)),
    grid=grids,
    dim=dims,
    rows=row_counts,
    k=st.sampled_from([1, 2]),
    dtype=dtypes,
    z_layout=layouts,
    codebook_layout=layouts,
    hint=st.sampled_from(["none", "right", "random", "constant"]),
    seed=seeds,
)
def test_any_data_layout_and_hint(
    data: str,
    grid: Grid,
    dim: int,
    rows: int,
    k: int,
    dtype: torch.dtype,
    z_layout: str,
    codebook_layout: str,
    hint: str,
    seed: int,
) -> None:
    k = min(k, grid.num_nodes)
    z, codebook = make(DATA[data], grid, dim, rows, dtype, seed)
    z, codebook = lay_out(z, z_layout), lay_out(codebook, codebook_layout)
    hints = {
        "none": None,
        "right": ops.bmu(z, codebook).index,
        "random": integers(rows, seed=seed, below=grid.num_nodes),
        "constant": torch.tensor(grid.num_nodes - 1).expand(rows),
    }
    check_pruned(z, codebook, grid, k, hints[hint])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.usefixtures("_threads_restored")
def test_any_number_of_threads(dtype: torch.dtype) -> None:
    grid = Grid(40, 64)
    z, codebook = make(bad_rows, grid, 50, 5000, dtype)
    expected = ops.bmu(z, codebook, 2)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        check_pruned(z, codebook, grid, 2)
        check_pruned(z, codebook, grid, 2, hint=expected.index[:, 0])


def test_rows_of_more_than_one_chunk() -> None:
    """Rows are projected in chunks of 65,536."""
    z, codebook = make(smooth, Grid(9, 8), 2, 70_001, torch.float32)
    check_pruned(z, codebook, Grid(9, 8), 2)


def test_a_map_of_more_groups_than_are_compared_one_by_one() -> None:
    """With more than 64 groups of 16 x 16 nodes, the first tile is looked for only in the nearest groups."""
    grid = Grid(130, 131)
    check_pruned(*make(smooth, grid, 5, 1000, torch.float32), grid, 2)


@pytest.fixture(scope="module")
def trained() -> tuple[Tensor, Tensor, Grid]:
    """Rows and their map, trained by the batch algorithm with a shrinking Gaussian neighborhood. float64."""
    grid = Grid(20, 30)
    latent = normal(3000, 4, seed=1, dtype=torch.float64)
    rows = torch.tanh(latent @ normal(4, 40, seed=2, dtype=torch.float64))
    rows = rows + 0.1 * normal(3000, 40, seed=3, dtype=torch.float64)
    nodes = torch.stack([torch.arange(600) // 30, torch.arange(600) % 30], dim=1).double()
    squared_steps = torch.cdist(nodes, nodes).square()
    codebook = sheet(grid, 40)
    for radius in (8.0, 4.0, 2.0, 1.0, 0.7, 0.5):
        sums, counts = ops.segment_sum(rows, ops.bmu(rows, codebook).index, 600)
        weights = torch.exp(-squared_steps / (2 * radius**2))
        codebook = (weights @ sums) / (weights @ counts.double()).clamp_min(1e-30)[:, None]
    return rows, codebook, grid


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_pruned_search_of_a_trained_map(trained: tuple[Tensor, Tensor, Grid], dtype: torch.dtype, k: int) -> None:
    rows, codebook, grid = trained
    check_pruned(rows.to(dtype), codebook.to(dtype), grid, k)


# ---- near ties -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("dim", [2, 3, 16, 17, 50, 300])
def test_codes_at_nearly_the_same_distance(dim: int, dtype: torch.dtype, k: int) -> None:
    """The codes are on a sphere around every row, with radii that differ by a few units in the last place.

    The bounds of all tiles are then close to the best distance, where a search without the rounding margin of the
    bounds fails. The center is not the origin, so subtracting it rounds, too.
    """
    grid, eps = Grid(17, 33), torch.finfo(dtype).eps
    directions = torch.nn.functional.normalize(sheet(grid, dim, noise=0.2), dim=1)
    for seed, spread in enumerate([0.0, 1.0, 8.0, 64.0]):
        radii = 1 + spread * eps * normal(grid.num_nodes, 1, seed=seed, dtype=torch.float64)
        codebook = (0.3 + radii * directions).to(dtype)
        z = (0.3 + 10 * eps * normal(100, dim, seed=seed, dtype=torch.float64)).to(dtype)
        check_pruned(z, codebook, grid, k)


@pytest.mark.parametrize("k", [1, 2])
def test_ties_between_tiles_go_to_the_smallest_code(k: int) -> None:
    """On a flat map, a row midway between four nodes ties with four codes from up to four tiles."""
    grid = Grid(40, 64)
    codebook = torch.cartesian_prod(torch.arange(40.0), torch.arange(64.0))
    z = torch.cartesian_prod(torch.arange(39.0), torch.arange(63.0)) + 0.5
    upper_left = (z[:, 0] - 0.5).long() * 64 + (z[:, 1] - 0.5).long()
    found = BMUIndex(codebook, grid).search(z, k, prune=True)
    expected = upper_left if k == 1 else torch.stack([upper_left, upper_left + 1], dim=1)
    assert torch.equal(found.index, expected)
    assert (found.distance == 0.5).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_second_best_of_few_codes(dtype: torch.dtype) -> None:
    for grid in (Grid(1, 2), Grid(2, 1), Grid(1, 17), Grid(2, 2)):
        check_pruned(*make(duplicates, grid, 3, 50, dtype), grid, 2)


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float16, 1e-5), (torch.float64, 1e-153)], ids=str)
def test_values_near_underflow_where_the_caller_flushes_subnormal_numbers(dtype: torch.dtype, scale: float) -> None:
    z, codebook = make(smooth, Grid(40, 64), 20, 300, torch.float64)
    with caller_flushes(True):  # the test also holds if the processor has no such mode
        check_pruned((z * scale).to(dtype), (codebook * scale).to(dtype), Grid(40, 64), 1)


# ---- whether to prune ------------------------------------------------------------------------------------------------


@pytest.fixture
def plain_searches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows that an index passed to ``bmu``."""
    searched = []

    def bmu(z: Tensor, codebook: Tensor, k: int = 1) -> ops.BestMatch:
        searched.append(len(z))
        return ops.bmu(z, codebook, k)

    monkeypatch.setattr(_bmu_index, "bmu", bmu)
    return searched


@pytest.mark.parametrize(
    ("data", "grid", "rows"),
    [(smooth, Grid(8, 8), 40_000), (smooth, Grid(64, 64), 300), (random, Grid(64, 64), 80_000)],
    ids=["small map", "few rows", "random codebook"],
)
def test_bmu_is_called_where_pruning_does_not_pay(plain_searches: list[int], data: Data, grid: Grid, rows: int) -> None:
    z, codebook = make(data, grid, 20, rows, torch.float32)
    found = BMUIndex(codebook, grid).search(z)
    assert plain_searches == [rows]
    assert_same_bits(found, ops.bmu(z, codebook))


@pytest.mark.parametrize("hinted", [False, True], ids=["no hint", "hint"])
def test_many_rows_of_a_large_smooth_map_are_pruned(plain_searches: list[int], hinted: bool) -> None:
    z, codebook = make(smooth, Grid(64, 64), 20, 80_000, torch.float32)
    expected = ops.bmu(z, codebook)
    found = BMUIndex(codebook, Grid(64, 64)).search(z, hint=expected.index if hinted else None)
    assert plain_searches == []
    assert_same_bits(found, expected)


@pytest.mark.parametrize("k", [1, 2])
def test_work_is_little_on_a_smooth_map_and_more_than_a_plain_search_on_a_random_one(k: int) -> None:
    grid = Grid(64, 64)
    z, codebook = make(smooth, grid, 50, 500, torch.float32)
    assert BMUIndex(codebook, grid).work(z, k) < 0.5
    z, codebook = make(random, grid, 50, 500, torch.float32)
    assert BMUIndex(codebook, grid).work(z, k) > 1


def test_prune_forces_the_choice(plain_searches: list[int]) -> None:
    z, codebook = make(smooth, Grid(5, 7), 3, 20, torch.float32)
    index = BMUIndex(codebook, Grid(5, 7))
    index.search(z, prune=True)
    assert plain_searches == []
    index.search(z, prune=False)
    assert plain_searches == [20]


@pytest.mark.parametrize("prune", [None, False])
@pytest.mark.parametrize("value", [NAN, INF, 1e30])
def test_codes_that_cannot_be_pruned_are_searched_by_bmu(prune: bool | None, value: float) -> None:
    z, codebook = make(smooth, Grid(64, 64), 3, 120_000, torch.float32)
    codebook[17, 1] = value
    assert_same_bits(BMUIndex(codebook, Grid(64, 64)).search(z, prune=prune), ops.bmu(z, codebook))


def test_mixed_dtypes_under_autocast_are_searched_by_bmu() -> None:
    z, codebook = make(smooth, Grid(5, 7), 3, 20, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = BMUIndex(codebook, Grid(5, 7)).search(z.bfloat16())
    assert_same_bits(found, ops.bmu(z.bfloat16().float(), codebook))


def test_no_features() -> None:
    assert BMUIndex(torch.zeros(4, 0), Grid(2, 2)).search(torch.zeros(3, 0)).index.tolist() == [0, 0, 0]


def test_inference_mode() -> None:
    with torch.inference_mode():
        z, codebook = make(smooth, Grid(16, 16), 3, 20, torch.float32)
        check_pruned(z, codebook, Grid(16, 16), 1)


# ---- gradients and the dispatcher ------------------------------------------------------------------------------------


def searched(grid: Grid, k: int, pruned: bool) -> Callable[[Tensors], tuple[Tensor, ...]]:
    if not pruned:
        return lambda t: ops.bmu(t["z"], t["codebook"], k)
    return lambda t: BMUIndex(t["codebook"], grid).search(t["z"], k, t.get("hint"), prune=True)


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("differentiable", [["z"], ["codebook"], ["z", "codebook"]], ids=str)
def test_gradients_are_those_of_bmu(dtype: torch.dtype, k: int, differentiable: list[str]) -> None:
    grid = Grid(16, 16)
    z, codebook = make(smooth, grid, 5, 300, dtype)
    inputs = {"z": z, "codebook": codebook}
    expected = run(searched(grid, k, pruned=False), inputs, differentiable)
    for hint in ({}, {"hint": torch.zeros(300, dtype=torch.int64)}):
        found = run(searched(grid, k, pruned=True), {**inputs, **hint}, differentiable)
        for actual, value in zip(found, expected, strict=True):
            assert_same_bits(actual, value)


@pytest.mark.parametrize("k", [1, 2])
def test_gradcheck(k: int) -> None:
    grid = Grid(3, 5)
    z, codebook = make(random, grid, 3, 6, torch.float64)

    def distance(z: Tensor, codebook: Tensor) -> Tensor:
        return BMUIndex(codebook, grid).search(z, k, prune=True).distance

    assert torch.autograd.gradcheck(distance, (z.requires_grad_(), codebook.requires_grad_()))


def test_second_derivative_is_refused_with_a_sentence() -> None:
    z, codebook = make(smooth, Grid(3, 5), 3, 6, torch.float32)
    leaves = [z.requires_grad_(), codebook.requires_grad_()]
    distance = BMUIndex(codebook, Grid(3, 5)).search(z, prune=True).distance
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        grads = torch.autograd.grad(distance.sum(), leaves, create_graph=True)
        with pytest.raises(RuntimeError, match="derivative for somvae_ext::bmu_backward is not implemented"):
            torch.autograd.grad([grad.sum() for grad in grads], leaves, allow_unused=True)


def test_index_and_work_are_not_differentiable() -> None:
    z, codebook = make(smooth, Grid(3, 5), 3, 6, torch.float32)
    distance, index, work = torch.ops.somvae_ext.bmu_pruned(
        z.requires_grad_(), codebook, list(_bmu_index._index_parts(codebook, Grid(3, 5)))
    )
    assert (distance.requires_grad, index.requires_grad, work.requires_grad) == (True, False, False)


@pytest.mark.parametrize("requires_grad", [False, True], ids=["without gradient", "with gradient"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("rows", [0, 7])
def test_opcheck(rows: int, dtype: torch.dtype, requires_grad: bool) -> None:
    z, codebook = make(smooth, Grid(3, 5), 4, rows, dtype)
    parts = list(_bmu_index._index_parts(codebook, Grid(3, 5)))
    z, codebook = z.requires_grad_(requires_grad), codebook.requires_grad_(requires_grad)
    for hint, k in ((None, 1), (None, 2), (integers(rows, seed=1, below=15), 1)):
        torch.library.opcheck(torch.ops.somvae_ext.bmu_pruned.default, (z, codebook, parts, hint, k))


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_shapes_of_fake_tensors(dtype: torch.dtype, k: int) -> None:
    z, codebook = make(smooth, Grid(3, 5), 4, 7, dtype)
    parts = list(_bmu_index._index_parts(codebook, Grid(3, 5)))
    real = torch.ops.somvae_ext.bmu_pruned(z, codebook, parts, None, k)
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(tensor) for tensor in (z, codebook, *parts)]
        fake = torch.ops.somvae_ext.bmu_pruned(fakes[0], fakes[1], fakes[2:], None, k)
    for a, b in zip(fake, real, strict=True):
        assert (a.shape, a.dtype, a.device, a.layout) == (b.shape, b.dtype, b.device, b.layout)


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codebook", "sentence"),
    [
        (torch.zeros(14, 4), r"codebook must have shape \[K, D\] with K = 15, got \[14, 4\]"),
        (torch.zeros(15), r"codebook must have shape \[K, D\] with K = 15, got \[15\]"),
        (torch.zeros(15, 4, dtype=torch.int64), "codebook must be of dtype float32, .*, got int64"),
    ],
    ids=["K", "rank", "dtype"],
)
def test_a_codebook_that_does_not_fit(codebook: Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^BMUIndex: {sentence}"):
        BMUIndex(codebook, Grid(3, 5))


@pytest.mark.parametrize("prune", [None, False, True])
@pytest.mark.parametrize(
    ("hint", "sentence"),
    [
        (torch.zeros(6, dtype=torch.int64), r"have shape \[N\] with N = 7, got \[6\]"),
        (torch.zeros(7, 1, dtype=torch.int64), r"have shape \[N\] with N = 7, got \[7, 1\]"),
        (torch.zeros(7, dtype=torch.int32), "be of dtype int64, got int32"),
        (torch.full((7,), 15), "hold values from 0 to 14, got 15"),
        (torch.full((7,), -1), "hold values from 0 to 14, got -1"),
    ],
    ids=["length", "rank", "dtype", "too large", "negative"],
)
def test_a_hint_that_does_not_fit(hint: Tensor, sentence: str, prune: bool | None) -> None:
    z, codebook = make(smooth, Grid(3, 5), 4, 7, torch.float32)
    with pytest.raises(ValueError, match=f"hint must {sentence}"):
        BMUIndex(codebook, Grid(3, 5)).search(z, hint=hint, prune=prune)


@pytest.mark.parametrize("prune", [None, False, True])
@pytest.mark.parametrize("k", [0, 3, -1])
def test_k(k: int, prune: bool | None) -> None:
    z, codebook = make(smooth, Grid(3, 5), 4, 7, torch.float32)
    with pytest.raises(ValueError, match=f"k must be 1 or 2, got {k}"):
        BMUIndex(codebook, Grid(3, 5)).search(z, k, prune=prune)


@pytest.mark.parametrize("prune", [None, False, True])
def test_two_winners_need_two_codes(prune: bool | None) -> None:
    with pytest.raises(ValueError, match="codebook must have at least k = 2 rows, got 1"):
        BMUIndex(torch.zeros(1, 4), Grid(1, 1)).search(torch.zeros(3, 4), 2, prune=prune)


@pytest.mark.parametrize("prune", [None, False, True])
def test_rows_of_another_width(prune: bool | None) -> None:
    _, codebook = make(smooth, Grid(3, 5), 4, 7, torch.float32)
    with pytest.raises(ValueError, match=r"z must have shape \[N, D\] with D = 4, got \[7, 5\]"):
        BMUIndex(codebook, Grid(3, 5)).search(torch.zeros(7, 5), prune=prune)


@pytest.mark.parametrize("prune", [None, False, True])
def test_a_codebook_that_changed_in_place_is_noticed(prune: bool | None) -> None:
    z, codebook = make(smooth, Grid(3, 5), 4, 7, torch.float32)
    index = BMUIndex(codebook, Grid(3, 5))
    index.search(z, prune=prune)
    codebook[3, 2] += 1
    with pytest.raises(RuntimeError, match="codebook was changed in place since the index was made; make a new"):
        index.search(z, prune=prune)


def saved_and_loaded(index: BMUIndex) -> BMUIndex:
    file = io.BytesIO()
    torch.save(index, file)
    file.seek(0)
    return torch.load(file, weights_only=False)  # type: ignore[no-any-return]


COPIES = {
    "pickle": lambda index: pickle.loads(pickle.dumps(index)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "torch.save": saved_and_loaded,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("prune", [None, False, True])
@pytest.mark.parametrize("searched", [False, True], ids=["fresh", "searched"])
def test_a_copy_finds_the_same_bits(way: str, prune: bool | None, searched: bool) -> None:
    z, codebook = make(smooth, Grid(9, 5), 4, 30, torch.float32)
    codebook += 0  # increments the version counter, which a copy does not share
    index = BMUIndex(codebook, Grid(9, 5))
    if searched:
        index.search(z, 2, prune=prune)
    copied = COPIES[way](index)
    assert_same_bits(copied.search(z, 2, prune=prune), index.search(z, 2, prune=prune))


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_notices_changes_of_its_own_codebook_only(way: str) -> None:
    z, codebook = make(smooth, Grid(3, 5), 4, 7, torch.float32)
    index = BMUIndex(codebook, Grid(3, 5))
    copied = COPIES[way](index)
    copied.codebook[3, 2] += 1
    with pytest.raises(RuntimeError, match="codebook was changed in place since the index was made"):
        copied.search(z)
    if way == "copy":  # a shallow copy has the same codebook
        return
    index.search(z)
    codebook[3, 2] += 1
    COPIES[way](index).search(z)  # the copy is an index of the codebook as it is now
    with pytest.raises(RuntimeError, match="codebook was changed in place since the index was made"):
        index.search(z)


def test_a_copy_of_an_index_of_a_parameter_keeps_its_gradient() -> None:
    z, codebook = make(smooth, Grid(3, 5), 4, 7, torch.float32)
    index = copy.deepcopy(BMUIndex(torch.nn.Parameter(codebook), Grid(3, 5)))
    index.search(z).distance.sum().backward()
    assert index.codebook.grad is not None
    assert index.codebook.grad.any()


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e30])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_codes_that_are_not_finite_or_too_large_cannot_be_pruned(dtype: torch.dtype, value: float) -> None:
    z, codebook = make(smooth, Grid(3, 5), 4, 7, dtype)
    codebook[3, 2] = value if dtype != torch.float64 or abs(value) != 1e30 else 1e200
    with pytest.raises(ValueError, match="prune must not be True"):
        BMUIndex(codebook, Grid(3, 5)).search(z, prune=True)


@pytest.mark.parametrize(
    ("z", "codebook"),
    [
        (torch.zeros(7, 4, device="meta"), torch.zeros(15, 4, device="meta")),
        (torch.zeros(7, 4, dtype=torch.float64), torch.zeros(15, 4)),
        (torch.zeros(7, 0), torch.zeros(15, 0)),
    ],
    ids=["another device", "rows of another dtype", "no features"],
)
def test_prune_is_refused_where_pruning_is_impossible(z: Tensor, codebook: Tensor) -> None:
    with pytest.raises(ValueError, match="prune must not be True"):
        BMUIndex(codebook, Grid(3, 5)).search(z, prune=True)


@pytest.mark.cuda
def test_cuda_is_searched_by_bmu() -> None:
    z, codebook = (tensor.cuda() for tensor in make(smooth, Grid(64, 64), 20, 80_000, torch.float32))
    index = BMUIndex(codebook, Grid(64, 64))
    assert_same_bits(index.search(z, 2), ops.bmu(z, codebook, 2))
    with pytest.raises(ValueError, match="prune must not be True"):
        index.search(z, prune=True)


PART_NAMES = _bmu_index._IndexParts._fields
WRONG_PARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "empty": lambda right: right.new_empty(0),
    "one short": lambda right: right.flatten()[:-1],
    "one more": lambda right: torch.cat([right.flatten(), right.flatten()[:1]]),
    "half": lambda right: right.flatten()[: right.numel() // 2],
    "not contiguous": lambda right: right.flatten().repeat_interleave(2)[::2],
    "another dtype": lambda right: right.to(torch.bfloat16 if right.is_floating_point() else torch.int64),
    "another device": lambda right: right.to("meta"),
}


@pytest.mark.parametrize("wrong", WRONG_PARTS.values(), ids=WRONG_PARTS)
@pytest.mark.parametrize("part", range(len(PART_NAMES)), ids=PART_NAMES)
def test_parts_that_do_not_fit_are_refused_and_never_read(part: int, wrong: Callable[[Tensor], Tensor]) -> None:
    z, codebook = make(smooth, Grid(17, 33), 20, 7, torch.float32)
    parts = list(_bmu_index._index_parts(codebook, Grid(17, 33)))
    parts[part] = wrong(parts[part])
    with pytest.raises(ValueError, match=r"^bmu_pruned: index_parts must be the tensors of a BMUIndex"):
        torch.ops.somvae_ext.bmu_pruned(z, codebook, parts)


def test_parts_of_another_codebook_are_refused() -> None:
    z, codebook = make(smooth, Grid(17, 33), 20, 7, torch.float32)
    for grid, dim, dtype in [
        (Grid(17, 32), 20, torch.float32),
        (Grid(17, 33), 21, torch.float32),
        (Grid(17, 33), 20, torch.float64),
    ]:
        parts = list(_bmu_index._index_parts(sheet(grid, dim).to(dtype), grid))
        with pytest.raises(ValueError, match="index_parts must be the tensors of a BMUIndex of this codebook's size"):
            torch.ops.somvae_ext.bmu_pruned(z, codebook, parts)


@pytest.mark.parametrize("count", [0, 1, 10, 12])
def test_another_number_of_parts_is_refused(count: int) -> None:
    z, codebook = make(smooth, Grid(3, 5), 4, 7, torch.float32)
    parts = [*_bmu_index._index_parts(codebook, Grid(3, 5)), torch.zeros(3)]
    with pytest.raises(ValueError, match=f"index_parts must be the 11 tensors of a BMUIndex, got {count}"):
        torch.ops.somvae_ext.bmu_pruned(z, codebook, parts[:count])


# ---- the bounds themselves -------------------------------------------------------------------------------------------


def unpanelled(panels: Tensor) -> Tensor:
    """Reshapes ``[panels, features, 16]`` to ``[panels * 16, features]``; floating-point panels become float64."""
    rows = panels.transpose(1, 2).reshape(-1, panels.shape[1])
    return rows.double() if rows.is_floating_point() else rows


class Bounds:
    """The tensors of an index in float64, and methods that compute their true values from the codes."""

    def __init__(self, codebook: Tensor, grid: Grid) -> None:
        parts = _bmu_index._index_parts(codebook, grid)
        self.codes = codebook.double()
        self.tiles, self.tile_of = parts.tiles.long(), parts.tile_of.long()
        self.packed = unpanelled(parts.packed)
        self.rank = parts.projections.shape[1] - 2
        self.mean = parts.mean.double()
        self.basis = parts.basis.double().transpose(0, 1).flatten(1)[:, : self.rank]
        self.projections = unpanelled(parts.projections)
        self.tile_boxes, self.group_boxes = unpanelled(parts.tile_boxes), unpanelled(parts.group_boxes)
        self.basis_error, self.code_error, _ = parts.errors.tolist()
        # Excludes the rows of absent codes.
        self.present = self.tiles.flatten() >= 0
        self.code_of = self.tiles.flatten()[self.present]

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the true p and q of points."""
        x = points.double() - self.mean
        p = x @ self.basis
        return p, (x - p @ self.basis.T).norm(dim=1)


def box_bounds(p: Tensor, q: Tensor, boxes: Tensor) -> Tensor:
    """Computes bound (2) of ``map_index.h`` for points and boxes, ``[points, boxes]``; NaN boxes give NaN."""
    lo, hi = boxes[:, 2::2], boxes[:, 3::2]
    outside = (lo - p[:, None]).clamp_min(0) + (p[:, None] - hi).clamp_min(0)
    return outside.square().sum(dim=2) + gap(q, boxes[:, 0], boxes[:, 1]).square()


def gap(q: Tensor, lo: Tensor, hi: Tensor) -> Tensor:
    return (lo - q[:, None]).clamp_min(0) + (q[:, None] - hi).clamp_min(0)


BOUND_CASES = [(Grid(1, 1), 17), (Grid(1, 40), 2), (Grid(5, 7), 17), (Grid(17, 33), 50), (Grid(20, 16), 130)]
every_bound_case = pytest.mark.parametrize(("grid", "dim"), BOUND_CASES, ids=str)
bound_data = pytest.mark.parametrize("data", [smooth, random, constant, offset, flat])
DOUBLE_EPS = torch.finfo(torch.float64).eps


@pytest.mark.parametrize("grid", [*GRIDS, Grid(130, 131), Grid(3, 700)], ids=str)
def test_every_code_is_in_one_tile(grid: Grid) -> None:
    tiles = _bmu_index._tile_table(grid)
    nodes = tiles.flatten()[tiles.flatten() >= 0]
    assert tiles.shape[1] == 16
    assert len(tiles) % 16 == 0
    assert torch.equal(nodes.sort().values, torch.arange(grid.num_nodes))


@pytest.mark.parametrize("grid", [*GRIDS, Grid(130, 131), Grid(3, 700)], ids=str)
def test_tiles_and_groups_are_blocks_of_the_grid(grid: Grid) -> None:
    tiles = _bmu_index._tile_table(grid)
    for blocks, area in ((tiles, 16), (tiles.view(-1, 256), 256)):
        for block in blocks:
            nodes = block[block >= 0]
            if len(nodes):
                rows, cols = nodes // grid.cols, nodes % grid.cols
                height, width = rows.max() - rows.min() + 1, cols.max() - cols.min() + 1
                assert len(nodes) == height * width <= area


@every_bound_case
@bound_data
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_parts_agree_with_their_true_values(grid: Grid, dim: int, data: Data, dtype: torch.dtype) -> None:
    _, codebook = make(data, grid, dim, 0, dtype)
    bounds = Bounds(codebook, grid)
    codes = bounds.codes[bounds.code_of]

    # Codes are at the positions that the tiles state, and absent ones are NaN.
    assert torch.equal(bounds.packed[bounds.present], codes)
    assert bounds.packed[~bounds.present].isnan().all()
    assert torch.equal(
        bounds.tile_of[bounds.code_of], torch.arange(len(bounds.tiles)).repeat_interleave(16)[bounds.present]
    )

    # The basis deviates from orthonormality by at most basis_error, plus the rounding of this test's own product.
    defect = (bounds.basis.T @ bounds.basis - torch.eye(bounds.rank, dtype=torch.float64)).norm().item()
    assert defect <= bounds.basis_error + dim * bounds.rank * DOUBLE_EPS
    assert defect <= dim * bounds.rank * torch.finfo(compute_dtype(dtype)).eps

    # Projections are within code_error of the true ones, and intervals contain the true remainders.
    p, q = bounds.project(codes)
    stored = bounds.projections[bounds.present]
    own_error = 4 * (dim + bounds.rank) * DOUBLE_EPS * (codes - bounds.mean).norm(dim=1)
    assert ((stored[:, 2:] - p).norm(dim=1) <= bounds.code_error + own_error).all()
    assert (stored[:, 0] <= q + own_error).all()
    assert (stored[:, 1] >= q - own_error).all()
    assert (stored[:, 0] <= stored[:, 1]).all()


@every_bound_case
@bound_data
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_no_bound_exceeds_the_quantity_that_it_bounds(grid: Grid, dim: int, data: Data, dtype: torch.dtype) -> None:
    """Bound of the group <= of the tile <= of the code <= squared distance, for rows near the map and far from it."""
    z, codebook = make(data, grid, dim, 30, dtype)
    z = torch.cat([z, codebook[:10], (3 * z.double()).to(dtype)])
    bounds = Bounds(codebook, grid)
    p, q = bounds.project(z)
    stored = bounds.projections[bounds.present]
    tile = bounds.tile_of[bounds.code_of]

    of_groups = box_bounds(p, q, bounds.group_boxes)[:, tile // 16]
    of_tiles = box_bounds(p, q, bounds.tile_boxes)[:, tile]
    projected = (p[:, None] - stored[:, 2:]).norm(dim=2)
    gaps = gap(q, stored[:, 0], stored[:, 1])
    of_codes = projected.square() + gaps.square()
    rounded = 1 + 4 * (dim + bounds.rank) * DOUBLE_EPS  # rounding of this test's own sums
    assert (of_groups <= of_tiles * rounded).all()
    assert (of_tiles <= of_codes * rounded).all()

    # Stored projections have the error code_error, the basis basis_error; x - V p cancels for rows near the plane.
    true = (z.double()[:, None] - bounds.codes[bounds.code_of]).square().sum(dim=2)
    norm = (z.double() - bounds.mean).norm(dim=1, keepdim=True) + (bounds.codes - bounds.mean).norm(dim=1).max()
    own_error = 4 * (dim + bounds.rank) * DOUBLE_EPS * norm
    true_bound = (projected - bounds.code_error - own_error).clamp_min(0).square() + (gaps - own_error).clamp_min(
        0
    ).square()
    assert (true_bound <= true * (1 + bounds.basis_error + bounds.basis_error**2) * rounded).all()


def test_bounds_are_close_on_a_smooth_map() -> None:
    """For most pairs, the bound is more than half of the distance; for a random codebook it is nearly useless."""
    grid = Grid(17, 33)

    def share(data: Data) -> float:
        z, codebook = make(data, grid, 130, 50, torch.float32)
        bounds = Bounds(codebook, grid)
        p, q = bounds.project(z)
        true = (z.double()[:, None] - bounds.codes[bounds.code_of]).square().sum(dim=2)
        return (box_bounds(p, q, bounds.tile_boxes)[:, bounds.tile_of[bounds.code_of]] / true).median().item()

    assert share(smooth) > 0.5
    assert share(random) < 0.1


@pytest.mark.parametrize("grid", [Grid(40, 40), Grid(1, 600), Grid(600, 1), Grid(100, 130)], ids=str)
@pytest.mark.parametrize("dim", [2, 50])
def test_roughness_distinguishes_smooth_maps_from_random_ones(grid: Grid, dim: int) -> None:
    assert _bmu_index._roughness(sheet(grid, dim).float(), grid) < 0.1
    # The ratio of two means over at least 600 pairs and two features is within a fifth of 1.
    assert abs(_bmu_index._roughness(normal(grid.num_nodes, dim, seed=1), grid) - 1) < 0.2
    assert _bmu_index._roughness((1e4 + sheet(grid, dim)), grid) < 0.1
