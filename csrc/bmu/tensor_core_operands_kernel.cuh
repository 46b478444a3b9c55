// What the tensor cores read in place of rows and codes (tensor_core_search_kernel.cuh), and the norms that their
// scores and bounds want.
//
// An operand is cut into tiles of 128 items and these into stages, 64 bytes of each item, which lie in memory as they
// are to lie in shared memory. float32 becomes two halves: an item's stage has 16 features, 32 bytes of their hi parts
// and then 32 bytes of their lo parts. 16-bit types stay as they are, 32 features to a stage. Zeros fill up the last
// tile and the last stage.
#pragma once
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "bmu/bmu.h"
#include "bmu/bmu_policy.h"
#include "bmu/tile_ranges.cuh"
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tensor_core.cuh"

namespace somvae {

constexpr int kStageChunks = 4;  // of 16 bytes, per item
template <class T>
constexpr int kStageFeatures = std::is_same_v<T, float> ? 16 : 32;

// Eight threads read at a time, either the chunks of two consecutive items or the same chunk of eight; swapped about
// like this, no two of them are in the same banks.
struct TensorCoreStage {
  uint4 item[kTensorCoreTile][kStageChunks];
};
SOMVAE_HOST_DEVICE inline int place_of_chunk(int item, int chunk) { return chunk ^ (item / 2 % kStageChunks); }

template <class T>
SOMVAE_HOST_DEVICE inline int stages_of(int64_t dim) {
  return static_cast<int>(tiles_of(dim, kStageFeatures<T>));
}

// A power of two that brings numbers up to `largest` into float16's range: to below 2^15, and no further up than by
// 2^100, so that it and its reciprocal are normal numbers. 1 where the numbers are not finite, as good as any.
SOMVAE_HOST_DEVICE inline float half_scale(float largest) {
  if (!(largest < INFINITY)) return 1;
  const int exponent = 14 - (static_cast<int>(float_to_bits(largest) >> 23) - 127);
  return bits_to_float(static_cast<uint32_t>((exponent < 100 ? exponent : 100) + 127) << 23);
}
SOMVAE_HOST_DEVICE inline float reciprocal_of_power(float power) {
  return bits_to_float((254u << 23) - float_to_bits(power));
}

template <class T>
struct TensorCoreSearch {
  BmuArgs<T> args;
  int64_t blocks;
  TensorCoreStage* rows;   // [tiles of rows, stages]
  TensorCoreStage* codes;  // [tiles of codes, stages]
  float* mean;             // [dim], float32 only
  // Of each tile of kRescoredCodes codes, those whose features are all finite: max |e'|^2 and max |e'_d|, the bits of
  // floats. Largest come codes that are far out, which the other tiles need not suffer from.
  uint32_t* largest_norm;
  uint32_t* largest_feature;
  float* code_radius;  // of each such tile, max |e'|
  float* norm;         // [units up to whole tiles] |e'|^2, infinity past the end
  float* row_norm;     // [rows up to whole tiles] |z'|^2
  float* row_radius;   // [rows up to whole tiles] at least |z'|
  float* row_factor;  // [rows up to whole tiles] what turns a sum of products of halves, of scaled codes, into -2 z'.e'
  float* least;       // [tiles of kRescoredCodes, pitch] the least approximate score of a row among a tile's codes
  int64_t pitch;      // rows up to whole tiles

  // What turns the codes' halves back.
  __device__ inline float code_factor(int64_t tile) const {
    return std::is_same_v<T, float> ? reciprocal_of_power(half_scale(bits_to_float(largest_feature[tile]))) : 1.0f;
  }
};

// Makes an operand of an item, by the lanes of a warp; value(d) gives its features, of type T but centred and scaled.
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

// The mean of up to 256 codes' finite features: the bound holds for any `mean`, and is good for one amid the codes.
// A block has 32 features, eight threads for each.
constexpr int kMeanFeatures = 32, kMeanGroups = 8, kMeanCodes = 256;

template <class T>
__global__ void __launch_bounds__(kMeanFeatures* kMeanGroups) codebook_mean_kernel(TensorCoreSearch<T> search) {
  __shared__ double sums[kMeanGroups][kMeanFeatures];
  __shared__ int counts[kMeanGroups][kMeanFeatures];
  const BmuArgs<T>& args = search.args;
  const int x = threadIdx.x % kMeanFeatures, y = threadIdx.x / kMeanFeatures;
  const int64_t codes = args.units < kMeanCodes ? args.units : kMeanCodes;
  for (int64_t d0 = int64_t(blockIdx.x) * kMeanFeatures; d0 < args.dim; d0 += int64_t(gridDim.x) * kMeanFeatures) {
    const int64_t d = d0 + x;
    double sum = 0;
    int count = 0;
    for (int64_t i = y; i < codes && d < args.dim; i += kMeanGroups) {
      const float value = load(args.codebook[i * args.units / codes * args.dim + d]);
      if (!(fabsf(value) < INFINITY)) continue;
      sum += value;
      ++count;
    }
    sums[y][x] = sum;
    counts[y][x] = count;
    __syncthreads();
    if (y == 0) {
      for (int group = 1; group < kMeanGroups; ++group) {
        sum += sums[group][x];
        count += counts[group][x];
      }
      if (d < args.dim) search.mean[d] = count > 0 ? static_cast<float>(sum / count) : 0.0f;
    }
    __syncthreads();
  }
}

// Feature d of z' or e', by which scale multiplies.
template <class T>
__device__ inline T centred(const TensorCoreSearch<T>& search, const T* item, int64_t d, float scale = 1) {
  if constexpr (std::is_same_v<T, float>) {
    return (item[d] - search.mean[d]) * scale;
  } else {
    return item[d];
  }
}

// A warp per code, as in the kernels below.
template <class T>
__global__ void __launch_bounds__(kThreads) codebook_norm_kernel(TensorCoreSearch<T> search) {
  const BmuArgs<T>& args = search.args;
  const int lane = threadIdx.x % 32;
  const int64_t padded_units = tiles_of(args.units, kTensorCoreTile) * kTensorCoreTile;
  for (int64_t unit = global_warp(); unit < padded_units; unit += total_warps()) {
    double sum = 0;
    float largest = 0;
    for (int64_t d = lane; d < args.dim && unit < args.units; d += 32) {
      const float value = load(centred(search, args.codebook + unit * args.dim, d));
      sum += double(value) * value;
      largest = fmaxf(largest, fabsf(value));
    }
    sum = warp_reduce<Sum>(sum);
    largest = warp_reduce<Maximum>(largest);
    if (lane != 0) continue;
    const float norm = static_cast<float>(sum);
    search.norm[unit] = unit < args.units ? norm : INFINITY;
    if (unit < args.units && sum < double(INFINITY)) {  // as it is where all features are finite
      atomicMax(search.largest_norm + unit / kRescoredCodes, float_to_bits(norm));
      atomicMax(search.largest_feature + unit / kRescoredCodes, float_to_bits(largest));
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) pack_codebook_kernel(TensorCoreSearch<T> search) {
  const BmuArgs<T>& args = search.args;
  const int64_t padded_units = tiles_of(args.units, kTensorCoreTile) * kTensorCoreTile;
  for (int64_t unit = global_warp(); unit < padded_units; unit += total_warps()) {
    const T* code = args.codebook + unit * args.dim;
    const int64_t tile = unit / kRescoredCodes;
    const float scale = half_scale(bits_to_float(search.largest_feature[tile]));
    if (unit % kRescoredCodes == 0 && threadIdx.x % 32 == 0) {
      search.code_radius[tile] = sqrtf(bits_to_float(search.largest_norm[tile]));
    }
    pack_item<T>(search.codes, unit, args.dim,
                 [&](int64_t d) { return unit < args.units ? centred(search, code, d, scale) : T{}; });
  }
}

// --- Rows ------------------------------------------------------------------------------------------------------------

// Norms are of the true numbers; a scale is for halves alone.
template <class T>
__global__ void __launch_bounds__(kThreads) prepare_rows_kernel(TensorCoreSearch<T> search) {
  const BmuArgs<T>& args = search.args;
  const int lane = threadIdx.x % 32;
  const int64_t padded_rows = tiles_of(args.rows, kTensorCoreTile) * kTensorCoreTile;
  for (int64_t row = global_warp(); row < padded_rows; row += total_warps()) {
    const T* z = args.z + row * args.dim;
    float sum = 0, largest = 0;
    for (int64_t d = lane; d < args.dim && row < args.rows; d += 32) {
      const float value = load(centred(search, z, d));
      sum = fmaf(value, value, sum);
      largest = fmaxf(largest, fabsf(value));
    }
    sum = warp_reduce<Sum>(sum);
    largest = warp_reduce<Maximum>(largest);
    const float scale = half_scale(largest);
    pack_item<T>(search.rows, row, args.dim,
                 [&](int64_t d) { return row < args.rows ? centred(search, z, d, scale) : T{}; });
    if (lane != 0) continue;
    search.row_norm[row] = sum;
    search.row_radius[row] = sqrtf(sum * (1.0f + (static_cast<float>(args.dim) / 32 + 8) * 0x1p-24f));
    search.row_factor[row] = -2 * (std::is_same_v<T, float> ? reciprocal_of_power(scale) : 1.0f);
  }
}

}  // namespace somvae
