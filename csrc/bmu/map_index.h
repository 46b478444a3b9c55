// Exact best-matching-unit search that leaves out most of a map. CPU only; no torch here.
//
// The codes of a map lie on a smooth sheet: neighbours on the grid are close to each other, and all of them are close
// to a subspace of few dimensions. With x = z - mean, y = e - mean, an orthonormal basis V of `rank` directions, p =
// V'x and the rest q = |x - V p|,
//
//   |z - e|^2 = |p_x - p_y|^2 + |(x - V p_x) - (y - V p_y)|^2 >= |p_x - p_y|^2 + (q_x - q_y)^2,            (1)
//
// a bound that costs rank + 1 features and is close, because q_y is small. Codes come in tiles of 16 grid neighbours
// and tiles in groups of 16; a ball around a tile's (group's) projections with centre c and radius r, and the smallest
// and largest q in it, bound all of its codes at once:
//
//   |z - e|^2 >= max(0, |p_x - c| - r)^2 + gap^2,  gap = distance of q_x to the interval [q_lo, q_hi].     (2)
//
// A row visits the tiles that (2) leaves, among their codes those that (1) leaves, and of these whole tiles get the
// score that bmu.h defines, bit for bit. Nothing can be lost, because both sides of every comparison carry their
// rounding:
//
// - Scores. All terms are positive, so a computed score is s (1 +- g), g = gamma_{dim + 2}, up to underflow, which adds
// at
//   most dim * smallest normal. A code can win only if s (1 - g) <= best computed score U, so s <= U (1 + 3 g) + tiny.
// - Basis. V is what it is, not quite orthonormal: with n = |V'V - I|, the sum in (1) is at most (1 + n + n^2) |x -
// y|^2.
// - Projections. p is computed with an error of at most d = gamma_{terms + 1} sqrt(rank) (1 + n) |x|; q lies in an
//   interval [q_lo, q_hi], computed in double from |x|^2 - |p|^2 with those errors.
// - Comparisons are of squares: if |p_x - p_y| is wrong by d, then for a = 2^-11 the true square is at least
//   (1 - a / 2) t^2 - 2 d^2 / a where t is what came out, and the other half of a pays for the rounding of t^2.
// Rows and codebooks with values that are not finite, or so large that squares may overflow, are not pruned.
#pragma once
#include <cstdint>

#include "dtypes.h"

namespace somvae {

constexpr int64_t kLargestRank = 64;
constexpr int kTileCodes = 16;   // of a tile: they fill a panel
constexpr int kGroupTiles = 16;  // of a group: their balls fill a panel

// A codebook prepared for `pruned_search_cpu` (built by somvae_ext/ops/bmu_index.py). C is Compute<T> of the rows'
// type.
template <class C>
struct MapIndex {
  const int32_t* tiles;    // [tile_count, 16] codes of each tile, -1: none
  const int32_t* tile_of;  // [units] the tile of each code
  const C* packed;         // [tile_count, dim, 16] codes; missing ones are NaN, here and below
  const C* mean;           // [dim]
  const C* basis;          // [panels of rank, dim, 16] columns of V, missing ones are zero
  const C* projections;    // [tile_count, 2 + rank, 16] q_lo, q_hi, p of each code
  const C* tile_boxes;     // [groups, 2 + 2 rank, 16] q_lo, q_hi, and for each direction lo, hi of each tile
  const C* group_boxes;    // [panels of groups, 2 + 2 rank, 16] the same of each group of 16 tiles
  const C* tile_centers;   // [groups, rank, 16] the mean of each tile's p
  const C* group_centers;  // [panels of groups, rank, 16] and of each group's
  double basis_error;      // n = |V'V - I|
  double code_error;       // largest d of a code
  double largest_norm;     // above which |x|^2 might overflow
  int64_t units, dim, rank, tile_count;
};

// What a search did, in multiply-adds.
struct SearchWork {
  int64_t projected = 0, screened = 0, scored = 0;
};

template <class T>
struct PrunedSearchArgs {
  MapIndex<Compute<T>> map;
  const T* z;            // [rows, dim]
  const int64_t* hint;   // [rows] codes that are likely to be near, in [0, units); or null
  Compute<T>* distance;  // [rows, k] out
  int64_t* index;        // [rows, k] out
  int64_t rows;
  int k;
};

// Rows [first, last): what bmu_cpu finds over all panels, bit for bit, whatever the range.
template <class T>
SearchWork pruned_search_cpu(const PrunedSearchArgs<T>& args, int64_t first, int64_t last);

}  // namespace somvae
