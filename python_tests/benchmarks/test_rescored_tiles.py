"""The search's first pass, emulated: it keeps every winner's tile, and on trained maps it keeps few others."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from cases import normal
from rescored_tiles import (
    ROUNDOFF,
    TILE,
    Scores,
    Trained,
    Work,
    approximate_scores,
    blob_rows,
    center_of,
    remaining_work,
    rescored_tiles,
    split,
    training,
    uncertain_tiles,
)
from torch import Tensor

N, K, DIM = 60, 940, 40  # 15 tiles of 64 codes, or 8 of 128; the last tile is partly filled
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
Data = tuple[Tensor, Tensor]


def random(dtype: torch.dtype) -> Data:
    return normal(N, DIM, seed=1, dtype=dtype), normal(K, DIM, seed=2, dtype=dtype)


def offset(dtype: torch.dtype) -> Data:
    """A common offset that cancels in the differences, which leaves them few correct digits."""
    return normal(N, DIM, seed=1, dtype=dtype, offset=100.0), normal(K, DIM, seed=2, dtype=dtype, offset=100.0)


def clustered(dtype: torch.dtype) -> Data:
    centers = normal(20, DIM, seed=3)
    rows = centers[torch.arange(N) % 20] + normal(N, DIM, seed=1, scale=1e-3)
    codes = centers[torch.arange(K) % 20] + normal(K, DIM, seed=2, scale=1e-3)
    return rows.to(dtype), codes.to(dtype)


def duplicated(dtype: torch.dtype) -> Data:
    """Every code ten times, each time in another tile."""
    z, codebook = random(dtype)
    return z, codebook[: K // 10].repeat(10, 1)


def on_codes(dtype: torch.dtype) -> Data:
    """Rows equal to codes, at distance 0."""
    _, codebook = random(dtype)
    return codebook[:: K // N][:N].clone(), codebook


def tiny(dtype: torch.dtype) -> Data:
    scale = 1e-6 if dtype == torch.float16 else 1e-15
    return normal(N, DIM, seed=1, dtype=dtype, scale=scale), normal(K, DIM, seed=2, dtype=dtype, scale=scale)


def huge(dtype: torch.dtype) -> Data:
    scale = 1e4 if dtype == torch.float16 else 1e17
    return normal(N, DIM, seed=1, dtype=dtype, scale=scale), normal(K, DIM, seed=2, dtype=dtype, scale=scale)


def vanishing(dtype: torch.dtype) -> Data:
    """Values whose squares underflow float32; in float16, values near its smallest subnormal."""
    scale = 1e-7 if dtype == torch.float16 else 1e-24
    return normal(N, DIM, seed=1, dtype=dtype, scale=scale), normal(K, DIM, seed=2, dtype=dtype, scale=scale)


def overflowing(dtype: torch.dtype) -> Data:
    """Values whose squares overflow float32, except in float16, whose range is too small for that."""
    scale = 1e4 if dtype == torch.float16 else 1e20
    return normal(N, DIM, seed=1, dtype=dtype, scale=scale), normal(K, DIM, seed=2, dtype=dtype, scale=scale)


def outlying_rows(dtype: torch.dtype) -> Data:
    z, codebook = random(dtype)
    return torch.cat([z[:50], 1000 * z[50:]]), codebook


def outlying_features(dtype: torch.dtype) -> Data:
    """Features of very different magnitudes, where only the small ones distinguish the codes."""
    sizes = 10.0 ** -(torch.arange(DIM) % 7).float()
    large = (torch.arange(DIM) % 7 == 0).float()
    rows, codes = normal(N, DIM, seed=1), normal(K, DIM, seed=2)
    return (1000 * large + rows * sizes).to(dtype), (1000 * large + codes * sizes).to(dtype)


def map_codes(dtype: torch.dtype) -> Data:
    """Codes of an untrained map, which form a plane: the neighbors of the winner are almost as near."""
    start = next(iter(training(blob_rows(2000), 32)))
    return blob_rows(N).to(dtype), start.codebook.to(dtype)


DATA: list[Callable[[torch.dtype], Data]] = [
    random,
    offset,
    clustered,
    duplicated,
    on_codes,
    tiny,
    huge,
    vanishing,
    overflowing,
    outlying_rows,
    outlying_features,
    map_codes,
]

every_data = pytest.mark.parametrize("make", DATA, ids=[make.__name__ for make in DATA])
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float16", "bfloat16"])


def distances(z: Tensor, codebook: Tensor) -> Tensor:
    """Returns squared distances by the definition, in float64, ``[N, K]``."""
    return (z.double()[:, None] - codebook.double()).square().sum(dim=2)


def winning_tiles(z: Tensor, codebook: Tensor, k: int) -> Tensor:
    """Returns which tiles hold one of the k best codes or a tie, bool ``[N, tiles]``."""
    exact = distances(z, codebook)
    is_best = exact <= exact.sort(dim=1).values[:, k - 1 : k]
    return torch.stack([tile.any(dim=1) for tile in is_best.split(TILE, dim=1)], dim=1)


def no_error(exact: Tensor, k: int) -> Tensor:
    return torch.zeros_like(exact)


def random_signs(exact: Tensor, k: int) -> Tensor:
    return torch.randint(2, exact.shape, generator=torch.Generator().manual_seed(5)) * 2.0 - 1


def against_the_winners(exact: Tensor, k: int) -> Tensor:
    """Makes the dot products of the k best codes too small, hence their scores too large; all others the reverse."""
    return torch.ones_like(exact).scatter(1, exact.topk(k, largest=False).indices, -1.0)


ERRORS = [no_error, random_signs, against_the_winners]


def error_of(scores: Scores, z: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the error of each score, and the q of its row and tile, in float64, ``[N, K]``."""
    rows = z.double() - center_of(codebook).double() if z.dtype == torch.float32 else z.double()
    true = distances(z, codebook) - rows.square().sum(dim=1, keepdim=True)
    return (scores.value.double() - true).abs(), of_codes(scores.q, codebook)


def of_codes(of_tiles: Tensor, codebook: Tensor) -> Tensor:
    return of_tiles.double().repeat_interleave(TILE, dim=1)[:, : len(codebook)]


@every_data
@every_dtype
@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("errors", ERRORS, ids=[errors.__name__ for errors in ERRORS])
def test_the_tiles_of_the_winners_are_rescored(
    make: Callable[[torch.dtype], Data], dtype: torch.dtype, k: int, errors: Callable[[Tensor, int], Tensor]
) -> None:
    z, codebook = make(dtype)
    scores = approximate_scores(z, codebook, errors(distances(z, codebook), k))
    rescored = rescored_tiles(z, codebook, scores, k)
    assert (rescored | ~winning_tiles(z, codebook, k)).all()


def test_errors_beyond_the_bound_lose_winners() -> None:
    """Shows that the test above can fail."""
    z, codebook = map_codes(torch.float32)
    scores = approximate_scores(z, codebook, 4 * against_the_winners(distances(z, codebook), 1))
    rescored = rescored_tiles(z, codebook, scores)
    assert not (rescored | ~winning_tiles(z, codebook, 1)).all()


@every_data
@every_dtype
def test_scores_are_off_by_no_more_than_beta(make: Callable[[torch.dtype], Data], dtype: torch.dtype) -> None:
    z, codebook = make(dtype)
    scores = approximate_scores(z, codebook, random_signs(distances(z, codebook), 1))
    error, q = error_of(scores, z, codebook)
    assert ((error <= 1.01 * of_codes(scores.beta, codebook)) | q.isinf()).all()


@every_data
@every_dtype
def test_emulated_rounding_uses_only_its_share_of_the_bound(
    make: Callable[[torch.dtype], Data], dtype: torch.dtype
) -> None:
    """The emulated errors use at most 12 of the 48 or 76 units of the bound."""
    z, codebook = make(dtype)
    error, q = error_of(approximate_scores(z, codebook), z, codebook)
    assert ((error <= 12 * ROUNDOFF * q + DIM * 2.0**-120) | q.isinf()).all()


def test_a_split_leaves_out_less_than_2_to_the_minus_22() -> None:
    x = normal(50, 30, seed=1, scale=1e-9)
    high, low, scale = split(x, x.abs().amax(dim=1, keepdim=True))
    scaled = x.double() * scale.double()
    left_out = (scaled - high.double() - low.double()).abs()
    assert (torch.frexp(scaled.abs().amax(dim=1)).exponent == 15).all()  # from 2^14 to 2^15
    assert (left_out <= 2.0**-22 * scaled.abs() + 2.0**-25).all()  # the second term: float16's smallest subnormals


def test_without_a_finite_bound_all_tiles_are_rescored() -> None:
    z, codebook = overflowing(torch.float32)
    assert rescored_tiles(z, codebook, approximate_scores(z, codebook)).all()


def test_two_best_of_one_tile_are_found_there() -> None:
    z, codebook = normal(5, DIM, seed=1), normal(TILE, DIM, seed=2)
    assert rescored_tiles(z, codebook, approximate_scores(z, codebook), k=2).shape == (5, 1)


def test_a_code_that_is_not_finite_does_not_widen_the_bound() -> None:
    z, codebook = random(torch.float32)
    codebook[::100] = torch.inf
    tiles = rescored_tiles(z, codebook, approximate_scores(z, codebook)).sum(dim=1)
    assert tiles.double().mean() < 2


def test_a_code_far_out_widens_the_bound_of_its_tile_alone() -> None:
    for far in (1e4, 1e6, 1e17):
        z, codebook = random(torch.float32)
        codebook[0] = far  # one of the codes from which the center is computed
        tiles = rescored_tiles(z, codebook, approximate_scores(z, codebook))
        assert tiles[:, 1:].sum(dim=1).double().mean() < 2


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("k", [1, 2])
def test_the_kernel_rescores_as_many_tiles(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, k: int) -> None:
    from somvae_ext import _C

    monkeypatch.setenv("SOMVAE_EXT_BMU_KERNEL", "tensor_core")
    z, codebook = blob_rows(1000).to(dtype), next(iter(training(blob_rows(2000), 64))).codebook.to(dtype)
    expected = rescored_tiles(z, codebook, approximate_scores(z, codebook), k).sum().item()
    rescored = _C.bmu_work(z.cuda(), codebook.cuda(), k)["rescored"] / TILE
    assert rescored == pytest.approx(expected, rel=0.05)


# --- Trained maps ----------------------------------------------------------------------------------------------------


@cache
def small_map() -> list[tuple[Trained, Work]]:
    """64 x 64 nodes: the initial codes, and those after each of four epochs."""
    x = blob_rows(5000)
    return [(trained, remaining_work(x[::20], trained.codebook)) for trained in training(x, 64, epochs=4)]


@cache
def large_map() -> list[tuple[Trained, Work]]:
    """128 x 128 nodes: the initial codes, and those after each of four epochs."""
    x = blob_rows(20_000)
    return [(trained, remaining_work(x[::100], trained.codebook)) for trained in training(x, 128, epochs=4)]


def test_a_training_ends_with_the_default_width_of_the_estimator() -> None:
    widths = [trained.sigma for trained, _ in small_map()]
    assert widths == pytest.approx([None, 16.0, 16.0 / 32 ** (1 / 3), 16.0 / 32 ** (2 / 3), 0.5])


def test_few_tiles_are_rescored_on_a_small_map() -> None:
    for trained, work in small_map():
        assert work.mean <= 2, trained.epochs
        assert work.p99 <= 6, trained.epochs


@pytest.mark.parametrize("make", [make for make in DATA if make not in (vanishing, overflowing)])
@pytest.mark.parametrize("k", [1, 2])
def test_float32_differences_find_the_winners_of_certain_rows(make: Callable[[torch.dtype], Data], k: int) -> None:
    """Sequential float32 sums of squared differences find their winners. (Squares out of range are not emulated.)"""
    z, codebook = make(torch.float32)
    certain = uncertain_tiles(z, codebook, k) == 0
    score = torch.zeros(len(z), len(codebook))
    for d in range(z.shape[1]):
        score += (z[:, d, None] - codebook[:, d]).square()
    winners = score.topk(k, largest=False).indices.sort(dim=1).values
    true = distances(z, codebook).topk(k, largest=False).indices.sort(dim=1).values
    assert torch.equal(winners[certain], true[certain])


def test_little_work_is_repeated_on_a_large_map() -> None:
    for trained, work in large_map():
        assert work.share <= 0.01, trained.epochs
        assert work.share_of_uncertain <= 0.01, trained.epochs
