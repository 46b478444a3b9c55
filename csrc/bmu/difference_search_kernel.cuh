// First pass on the FP32 units: computes scores from differences in float32. Keeps the k smallest scores of a row with
// their codes, and the next smallest score. Most rows are certain: if the next smallest score cannot win
// (score_limit.h), no other code can. For the other rows, the least score of each tile of codes tells which tiles to
// score again (rescore_kernel.cuh).
#pragma once
#include <cmath>
#include <cstdint>

#include "bmu/bmu.h"
#include "bmu/bmu_policy.h"
#include "bmu/candidate_keys.cuh"
#include "bmu/score_limit.h"
#include "bmu/score_tiles.cuh"
#include "bmu/smallest_scores.cuh"
#include "bmu/tile_ranges.cuh"
#include "cuda/launch.cuh"

namespace somvae {

template <class T>
struct DifferenceSearch {
  BmuArgs<T> args;
  bool vectors;  // chunks_are_aligned
  int64_t blocks;
  ScoreLimit<float> limits;
  Key* smallest;  // [rows, k + 1]
  float* least;   // [tiles, rows] the least score of a row among a tile's codes, infinity if all are NaN
  float* limit;   // [rows] the limit of scores in float32; negative for rows that are certain
  CandidateLists lists;
};

// Three blocks share a multiprocessor, each thread with up to 168 registers: 64 scores, 32 features of codes, and the
// search for the smallest.
// Budget: 168 registers, 32 KiB of shared memory.
template <class T, int k, int rows>
__global__ void __launch_bounds__(kScoreThreads, kDifferenceBlocks)
    difference_search_kernel(DifferenceSearch<T> search) {
  using Tiles = ScoreTiles<float, rows, kDifferenceCodes>;
  constexpr int kRowsPerThread = Tiles::kRowsPerThread, kSharers = kScoreSide / kRowsPerThread;
  __shared__ Tiles tiles;
  __shared__ SmallestAndNext<k> all[rows];  // over the tiles so far; not in registers, which are scarce
  const BmuArgs<T>& args = search.args;
  const int x = threadIdx.x % kScoreSide, y = threadIdx.x / kScoreSide;
  const TileRanges ranges = {tiles_of(args.rows, rows), tiles_of(args.codes, kDifferenceCodes), search.blocks};

  ranges.for_each_piece(blockIdx.x, [&](int row_tile, int first, int last) {
    const int64_t row0 = int64_t(row_tile) * rows;
    const int item = y + kScoreHeight * (x / kSharers);  // the row whose best codes this thread holds
    SmallestAndNext<k>& best = all[item];
    if (x % kSharers == 0) best.reset();
    const auto row_of = [&](int i) { return row0 + i < args.rows ? row0 + i : int64_t{-1}; };
    tiles.pass(args, search.vectors, row_of, first, last,
               [&](int tile, float (&score)[kRowsPerThread][Tiles::kCodesPerThread]) {
                 const auto shared = smallest_of_tile<SmallestAndNext<k>>(score, tile, args.codes);
                 if (x % kSharers != 0 || row0 + item >= args.rows) return;
                 best.offer(shared);
                 const uint32_t bits = shared.smallest.bits[0];
                 search.least[tile * args.rows + row0 + item] = bits < kNoScore<float> ? score_of(bits) : INFINITY;
               });

    if (x % kSharers != 0 || row0 + item >= args.rows) return;
    const auto is_score = [](uint32_t bits) { return bits < kNoScore<float>; };
    Key* slots = search.smallest + (row0 + item) * (k + 1);
    for (int n = 0; n < k; ++n) {
      if (is_score(best.smallest.bits[n])) {
        insert_key<k + 1>(slots, score_key(best.smallest.bits[n], best.smallest.index[n]));
      }
    }
    constexpr uint32_t kNoIndex = 0xffffffffu;  // past all codes, so that the key does not come before that of a code
    if (is_score(best.next)) insert_key<k + 1>(slots, score_key(best.next, kNoIndex));
  });
}

// Lists the codes of the rows that are certain, and sets the limit of the other rows. A row without a score has no code
// that can win: a score is NaN in float32 if and only if it is NaN in float64. One thread per row.
template <class T, int k>
__global__ void list_certain_kernel(DifferenceSearch<T> search) {
  const BmuArgs<T>& args = search.args;
  if (global_thread() == 0) *search.lists.dense_count = 0;
  for (int64_t row = global_thread(); row < args.rows; row += total_threads()) {
    const Key* slots = search.smallest + row * (k + 1);
    const float limit = search.limits(key_score(slots[k - 1]));
    const bool certain = limit < INFINITY && key_score(slots[k]) > limit;
    search.limit[row] = certain || slots[0] == kNoKey ? -1.0f : limit;
    search.lists.count[row] = certain ? k : 0;
    for (int n = 0; n < k && certain; ++n) search.lists.key[row * kMostCandidates + n] = slots[n];
  }
}

}  // namespace somvae
