// Prepares the operands that the tensor cores read in place of rows and codes (tensor_core_search_kernel.cuh), and the
// norms that scores and bounds need.
//
// An operand is cut into tiles of 128 items, and a tile into stages of 64 bytes of each item, laid out as in shared
// memory. float32 numbers become two halves: an item's stage has 16 features, first 32 bytes of their hi parts and then
// 32 bytes of their lo parts. 16-bit types stay as they are, 32 features to a stage. The last tile and the last stage
// are padded with zeros.
#pragma once
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "bmu/bmu.h"
#include "bmu/bmu_policy.h"
#include "bmu/half_scale.h"
#include "bmu/tile_ranges.cuh"
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tensor_core.cuh"

namespace somvae {

constexpr int kStageChunks = 4;  // of 16 bytes, per item
template <class T>
constexpr int kStageFeatures = std::is_same_v<T, float> ? 16 : 32;

// Eight threads read at a time, either the chunks of two consecutive items or the same chunk of eight items.
// place_of_chunk permutes the chunks of an item so that no two of the eight are in the same banks.
struct TensorCoreStage {
  uint4 item[kTensorCoreTile][kStageChunks];
};
SOMVAE_HOST_DEVICE inline int place_of_chunk(int item, int chunk) { return chunk ^ (item / 2 % kStageChunks); }

template <class T>
SOMVAE_HOST_DEVICE inline int stages_of(int64_t dim) {
  return static_cast<int>(tiles_of(dim, kStageFeatures<T>));
}

template <class T>
struct TensorCoreSearch {
  BmuArgs<T> args;
  int64_t blocks;
  bool rows_stay;          // in shared memory while codes pass by
  TensorCoreStage* rows;   // [tiles of rows, stages]
  TensorCoreStage* codes;  // [tiles of codes, stages]
  float* center;           // [dim], float32 only
  // Maxima of |e'|^2 and |e'_d|, as bits of floats, over the codes of a tile of kRescoredCodes whose features are all
  // finite. Per tile, so that an outlier widens only the bound of its own tile.
  uint32_t* maxima;    // [2, tiles of kTensorCoreTile codes, 2]
  float* code_radius;  // of each such tile, max |e'|
  float* norm;         // [codes padded to whole tiles] |e'|^2, infinity past the end
  float* row_norm;     // [rows padded to whole tiles] |z'|^2
  float* row_radius;   // [rows padded to whole tiles] at least |z'|
  float* row_factor;   // [rows padded to whole tiles] -2 / (the scale of the row's halves); -2 for 16-bit types
  float* least;        // [tiles of kRescoredCodes, pitch] the least approximate score of a row among a tile's codes
  int64_t pitch;       // rows padded to whole tiles

  __device__ inline uint32_t* largest_norm() const { return maxima; }
  __device__ inline uint32_t* largest_feature() const {
    return maxima + tiles_of(args.codes, kTensorCoreTile) * (kTensorCoreTile / kRescoredCodes);
  }
  __device__ inline float code_scale(int64_t tile) const { return half_scale(bits_to_float(largest_feature()[tile])); }
};

// Packs an item into an operand, by the lanes of a warp. value(d) is its feature d, of type T, centered and scaled.
template <class T, class Value>
__device__ inline void pack_item(TensorCoreStage* operand, int64_t item, int64_t dim, Value value) {
  const int stages = stages_of<T>(dim), lane = threadIdx.x % 32, in_tile = static_cast<int>(item % kTensorCoreTile);
  constexpr int kPairs = kStageFeatures<T> / 2;
  const auto word = [&](int64_t stage, int i) -> uint32_t& {
    uint4& chunk = operand[item / kTensorCoreTile * stages + stage].item[in_tile][place_of_chunk(in_tile, i / 4)];
    return reinterpret_cast<uint32_t*>(&chunk)[i % 4];
  };
  for (int64_t pair = lane; pair < int64_t(stages) * kPairs; pair += 32) {
    uint32_t hi = 0, lo = 0;
    for (int e = 0; e < 2; ++e) {
      if (2 * pair + e >= dim) continue;
      const T x = value(2 * pair + e);
      if constexpr (std::is_same_v<T, float>) {
        const Float16 part = round_to_half(x);
        hi |= uint32_t(part.bits) << 16 * e;
        lo |= uint32_t(round_to_half(x - load(part)).bits) << 16 * e;
      } else {
        hi |= uint32_t(x.bits) << 16 * e;
      }
    }
    word(pair / kPairs, pair % kPairs) = hi;
    if constexpr (std::is_same_v<T, float>) word(pair / kPairs, kPairs + pair % kPairs) = lo;
  }
}

// --- Codes, once per search ------------------------------------------------------------------------------------------

// Computes the center of the codes: for each feature, the median of eight means, each over the finite values of up to
// 32 codes. Outliers therefore do not move it. The error bound holds for any center, and is tight for one amid the
// codes. A block has 32 features, with eight threads for each.
constexpr int kCenterFeatures = 32, kCenterGroups = 8, kCenterCodes = 256;

template <class T>
__global__ void __launch_bounds__(kCenterFeatures* kCenterGroups) codebook_center_kernel(TensorCoreSearch<T> search) {
  __shared__ float means[kCenterGroups][kCenterFeatures];
  const BmuArgs<T>& args = search.args;
  const int x = threadIdx.x % kCenterFeatures, y = threadIdx.x / kCenterFeatures;
  const int64_t sample_size = args.codes < kCenterCodes ? args.codes : kCenterCodes;
  for (int64_t d0 = int64_t(blockIdx.x) * kCenterFeatures; d0 < args.dim; d0 += int64_t(gridDim.x) * kCenterFeatures) {
    const int64_t d = d0 + x;
    double sum = 0;
    int count = 0;
    for (int64_t i = y; i < sample_size && d < args.dim; i += kCenterGroups) {
      const int64_t code = args.codes < kCenterCodes ? i : i * args.codes / kCenterCodes;  // evenly spread
      const float value = load(args.codebook[code * args.dim + d]);
      if (!(fabsf(value) < INFINITY)) continue;
      sum += value;
      ++count;
    }
    means[y][x] = count > 0 ? static_cast<float>(sum) / static_cast<float>(count) : INFINITY;
    __syncthreads();
    if (y == 0 && d < args.dim) {
      // The lower median of the finite means.
      int present = 0;
      for (int group = 0; group < kCenterGroups; ++group) present += means[group][x] < INFINITY;
      float median = 0;
      for (int group = 0; group < kCenterGroups; ++group) {
        int before = 0;
        for (int other = 0; other < kCenterGroups; ++other) {
          before += means[other][x] < means[group][x] || (means[other][x] == means[group][x] && other < group);
        }
        if (before == (present - 1) / 2 && present > 0) median = means[group][x];
      }
      search.center[d] = median;
    }
    __syncthreads();
  }
}

// Feature d of z' or e', times scale.
template <class T>
__device__ inline T centered(const TensorCoreSearch<T>& search, const T* item, int64_t d, float scale = 1) {
  if constexpr (std::is_same_v<T, float>) {
    return (item[d] - search.center[d]) * scale;
  } else {
    return item[d];
  }
}

// One warp per code, as in the kernels below.
template <class T>
__global__ void __launch_bounds__(kThreads) codebook_norm_kernel(TensorCoreSearch<T> search) {
  const BmuArgs<T>& args = search.args;
  const int lane = threadIdx.x % 32;
  const int64_t padded_codes = tiles_of(args.codes, kTensorCoreTile) * kTensorCoreTile;
  for (int64_t code = global_warp(); code < padded_codes; code += total_warps()) {
    double sum = 0;
    float largest = 0;
    for (int64_t d = lane; d < args.dim && code < args.codes; d += 32) {
      const float value = load(centered(search, args.codebook + code * args.dim, d));
      sum += double(value) * value;
      largest = fmaxf(largest, fabsf(value));
    }
    sum = warp_reduce<Sum>(sum);
    largest = warp_reduce<Maximum>(largest);
    if (lane != 0) continue;
    const float norm = static_cast<float>(sum);
    search.norm[code] = code < args.codes ? norm : INFINITY;
    if (code < args.codes && sum < double(INFINITY)) {  // true if all features are finite
      atomicMax(search.largest_norm() + code / kRescoredCodes, float_to_bits(norm));
      atomicMax(search.largest_feature() + code / kRescoredCodes, float_to_bits(largest));
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) pack_codebook_kernel(TensorCoreSearch<T> search) {
  const BmuArgs<T>& args = search.args;
  const int64_t padded_codes = tiles_of(args.codes, kTensorCoreTile) * kTensorCoreTile;
  for (int64_t code = global_warp(); code < padded_codes; code += total_warps()) {
    const T* features = args.codebook + code * args.dim;
    const int64_t tile = code / kRescoredCodes;
    const float scale = search.code_scale(tile);
    if (code % kRescoredCodes == 0 && threadIdx.x % 32 == 0) {
      search.code_radius[tile] = sqrtf(bits_to_float(search.largest_norm()[tile]));
    }
    pack_item<T>(search.codes, code, args.dim,
                 [&](int64_t d) { return code < args.codes ? centered(search, features, d, scale) : T{}; });
  }
}

// --- Rows ------------------------------------------------------------------------------------------------------------

// Norms are those of the unscaled numbers; only the halves are scaled.
template <class T>
__global__ void __launch_bounds__(kThreads) prepare_rows_kernel(TensorCoreSearch<T> search) {
  const BmuArgs<T>& args = search.args;
  const int lane = threadIdx.x % 32;
  const int64_t padded_rows = tiles_of(args.rows, kTensorCoreTile) * kTensorCoreTile;
  for (int64_t row = global_warp(); row < padded_rows; row += total_warps()) {
    const T* z = args.z + row * args.dim;
    float sum = 0, largest = 0;
    for (int64_t d = lane; d < args.dim && row < args.rows; d += 32) {
      const float value = load(centered(search, z, d));
      sum = fmaf(value, value, sum);
      largest = fmaxf(largest, fabsf(value));
    }
    sum = warp_reduce<Sum>(sum);
    largest = warp_reduce<Maximum>(largest);
    const float scale = half_scale(largest);
    pack_item<T>(search.rows, row, args.dim,
                 [&](int64_t d) { return row < args.rows ? centered(search, z, d, scale) : T{}; });
    if (lane != 0) continue;
    search.row_norm[row] = sum;
    search.row_radius[row] = sqrtf(sum * (1.0f + (static_cast<float>(args.dim) / 32 + 8) * 0x1p-24f));
    search.row_factor[row] = -2 * (std::is_same_v<T, float> ? reciprocal_of_power(scale) : 1.0f);
  }
}

}  // namespace somvae
