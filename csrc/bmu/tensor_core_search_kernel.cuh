// First pass on the tensor cores: computes approximate scores and keeps the least of each row and tile of
// kRescoredCodes codes. Tiles that can hold the winner are scored again (rescore_kernel.cuh).
//
// An approximate score a(row, code) = |e'|^2 - 2 z'.e' differs from the true distance S by |z'|^2, which is the same
// for all codes, and by an error of at most beta. For float32, z' = z - center and e' = e - center, so that an offset
// that data and codes share costs no accuracy. Every number is scaled by a power of two, one for each row and one for
// the codes of a tile, and split into two float16 numbers, hi + lo: z'.e' = hi hi + hi lo + lo hi. For 16-bit types,
// whose products are exact, z' = z and e' = e: centered numbers would no longer be of the type.
//
// The bound, for a row and a tile. Let u = 2^-24, R = |z'|, E = max |e'| over the tile's codes, Q = (R + E)^2,
// P = sum_d |z'_d e'_d| <= R E <= Q / 4, and D the number of features. The errors, to first order (the constants below
// have room for the rest), are:
//   centering  z'_d and e'_d are rounded differences: |S - |z' - e'|^2| <= 2 u Q
//   |e'|^2     is summed in float64 and rounded once: u Q
//   halves     hi is x rounded to 11 bits, and lo is x - hi rounded to 11 bits. Together they miss 2^-22 |x| or, where
//              lo is subnormal, 2^-39 of the largest number with the same scale. The product lo lo is left out, where
//              |lo| <= 2^-11 |x|. In all: 3 * 2^-22 P = 12 u P, and 2^-38 sqrt(D) R E < u Q / 256
//   tensor     NVIDIA documents no rounding for mma. Assumed: an instruction adds its 16 products, which are exact, to
//   cores      the sum, in any order or all aligned to the largest. Each of these 17 terms loses at most 2^-22 of the
//              largest intermediate magnitude. (Truncation to 24 bits loses 2^-23, and published measurements find no
//              worse.) Each stage starts a fresh sum. For 16-bit types, it has two instructions: 2 * 17 * 4 u P =
//              136 u P. For halves, it has one instruction for hi hi, which loses 68 u P, after two whose products are
//              2^-11 of those, and so are their losses: 69 u P
//   stages     The sums of the stages are added with rounding to nearest: (D / 16 + 1) u P, or (D / 32 + 1) u P for
//              16-bit types, whose stages have 32 features
//   a          is rounded once more: u Q
// The dot product counts twice, and P <= Q / 4:
//   float32       beta <= (4 + (82 + D / 16) / 2) u Q    = (45 + D / 32) u Q,    with room (48 + D / 32) u Q
//   16-bit types  beta <= (2 + (137 + D / 32) / 2) u Q   < (71 + D / 64) u Q,    with room (76 + D / 64) u Q
// To beta, D 2^-120 is added: for subnormal floats that are flushed to zero, and for rows and codes so small that 2^62
// does not bring them into float16's range. The halves of such an x miss 2^-87, in all 2^-86 sqrt(D) (R + E). That is
// below u Q / 256 unless R + E < 2^-54 sqrt(D), and then it is below D 2^-140. (Subnormal float16 numbers are assumed
// not to be flushed.) A margin is beta + 4 u Q, where 4 u Q is for the rounding of what is computed with it.
//
// The limits. Let i be any code and j a winner. The exact score (bmu.h) of j is at most that of i, exact scores are
// within (D + 2) 2^-53 S < u S / 1000 of S, and S <= Q. So, with the margins of their tiles,
//   a_j - margin_j <= S_j - R^2 <= S_i - R^2 + u S_i <= a_i + margin_i.
// A tile whose least a, less its margin, exceeds the least a + margin of all tiles (for k = 2, the second least) can
// therefore not hold a winner. Once scores F from differences are known, S_j <= L by score_limit.h, and L - R^2 is such
// a limit too. Here R^2 is summed in float32 by 32 threads, with an error of (D / 32 + 8) u R^2; 8 u Q, of the tile
// with those F, is left for the other roundings.
//
// For a finite row, a code with a NaN or an infinity has a NaN or infinite score, which loses to any finite one. Such a
// code has no finite a, and does not count in E. A tile whose Q overflows is never ruled out. If fewer than k tiles
// have a finite a, the limit is infinite and rules out no tile.
#pragma once
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "bmu/bmu.h"
#include "bmu/bmu_policy.h"
#include "bmu/candidate_keys.cuh"
#include "bmu/tensor_core_operands_kernel.cuh"
#include "bmu/tile_ranges.cuh"
#include "cuda/async_copy.cuh"
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tensor_core.cuh"

namespace somvae {

constexpr int kTensorCoreThreads = 256;  // eight warps, each with 32 rows and 64 codes of the tile

// Starts an asynchronous copy of a stage.
__device__ inline void copy_stage(TensorCoreStage& to, const TensorCoreStage& from) {
  constexpr int kEach = kTensorCoreTile * kStageChunks / kTensorCoreThreads;
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int at = threadIdx.x + i * kTensorCoreThreads;
    async_copy<16>(&to.item[0][0] + at, &from.item[0][0] + at, true);
  }
}

// Budget: 128 registers.
template <class T>
__global__ void __launch_bounds__(kTensorCoreThreads, kTensorCoreBlocks)
    tensor_core_search_kernel(TensorCoreSearch<T> search) {
  constexpr bool kHalves = std::is_same_v<T, float>;
  using Element = std::conditional_t<std::is_same_v<T, BFloat16>, BFloat16, Float16>;
  constexpr int kRowBlocks = 2, kCodeBlocks = 8;  // of 16 rows and 8 codes, per warp
  static_assert(8 * kCodeBlocks == kRescoredCodes, "a warp's codes are a tile whose least score is kept");
  DYNAMIC_SHARED(TensorCoreStage, code_stages);
  TensorCoreStage* const row_stages = code_stages + kStageBuffers;

  const BmuArgs<T>& args = search.args;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int group = lane / 4, member = lane % 4;
  const int row_in_tile = warp / 2 * 32, code_in_tile = warp % 2 * kRescoredCodes;
  const int stages = stages_of<T>(args.dim);
  const bool stay = search.rows_stay;
  const TileRanges ranges = {tiles_of(args.rows, kTensorCoreTile), tiles_of(args.codes, kTensorCoreTile),
                             search.blocks};

  ranges.for_each_piece(blockIdx.x, [&](int row_tile, int first, int last) {
    const int64_t row0 = int64_t(row_tile) * kTensorCoreTile;
    float factor[kRowBlocks][2];  // of rows `group` and `group + 8` of each block
    for (int m = 0; m < kRowBlocks; ++m) {
      for (int half = 0; half < 2; ++half) {
        factor[m][half] = search.row_factor[row0 + row_in_tile + group + 16 * m + 8 * half];
      }
    }

    // The stages of all tiles of codes form one sequence.
    const TensorCoreStage* const rows_from = search.rows + int64_t(row_tile) * stages;
    const TensorCoreStage* codes_from = search.codes + int64_t(first) * stages;
    const TensorCoreStage* const codes_end = search.codes + int64_t(last) * stages;
    int copied_stage = 0, copied_buffer = 0;
    const auto copy_next = [&] {
      if (codes_from < codes_end) {
        copy_stage(code_stages[copied_buffer], *codes_from++);
        if (!stay) {
          copy_stage(row_stages[copied_buffer], rows_from[copied_stage]);
          copied_stage = copied_stage + 1 < stages ? copied_stage + 1 : 0;
        }
        copied_buffer = copied_buffer + 1 < kStageBuffers ? copied_buffer + 1 : 0;
      }
      commit_copies();
    };
    for (int stage = 0; stay && stage < stages; ++stage) copy_stage(row_stages[stage], rows_from[stage]);
    for (int ahead = 0; ahead < kStageBuffers - 1; ++ahead) copy_next();

    int buffer = 0;
    for (int tile = first; tile < last; ++tile) {
      float dot[kRowBlocks][kCodeBlocks][4] = {};
      for (int stage = 0; stage < stages; ++stage) {
        await_copies<kStageBuffers - 2>();
        __syncthreads();  // all threads have copied this stage, and none still reads the one before
        copy_next();

        // Each part of a stage, 32 bytes of an item, is an operand of one instruction; for halves, the parts are hi and
        // lo.
        const TensorCoreStage& rows = row_stages[stay ? stage : buffer];
        uint32_t a[kRowBlocks][2][4];
        for (int m = 0; m < kRowBlocks; ++m) {
          const int item = row_in_tile + 16 * m + lane % 16;
          for (int part = 0; part < 2; ++part) {
            load_matrices(a[m][part], &rows.item[item][place_of_chunk(lane % 8, 2 * part + lane / 16)]);
          }
        }
#pragma unroll
        for (int n = 0; n < kCodeBlocks; ++n) {
          const int item = code_in_tile + 8 * n + lane % 8;
          uint32_t word[4];
          load_matrices(word, &code_stages[buffer].item[item][place_of_chunk(lane % 8, lane / 8)]);
          const uint32_t b[2][2] = {{word[0], word[1]}, {word[2], word[3]}};
          // Each stage starts a fresh sum, which keeps the tensor cores' error from growing with the number of
          // features.
          for (int m = 0; m < kRowBlocks; ++m) {
            float sum[4] = {};
            if constexpr (kHalves) {
              multiply_accumulate<Element>(sum, a[m][1], b[0]);
              multiply_accumulate<Element>(sum, a[m][0], b[1]);
              multiply_accumulate<Element>(sum, a[m][0], b[0]);
            } else {
              multiply_accumulate<Element>(sum, a[m][0], b[0]);
              multiply_accumulate<Element>(sum, a[m][1], b[1]);
            }
            for (int i = 0; i < 4; ++i) dot[m][n][i] += sum[i];
          }
        }
        buffer = buffer + 1 < kStageBuffers ? buffer + 1 : 0;
      }

      const int64_t code0 = int64_t(tile) * kTensorCoreTile + code_in_tile;
      const float code_factor = kHalves ? reciprocal_of_power(search.code_scale(code0 / kRescoredCodes)) : 1.0f;
      float least[kRowBlocks][2], scaled[kRowBlocks][2];
      for (int m = 0; m < kRowBlocks; ++m) {
        for (int half = 0; half < 2; ++half) {
          least[m][half] = INFINITY;
          scaled[m][half] = factor[m][half] * code_factor;
        }
      }
#pragma unroll
      for (int n = 0; n < kCodeBlocks; ++n) {
        const float2 norm = *reinterpret_cast<const float2*>(search.norm + code0 + 8 * n + 2 * member);
        for (int m = 0; m < kRowBlocks; ++m) {
          for (int half = 0; half < 2; ++half) {  // fminf ignores NaN
            least[m][half] = fminf(least[m][half], fmaf(dot[m][n][2 * half], scaled[m][half], norm.x));
            least[m][half] = fminf(least[m][half], fmaf(dot[m][n][2 * half + 1], scaled[m][half], norm.y));
          }
        }
      }
      // The four members of a group have the same rows.
      for (int m = 0; m < kRowBlocks; ++m) {
        for (int half = 0; half < 2; ++half) {
          float value = least[m][half];
          for (int offset = 1; offset < 4; offset *= 2) {
            value = fminf(value, __shfl_xor_sync(kFullWarp, value, offset));
          }
          const int64_t row = row0 + row_in_tile + group + 16 * m + 8 * half;
          if (member == 0) search.least[code0 / kRescoredCodes * search.pitch + row] = value;
        }
      }
    }
    await_copies<0>();
    __syncthreads();  // before the next rows' copies
  });
}

// --- Limits ----------------------------------------------------------------------------------------------------------

// Returns the margin of the approximate scores of a row and a tile, and sets *norms to Q. The comment at the top of
// this file derives the margin; the factor 1.01 covers the rounding of the margin itself. Infinite if an approximate
// score may have overflowed.
template <class T>
__device__ inline float margin(const TensorCoreSearch<T>& search, int64_t row, int64_t tile, float* norms) {
  const float dim = static_cast<float>(search.args.dim);
  const float radii = search.row_radius[row] + search.code_radius[tile];
  *norms = radii * radii;
  const float relative = std::is_same_v<T, float> ? 48 + dim / 32 : 76 + dim / 64;
  return 4 * *norms < INFINITY ? 1.01f * ((relative + 4) * 0x1p-24f * *norms + dim * 0x1p-120f) : INFINITY;
}

// Whether no code of the tile can win the row, given a limit of S - |z'|^2.
template <class T>
__device__ inline bool is_ruled_out(const TensorCoreSearch<T>& search, int64_t row, int64_t tile, float limit) {
  float norms;
  return search.least[tile * search.pitch + row] - margin(search, row, tile, &norms) > limit;
}

template <class T>
struct TensorCoreLimits {
  TensorCoreSearch<T> search;
  CandidateLists lists;
  float* limit;        // [rows] of S - |z'|^2: no code with a larger value can win
  float* tail;         // [rows] turns a limit of S into one of S - |z'|^2 when added
  int32_t* best_tile;  // [rows] the tile with the least a + margin; -1 where no code can win
  Key* smallest;       // [rows, k] cleared
};

// A block has 32 rows, with eight threads for each, which take the tiles in turn. A single thread would mostly wait for
// memory.
constexpr int kLimitRows = 32, kLimitGroups = 8;

template <class T, int k>
__global__ void __launch_bounds__(kLimitRows* kLimitGroups) find_limits_kernel(TensorCoreLimits<T> limits) {
  struct LeastTiles {
    float smallest[k];  // the least a + margin of tiles
    float norms;        // Q of the tile with smallest[0]
    int tile;

    __device__ inline void offer(float bound, float norms_of_bound, int tile_of_bound) {
      if (bound < smallest[0]) {
        norms = norms_of_bound;
        tile = tile_of_bound;
      }
      for (int n = 0; n < k; ++n) {
        const float larger = fmaxf(smallest[n], bound);
        smallest[n] = fminf(smallest[n], bound);
        bound = larger;
      }
    }
  };
  __shared__ LeastTiles all[kLimitGroups][kLimitRows];
  const TensorCoreSearch<T>& search = limits.search;
  const BmuArgs<T>& args = search.args;
  const int x = threadIdx.x % kLimitRows, y = threadIdx.x / kLimitRows;
  const int tiles = static_cast<int>(tiles_of(args.codes, kRescoredCodes));
  if (global_thread() == 0) *limits.lists.dense_count = 0;
  for (int64_t row0 = int64_t(blockIdx.x) * kLimitRows; row0 < args.rows; row0 += int64_t(gridDim.x) * kLimitRows) {
    const int64_t row = row0 + x;
    LeastTiles best;
    for (int n = 0; n < k; ++n) best.smallest[n] = INFINITY;
    best.norms = INFINITY;
    best.tile = 0;
    for (int tile = y; tile < tiles && row < args.rows; tile += kLimitGroups) {
      float norms;
      const float bound = search.least[tile * search.pitch + row] + margin(search, row, tile, &norms);
      best.offer(bound, norms, tile);
    }
    all[y][x] = best;
    __syncthreads();
    if (y == 0 && row < args.rows) {
      for (int group = 1; group < kLimitGroups; ++group) {
        const LeastTiles& other = all[group][x];
        for (int n = 0; n < k; ++n) best.offer(other.smallest[n], other.norms, other.tile);
      }
      const float norm = search.row_norm[row];
      limits.limit[row] = best.smallest[k - 1];
      limits.tail[row] = 1.01f * (static_cast<float>(args.dim) / 32 + 16) * 0x1p-24f * best.norms - norm;
      limits.best_tile[row] = norm == norm ? best.tile : -1;  // with a NaN in the row, all scores are NaN
      limits.lists.count[row] = 0;
      for (int n = 0; n < k; ++n) limits.smallest[row * k + n] = kNoKey;
    }
    __syncthreads();
  }
}

}  // namespace somvae
