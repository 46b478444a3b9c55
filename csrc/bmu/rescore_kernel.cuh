// Computes float32 scores, from differences, of the codes that a first pass could not rule out, and lists the codes
// that can win. An item of work is a row and a tile of kRescoredCodes codes. A block takes one tile and a chunk of
// rows, collects the rows whose winner may be in the tile, and scores them together.
#pragma once
#include <cmath>
#include <cstdint>

#include "bmu/bmu.h"
#include "bmu/bmu_policy.h"
#include "bmu/candidate_keys.cuh"
#include "bmu/score_limit.h"
#include "bmu/score_tiles.cuh"
#include "bmu/smallest_scores.cuh"
#include "bmu/tensor_core_search_kernel.cuh"
#include "bmu/tile_ranges.cuh"
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"

namespace somvae {

// After difference_search_kernel, a row that is not certain scores the tiles whose least score is within its limit,
// which is final. After tensor_core_search_kernel, a row first scores the tile with its least a + margin, which gives a
// tight limit, and then the other tiles that this limit does not rule out.
enum class Rescored { of_uncertain_rows, best_tile, other_tiles };

template <class T>
struct Rescore {
  BmuArgs<T> args;
  bool vectors;        // chunks_are_aligned
  int64_t chunk_rows;  // rows of a chunk
  ScoreLimit<float> limits;
  CandidateLists lists;
  SearchCounters* counters;
  float* limit;  // [rows] the limit of scores in float32 (negative: the row is certain), or of S - |z'|^2
  // After difference_search_kernel:
  const float* least;  // [tiles of kDifferenceCodes, rows]
  // After tensor_core_search_kernel:
  TensorCoreSearch<T> approximate;
  int32_t* best_tile;  // [rows] negative where there is no winner
  float* tail;         // [rows] turns a limit of true distances into one of approximate scores when added
  Key* smallest;       // [rows, k] the smallest scores so far
};

constexpr int kRescoredRows = 32;  // rows scored together
constexpr int kScannedRows = 512;  // rows checked before those collected are scored

template <Rescored which, class T>
__device__ inline bool needs_scores(const Rescore<T>& rescore, int64_t row, int64_t tile) {
  if constexpr (which == Rescored::best_tile) {
    return rescore.best_tile[row] == tile;
  } else {
    if constexpr (which == Rescored::other_tiles) {
      if (is_ruled_out(rescore.approximate, row, tile, rescore.limit[row])) return false;
      if (rescore.best_tile[row] == tile || rescore.best_tile[row] < 0) return false;
    } else {
      static_assert(kDifferenceCodes % kRescoredCodes == 0);
      const float limit = rescore.limit[row];
      if (limit < 0) return false;
      if (rescore.least[tile / (kDifferenceCodes / kRescoredCodes) * rescore.args.rows + row] > limit) return false;
    }
    return atomicMax(rescore.lists.count + row, 0) <= kMostCandidates;  // else all codes are scored in float64 anyway
  }
}

// Merges a tile's smallest scores into those of the row. Returns the limit that follows from them.
template <Rescored which, int k, class T>
__device__ inline float lower_limit(const Rescore<T>& rescore, int64_t row, const SmallestScores<float, k>& best) {
  Key* slots = rescore.smallest + row * k;
  for (int n = 0; n < k; ++n) {
    if (best.bits[n] < kNoScore<float>) insert_key<k>(slots, score_key(best.bits[n], best.index[n]));
  }
  const float limit = rescore.limits(key_score(atomicMin(slots + k - 1, kNoKey)));  // an atomic read
  if constexpr (which == Rescored::best_tile) {                                     // one tile per row
    const float approximate = limit + rescore.tail[row];
    if (approximate < rescore.limit[row]) rescore.limit[row] = approximate;
  }
  return limit;
}

// Lists the codes of a row whose scores are within the limit. Called by the sixteen lanes that share the row. A row of
// -1 stands for none.
template <int codes>
__device__ inline void list_candidates(const CandidateLists& lists, int64_t row, const float (&score)[codes],
                                       float limit, unsigned code0, unsigned end) {
  const int x = threadIdx.x % kScoreSide, first_lane = threadIdx.x % 32 - x;
  unsigned can_win[codes];  // a bit for each lane
  int count = 0;
  for (int j = 0; j < codes; ++j) {
    const bool mine = row >= 0 && code0 + kScoreSide * j < end && score[j] <= limit;
    can_win[j] = __ballot_sync(kFullWarp, mine) >> first_lane & 0xffffu;
    count += __popc(can_win[j]);
  }
  int place = 0;
  if (x == 0 && count > 0) place = atomicAdd(lists.count + row, count);
  place = __shfl_sync(kFullWarp, place, first_lane);
  for (int j = 0; j < codes; ++j) {
    const int mine = place + __popc(can_win[j] & ((1u << x) - 1));
    if ((can_win[j] >> x & 1) && mine < kMostCandidates) {
      lists.key[row * kMostCandidates + mine] = score_key(score_bits(score[j]), code0 + kScoreSide * j);
    }
    place += __popc(can_win[j]);
  }
}

// Budget: 128 registers, 24 KiB of shared memory.
template <class T, int k, Rescored which>
__global__ void __launch_bounds__(kScoreThreads, kRescoreBlocks) rescore_kernel(Rescore<T> rescore) {
  using Tiles = ScoreTiles<float, kRescoredRows, kRescoredCodes>;
  constexpr int kRowsPerThread = Tiles::kRowsPerThread, kSharers = kScoreSide / kRowsPerThread;
  __shared__ Tiles tiles;
  __shared__ int64_t list[kScannedRows + kRescoredRows];
  __shared__ int list_size;
  const BmuArgs<T>& args = rescore.args;
  const int self = threadIdx.x, x = threadIdx.x % kScoreSide, y = threadIdx.x / kScoreSide;

  const auto score_rows = [&](const int64_t* rows, int count, int tile) {
    const auto row_of = [&](int item) { return item < count ? rows[item] : int64_t{-1}; };
    tiles.pass(args, rescore.vectors, row_of, tile, tile + 1,
               [&](int, float (&score)[kRowsPerThread][Tiles::kCodesPerThread]) {
                 const int64_t row = row_of(y + kScoreHeight * (x / kSharers));  // this thread holds its limit
                 float limit = -1;
                 if constexpr (which == Rescored::of_uncertain_rows) {
                   if (row >= 0) limit = rescore.limit[row];
                 } else {
                   const auto best = smallest_of_tile<SmallestScores<float, k>>(score, tile, args.codes);
                   if (row >= 0 && x % kSharers == 0) limit = lower_limit<which>(rescore, row, best);
                 }
                 for (int i = 0; i < kRowsPerThread; ++i) {
                   const float row_limit = __shfl_sync(kFullWarp, limit, i * kSharers, kScoreSide);
                   list_candidates(rescore.lists, row_of(y + kScoreHeight * i), score[i], row_limit,
                                   static_cast<unsigned>(tile) * kRescoredCodes + x, static_cast<unsigned>(args.codes));
                 }
               });
  };

  const int64_t tile_count = tiles_of(args.codes, kRescoredCodes);
  const int64_t items = tile_count * tiles_of(args.rows, rescore.chunk_rows);
  for (int64_t item = blockIdx.x; item < items; item += gridDim.x) {
    const int64_t tile = item % tile_count, begin = item / tile_count * rescore.chunk_rows;
    const int64_t end = begin + rescore.chunk_rows < args.rows ? begin + rescore.chunk_rows : args.rows;
    int64_t rows_scored = 0;
    if (self == 0) list_size = 0;
    __syncthreads();
    for (int64_t scanned = begin; scanned < end; scanned += kScannedRows) {
      for (int64_t row = scanned + self; row < scanned + kScannedRows && row < end; row += kScoreThreads) {
        if (needs_scores<which>(rescore, row, tile)) list[atomicAdd(&list_size, 1)] = row;
      }
      __syncthreads();
      // The last few rows wait for more rows to fill up a tile, unless the chunk ends here.
      const int count = list_size, rest = scanned + kScannedRows < end ? count % kRescoredRows : 0;
      for (int first = 0; first < count - rest; first += kRescoredRows) {
        score_rows(list + first, min(kRescoredRows, count - rest - first), static_cast<int>(tile));
      }
      rows_scored += count - rest;
      const int64_t waiting = self < rest ? list[count - rest + self] : 0;
      __syncthreads();
      if (self < rest) list[self] = waiting;
      if (self == 0) list_size = rest;
      __syncthreads();
    }
    if (self == 0 && rows_scored > 0) atomicAdd(&rescore.counters->rescored, Key(rows_scored) * kRescoredCodes);
  }
}

}  // namespace somvae
