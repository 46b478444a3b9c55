// CUDA search by the scores as bmu.h promises them: a block owns a tile of rows and passes over a slice of the
// codebook, tile by tile. Features arrive in shared memory by asynchronous copies, one stage ahead of the arithmetic;
// each thread keeps a tile of distances in registers, and the best codes that it has seen.
#pragma once
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "bmu/best_units.h"
#include "bmu/bmu.h"
#include "bmu/bmu_policy.h"
#include "bmu/candidate_keys.cuh"
#include "cuda/feature_stage.cuh"
#include "cuda/fused_multiply_add.cuh"
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"

namespace somvae {

// 8 x 16 threads; thread (x, y) has rows y + 8 i and codes x + 16 j. Three such blocks share a multiprocessor, each
// thread with up to 168 registers: 64 distances, 32 features of codes, and what finds the best.
constexpr int kExactSide = 16, kExactHeight = 8;
constexpr int kExactThreads = kExactSide * kExactHeight;
constexpr int kExactBlocks = 3;

template <class T>
struct ExactSearch {
  BmuArgs<T> args;
  RowSelection selection;
  bool vectors;  // rows and codes may be copied 16 bytes at a time (8 for 16-bit types)
  // Where a slice leaves its best codes, if it is not the only one and they are not final.
  Key* keys;  // [rows, stride], not for float64
  int stride;
  Compute<T>* slice_score;  // [slices, rows, k], for float64
  int64_t* slice_index;
};

// A score's bits as an unsigned number. Scores are >= 0, so these have the order of the scores, and every NaN is beyond
// infinity.
template <class C>
using ScoreBits = std::conditional_t<std::is_same_v<C, double>, uint64_t, uint32_t>;

__device__ inline uint32_t score_bits(float score) { return __float_as_uint(score); }
__device__ inline uint64_t score_bits(double score) { return static_cast<uint64_t>(__double_as_longlong(score)); }
__device__ inline float score_of(uint32_t bits) { return __uint_as_float(bits); }
__device__ inline double score_of(uint64_t bits) { return __longlong_as_double(static_cast<long long>(bits)); }

// The k best of a row. BestUnits compares as well, but by the rules of NaN; on bits one comparison does.
template <class C, int k>
struct SmallestScores {
  using Bits = ScoreBits<C>;
  static constexpr Bits kNone = sizeof(C) == 4 ? Bits(0x7f800001u) : Bits(0x7ff0000000000001ull);  // past infinity

  Bits bits[k];
  int index[k];

  __device__ inline void reset() {
    for (int n = 0; n < k; ++n) {
      bits[n] = kNone;
      index[n] = 0;
    }
  }

  // Of a code whose index is larger than those before it, so that equal scores keep the smaller index.
  __device__ inline void offer_next(Bits b, int i) {
    insert(b, i, [](Bits x, int, Bits y, int) { return x < y; });
  }
  __device__ inline void offer(const SmallestScores& other) {
    for (int n = 0; n < k; ++n) {
      insert(other.bits[n], other.index[n],
             [](Bits x, int xi, Bits y, int yi) { return x < y || (x == y && xi < yi); });
    }
  }

  __device__ inline SmallestScores of_lane_across(int offset) const {
    SmallestScores other;
    for (int n = 0; n < k; ++n) {
      other.bits[n] = __shfl_xor_sync(kFullWarp, bits[n], offset);
      other.index[n] = __shfl_xor_sync(kFullWarp, index[n], offset);
    }
    return other;
  }

 private:
  template <class Before>
  __device__ inline void insert(Bits b, int i, Before before) {
    const bool first = before(b, i, bits[0], index[0]);
    if constexpr (k == 2) {
      const bool second = before(b, i, bits[1], index[1]);
      bits[1] = first ? bits[0] : second ? b : bits[1];
      index[1] = first ? index[0] : second ? i : index[1];
    }
    bits[0] = first ? b : bits[0];
    index[0] = first ? i : index[0];
  }
};

// Sixteen threads have each seen other codes of the same rows. Gives thread x the best of all for row x / (16 / rows):
// the rows are handed out by halves, so that fewer values travel than if all threads got all rows.
template <class C, int k, int rows>
__device__ inline SmallestScores<C, k> share_out(SmallestScores<C, k> (&best)[rows], int x) {
  int offset = kExactSide / 2;
#pragma unroll
  for (int half = rows / 2; half > 0; half /= 2, offset /= 2) {
    const bool upper = x & offset;
    for (int i = 0; i < half; ++i) {
      const SmallestScores<C, k> gone = upper ? best[i] : best[i + half];
      if (upper) best[i] = best[i + half];
      best[i].offer(gone.of_lane_across(offset));
    }
  }
#pragma unroll
  for (; offset > 0; offset /= 2) best[0].offer(best[0].of_lane_across(offset));
  return best[0];
}

template <class T, int k, int rows_per_thread>
__global__ void __launch_bounds__(kExactThreads, kExactBlocks) exact_search_kernel(ExactSearch<T> search) {
  using C = Compute<T>;
  constexpr int kRows = kExactHeight * rows_per_thread, kCodes = kExactCodes<T>;
  constexpr int codes_per_thread = kCodes / kExactSide;
  using Stage = FeatureStage<C>;
  __shared__ Stage rows[2][kRows], codes[2][kCodes];

  const BmuArgs<T>& args = search.args;
  const int x = threadIdx.x % kExactSide, y = threadIdx.x / kExactSide;
  const int64_t count = search.selection.count();
  // Counts of tiles and stages fit into 32 bits, and registers are scarce.
  const int64_t code_tiles = (args.units + kCodes - 1) / kCodes;
  const int first_tile = static_cast<int>(code_tiles * blockIdx.y / gridDim.y);
  const int last_tile = static_cast<int>(code_tiles * (blockIdx.y + 1) / gridDim.y);
  const int stages = args.dim > 0 ? static_cast<int>((args.dim + Stage::kDepth - 1) / Stage::kDepth) : 1;

  for (int64_t row0 = int64_t(blockIdx.x) * kRows; row0 < count; row0 += int64_t(gridDim.x) * kRows) {
    SmallestScores<C, k> best;  // of one of this thread's rows, over the tiles so far
    best.reset();

    // The stages of all tiles of codes are one sequence, so that the copies run on across tiles.
    int copied_tile = first_tile, copied_stage = 0;
    const auto copy_next = [&](int buffer) {
      if (copied_tile < last_tile) {
        const int64_t d0 = int64_t(copied_stage) * Stage::kDepth, unit0 = int64_t(copied_tile) * kCodes;
        copy_features<kRows, kExactThreads>(rows[buffer], args.z, d0, args.dim, search.vectors, [&](int item) {
          return row0 + item < count ? search.selection[row0 + item] : int64_t{-1};
        });
        copy_features<kCodes, kExactThreads>(codes[buffer], args.codebook, d0, args.dim, search.vectors, [&](int item) {
          return unit0 + item < args.units ? unit0 + item : int64_t{-1};
        });
        if (++copied_stage == stages) {
          copied_stage = 0;
          ++copied_tile;
        }
      }
      commit_copies();
    };

    int buffer = 0;
    copy_next(buffer);
    for (int tile = first_tile; tile < last_tile; ++tile) {
      C distance[rows_per_thread][codes_per_thread] = {};
      for (int stage = 0; stage < stages; ++stage) {
        await_copies<0>();
        __syncthreads();  // all have copied this stage, and none still reads the other
        copy_next(buffer ^ 1);
#pragma unroll
        for (int chunk = 0; chunk < Stage::kChunks; ++chunk) {
          FeatureChunk<C> code[codes_per_thread];
          for (int j = 0; j < codes_per_thread; ++j) code[j] = codes[buffer][x + kExactSide * j].chunk[chunk];
          for (int i = 0; i < rows_per_thread; ++i) {
            const FeatureChunk<C> row = rows[buffer][y + kExactHeight * i].chunk[chunk];
            for (int e = 0; e < FeatureChunk<C>::kSize; ++e) {
              for (int j = 0; j < codes_per_thread; ++j) {
                const C difference = row.feature[e] - code[j].feature[e];
                distance[i][j] = fused_multiply_add(difference, difference, distance[i][j]);
              }
            }
          }
        }
        buffer ^= 1;
      }
      const unsigned unit0 = static_cast<unsigned>(tile) * kCodes + x, last = static_cast<unsigned>(args.units);
      SmallestScores<C, k> of_tile[rows_per_thread];
      for (int i = 0; i < rows_per_thread; ++i) {
        of_tile[i].reset();
        for (int j = 0; j < codes_per_thread; ++j) {
          const unsigned unit = unit0 + kExactSide * j;
          of_tile[i].offer_next(unit < last ? score_bits(distance[i][j]) : best.kNone, static_cast<int>(unit));
        }
      }
      best.offer(share_out<C, k>(of_tile, x));
    }
    await_copies<0>();
    __syncthreads();  // before the next rows' copies

    constexpr int kSharers = kExactSide / rows_per_thread;
    const int64_t place = row0 + y + kExactHeight * (x / kSharers);
    if (x % kSharers != 0 || place >= count) continue;
    const int64_t row = search.selection[place];
    for (int n = 0; n < k; ++n) {
      const bool found = best.bits[n] < best.kNone;
      if constexpr (!std::is_same_v<C, double>) {
        if (search.keys != nullptr) {
          if (found) insert_key<k>(search.keys + row * search.stride, score_key(best.bits[n], best.index[n]));
          continue;
        }
      }
      const bool final = search.slice_score == nullptr;
      const int64_t at = (final ? row : blockIdx.y * args.rows + row) * k + n;
      (final ? args.distance : search.slice_score)[at] = found ? score_of(best.bits[n]) : C(NAN);
      (final ? args.index : search.slice_index)[at] = best.index[n];
    }
  }
}

// The best of the slices' best. One thread per row.
template <class T, int k>
__global__ void merge_slices_kernel(ExactSearch<T> search, int64_t slices) {
  using C = Compute<T>;
  const BmuArgs<T>& args = search.args;
  for (int64_t row = global_thread(); row < args.rows; row += total_threads()) {
    BestUnits<C, int64_t, k> best;
    best.reset();
    for (int64_t slice = 0; slice < slices; ++slice) {
      for (int n = 0; n < k; ++n) {
        const int64_t at = (slice * args.rows + row) * k + n;
        best.offer(search.slice_score[at], search.slice_index[at]);
      }
    }
    for (int n = 0; n < k; ++n) {
      args.distance[row * k + n] = best.score[n];
      args.index[row * k + n] = best.index[n];
    }
  }
}

}  // namespace somvae
