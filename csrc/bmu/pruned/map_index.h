// Exact best-matching-unit search that skips most of a map. CPU only; no torch here.
//
// The codes of a map lie on a smooth sheet: neighbours on the grid are close to each other, and all of them are close
// to a subspace of few dimensions. Let x = z - mean, y = e - mean, V an orthonormal basis of `rank` directions, p = V'x
// the projection of a row and q = |x - V p| the length of its rest. Then
//
//   |z - e|^2 = |p_x - p_y|^2 + |(x - V p_x) - (y - V p_y)|^2 >= |p_x - p_y|^2 + (q_x - q_y)^2,            (1)
//
// a bound that costs rank + 1 features and is tight, because q_y is small. Codes come in tiles of 16 grid neighbours,
// tiles in groups of 16. The box (lo <= p_y <= hi in every direction) around the projections of a tile, or group, and
// the smallest and largest q in it bound all of its codes at once:
//
//   |z - e|^2 >= (distance from p_x to the box)^2 + (distance from q_x to [q_lo, q_hi])^2.                 (2)
//
// A row visits the tiles that (2) does not rule out, and scores those tiles in which (1) leaves some code. Codes whose
// scores are within the limit of bmu/score_limit.h are the row's candidates; the exact scores of bmu.h choose among
// them. No winner is missed, because every comparison allows for rounding:
//
// * Scores. The true distance of a code that can win does not exceed the limit of the best score so far.
// * Basis. V is not quite orthonormal: with n = |V'V - I|, the bounds are at most (1 + n + n^2) times the distance.
// * Projections. p is computed with an error of at most d = gamma_{terms + 1} sqrt(rank) (1 + n) |x|. q lies in an
//   interval, computed in double from |x|^2 - |p|^2 with those errors.
// * Squares. If |p_x - p_y| came out as t and is wrong by d, then for a = 2^-11 the true square is at least
//   (1 - a / 2) t^2 - 2 d^2 / a. The other half of a pays for the rounding of t^2.
// * Subnormal numbers. Those below m, the smallest normal number of C, count as zero (cpu/subnormals.h), so that the
//   bounds are those of a row and codes which are off by a few m in each feature. By the same argument as in
//   bmu/score_limit.h, the limit of the scores and the roundings above have room for that.
//
// Rows with values that are not finite, or so large that squares may overflow, are scored exactly against all codes.
// Codebooks with such values are not indexed.
#pragma once
#include <cstdint>

#include "dtypes.h"

namespace somvae {

constexpr int64_t kLargestRank = 64;
constexpr int kTileCodes = 16;   // of a tile: they fill a panel
constexpr int kGroupTiles = 16;  // of a group: their boxes fill a panel

// A codebook prepared for `pruned_search_cpu` (built by somvae_ext/ops/_bmu_index.py). C is Compute<T> of the rows'
// type.
template <class C>
struct MapIndex {
  const int32_t* tiles;    // [tile_count, 16] codes of each tile, -1: none
  const int32_t* tile_of;  // [codes] the tile of each code
  const C* packed;         // [tile_count, dim, 16] codes; missing ones are NaN, here and below
  const C* mean;           // [dim]
  const C* basis;          // [panels of rank, dim, 16] columns of V, missing ones are zero
  const C* projections;    // [tile_count, 2 + rank, 16] q_lo, q_hi, p of each code
  const C* tile_boxes;     // [groups, 2 + 2 rank, 16] q_lo, q_hi, and for each direction lo, hi of each tile
  const C* group_boxes;    // [panels of groups, 2 + 2 rank, 16] the same of each group of 16 tiles
  const C* tile_centers;   // [groups, rank, 16] the middle of each tile's box
  const C* group_centers;  // [panels of groups, rank, 16] and of each group's
  double basis_error;      // n = |V'V - I|
  double code_error;       // largest d of a code
  double largest_norm;     // above which |x|^2 might overflow
  int64_t codes, dim, rank, tile_count;
};

// The work of a search, in multiply-adds.
struct SearchWork {
  int64_t projected = 0, screened = 0, scored = 0;
};

template <class T>
struct PrunedSearchArgs {
  MapIndex<Compute<T>> map;
  const T* codebook;     // [codes, dim] from which the map was built
  const T* z;            // [rows, dim]
  const int64_t* hint;   // [rows] codes that are likely to be near, in [0, codes); or null
  Compute<T>* distance;  // [rows, k] out
  int64_t* index;        // [rows, k] out
  int64_t rows;
  int k;
  int threads;  // that search at the same time and share a bounded amount of scratch memory
};

// Searches rows [first, last). Finds the same bits as bmu_cpu over all panels, whatever the range.
template <class T>
SearchWork pruned_search_cpu(const PrunedSearchArgs<T>& args, int64_t first, int64_t last);

}  // namespace somvae
