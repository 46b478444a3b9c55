// CUDA search of all codes by exact scores (bmu.h): for float64 data, for small problems, and for rows of other types
// with too many candidates to list.
#pragma once
#include <cmath>
#include <cstdint>

#include "bmu/best_codes.h"
#include "bmu/bmu.h"
#include "bmu/bmu_policy.h"
#include "bmu/candidate_keys.cuh"
#include "bmu/score_tiles.cuh"
#include "bmu/smallest_scores.cuh"
#include "bmu/tile_ranges.cuh"
#include "cuda/launch.cuh"

namespace somvae {

// All rows, or those of a list whose length only the device knows.
struct RowSelection {
  int64_t rows;
  const int64_t* list;   // null for all rows
  const Key* list_size;  // the length of the list

  __device__ inline int64_t count() const { return list == nullptr ? rows : static_cast<int64_t>(*list_size); }
  __device__ inline int64_t operator[](int64_t i) const { return list == nullptr ? i : list[i]; }
};

template <class T>
struct ExactSearch {
  BmuArgs<T> args;
  RowSelection selection;
  bool vectors;  // chunks_are_aligned
  int64_t blocks;
  // The best codes of a block for its first and its last tile of rows, for which other blocks may search other codes.
  double* score;   // [blocks, 2, kExactRows, k]
  int64_t* index;  // likewise

  __device__ inline TileRanges ranges() const {
    return {tiles_of(selection.count(), kExactRows), tiles_of(args.codes, kExactCodes), blocks};
  }
};

// Budget: 128 registers, 24 KiB of shared memory.
template <class T, int k>
__global__ void __launch_bounds__(kScoreThreads, kExactBlocks) exact_search_kernel(ExactSearch<T> search) {
  using Tiles = ScoreTiles<double, kExactRows, kExactCodes>;
  constexpr int kRowsPerThread = Tiles::kRowsPerThread, kSharers = kScoreSide / kRowsPerThread;
  __shared__ Tiles tiles;
  const BmuArgs<T>& args = search.args;
  const int x = threadIdx.x % kScoreSide, y = threadIdx.x / kScoreSide;
  const int64_t count = search.selection.count();
  if (count == 0) return;
  const TileRanges ranges = search.ranges();

  int piece = 0;
  ranges.for_each_piece(blockIdx.x, [&](int row_tile, int first, int last) {
    const int64_t row0 = int64_t(row_tile) * kExactRows;
    SmallestScores<double, k> best;  // of one of this thread's rows, over the tiles searched so far
    best.reset();
    const auto row_of = [&](int item) { return row0 + item < count ? search.selection[row0 + item] : int64_t{-1}; };
    tiles.pass(args, search.vectors, row_of, first, last,
               [&](int tile, double (&score)[kRowsPerThread][Tiles::kCodesPerThread]) {
                 best.offer(smallest_of_tile<SmallestScores<double, k>>(score, tile, args.codes));
               });

    const bool whole = first == 0 && last == ranges.code_tiles;
    const int item = y + kScoreHeight * (x / kSharers), slot = piece > 0;
    ++piece;
    if (x % kSharers != 0 || row0 + item >= count) return;
    const int64_t row = search.selection[row0 + item];
    for (int n = 0; n < k; ++n) {
      const bool has_score = best.bits[n] < kNoScore<double>;
      const double score = has_score ? score_of(best.bits[n]) : double(NAN);
      if (whole) {
        args.distance[row * k + n] = static_cast<Compute<T>>(score);
        args.index[row * k + n] = best.index[n];
      } else {
        const int64_t at = ((int64_t(blockIdx.x) * 2 + slot) * kExactRows + item) * k + n;
        search.score[at] = score;
        search.index[at] = best.index[n];
      }
    }
  });
}

// Joins the results of several blocks for a row. One thread per row.
template <class T, int k>
__global__ void join_pieces_kernel(ExactSearch<T> search) {
  const BmuArgs<T>& args = search.args;
  const int64_t count = search.selection.count();
  if (count == 0) return;
  const TileRanges ranges = search.ranges();
  for (int64_t i = global_thread(); i < count; i += total_threads()) {
    const int64_t row_tile = i / kExactRows, item = i % kExactRows;
    const int64_t first = ranges.block_of(row_tile * ranges.code_tiles);
    const int64_t last = ranges.block_of((row_tile + 1) * ranges.code_tiles - 1);
    if (first == last) continue;
    BestCodes<double, int64_t, k> best;
    best.reset();
    for (int64_t block = first; block <= last; ++block) {
      if (ranges.begin(block) == ranges.begin(block + 1)) continue;  // fewer tiles than blocks
      const int64_t slot = ranges.begin(block) / ranges.code_tiles < row_tile;
      for (int n = 0; n < k; ++n) {
        const int64_t at = ((block * 2 + slot) * kExactRows + item) * k + n;
        best.offer(search.score[at], search.index[at]);
      }
    }
    const int64_t row = search.selection[i];
    for (int n = 0; n < k; ++n) {
      args.distance[row * k + n] = static_cast<Compute<T>>(best.score[n]);
      args.index[row * k + n] = best.index[n];
    }
  }
}

}  // namespace somvae
