// Exact best-matching-unit search that skips most of a map. CPU only; no torch here.
//
// The codes of a map lie on a smooth sheet: neighbors on the grid are close to each other, and all codes are close to a
// subspace of few dimensions. For a row z and a code e, let x = z - mean and y = e - mean. Let V be an orthonormal
// basis of `rank` directions, p_x = V'x the projection of x and q_x = |x - V p_x| the length of its residual; likewise
// p_y and q_y. Then
//
//   |z - e|^2 = |p_x - p_y|^2 + |(x - V p_x) - (y - V p_y)|^2 >= |p_x - p_y|^2 + (q_x - q_y)^2.            (1)
//
// This bound costs about as much as rank features and is tight because q_y is small. Codes are grouped into tiles of 16
// grid neighbors, and tiles into groups of 16. The box around the projections of a tile or a group (lo <= p_y <= hi in
// every direction) and the range [q_lo, q_hi] of its q_y bound all of its codes at once:
//
//   |z - e|^2 >= (distance from p_x to the box)^2 + (distance from q_x to [q_lo, q_hi])^2.                 (2)
//
// A row visits the tiles that (2) does not rule out, and scores those of them in which (1) does not rule out every
// code. Codes whose scores are within the limit of bmu/score_limit.h become the row's candidates, among which the exact
// scores of bmu.h choose. No winner is missed, because every comparison allows for rounding:
//
// * Scores. The true distance of a code that can win does not exceed the limit of the best score so far.
// * Basis. V is not quite orthonormal: with n = |V'V - I|, the bounds are at most (1 + n + n^2) times |z - e|^2.
// * Projections. The computed p has an error of at most d = gamma_r sqrt(rank) (1 + n) |x|, where r bounds the number
//   of roundings in an element of p (`terms` in map_projection.h). q lies in an interval that is computed in double
//   from |x|^2 - |p|^2 and these errors.
// * Squares. If |p_x - p_y| is computed as t with an error of at most d, then, for a = 2^-11, its true square is at
//   least (1 - a / 2) t^2 - 2 d^2 / a. The other half of a covers the rounding of t^2.
// * Subnormal numbers. Numbers below m, the smallest normal number of C, count as zero (cpu/subnormals.h). The bounds
//   are therefore those of a row and codes that are off by a few m in each feature. By the argument of
//   bmu/score_limit.h, the limit of the scores and the roundings above have room for that.
//
// Rows with infinite values, or values so large that squares may overflow, are scored exactly against all codes. Rows
// with a NaN have no winner. Codebooks with any such values are not indexed.
#pragma once
#include <cstdint>

#include "dtypes.h"

namespace somvae {

constexpr int64_t kLargestRank = 64;
constexpr int kTileCodes = 16;   // codes of a tile, which fill a panel
constexpr int kGroupTiles = 16;  // tiles of a group, whose boxes fill a panel

// A codebook prepared for `pruned_search_cpu` (built by somvae_ext/ops/_bmu_index.py). C is Compute<T> of the rows'
// type.
template <class C>
struct MapIndex {
  const int32_t* tiles;    // [tile_count, 16] codes of each tile, -1 where there is none
  const int32_t* tile_of;  // [codes] the tile of each code
  const C* packed;         // [tile_count, dim, 16] codes; missing ones are NaN, here and below
  const C* mean;           // [dim]
  const C* basis;          // [panels of rank, dim, 16] columns of V, missing ones are zero
  const C* projections;    // [tile_count, 2 + rank, 16] q_lo, q_hi, p of each code
  const C* tile_boxes;     // [groups, 2 + 2 rank, 16] q_lo, q_hi, and for each direction lo, hi of each tile
  const C* group_boxes;    // [panels of groups, 2 + 2 rank, 16] the same of each group of 16 tiles
  const C* tile_centers;   // [groups, rank, 16] the center of each tile's box
  const C* group_centers;  // [panels of groups, rank, 16] the same of each group
  double basis_error;      // n = |V'V - I|
  double code_error;       // largest d of a code
  double largest_norm;     // the largest |x|^2 of a row that can be pruned; beyond it, squares might overflow
  int64_t codes, dim, rank, tile_count;
};

// The work of a search, in multiply-adds.
struct SearchWork {
  int64_t projected = 0, screened = 0, scored = 0;
};

template <class T>
struct PrunedSearchArgs {
  MapIndex<Compute<T>> map;
  const T* codebook;     // [codes, dim] that the index was built from
  const T* z;            // [rows, dim]
  const int64_t* hint;   // [rows] codes that are likely to be near, in [0, codes); or null
  Compute<T>* distance;  // [rows, k] out
  int64_t* index;        // [rows, k] out
  int64_t rows;
  int k;
  int threads;  // that search at the same time: the more there are, the fewer rows each projects at once
};

// Searches rows [first, last). The results have the same bits as those of bmu_cpu over all panels, for any range.
template <class T>
SearchWork pruned_search_cpu(const PrunedSearchArgs<T>& args, int64_t first, int64_t last);

}  // namespace somvae
