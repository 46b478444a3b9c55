// CUDA expected distances. The forward pass tiles rows x codes like the search; the backward passes recompute
// probabilities and distances instead of storing [rows, units].
#pragma once
#include "cuda/distance_tile.cuh"
#include "cuda/launch.cuh"
#include "index_range.h"
#include "transition/expected_distance.h"
#include "transition/gradient_row.h"
#include "transition/softmax_row.cuh"

namespace somvae {

template <class T>
__global__ void __launch_bounds__(kRowThreads) log_normalizer_kernel(ExpectedDistanceArgs<T> args) {
  __shared__ double scratch[kRowThreads / 32];
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const int64_t prev = args.prev[row];
    double log_normalizer = NAN;
    if (in_range(prev, args.units)) {  // the same for the whole block
      log_normalizer = log_sum_exp(args.logits + prev * args.units, args.units, scratch);
    }
    if (threadIdx.x == 0) args.log_normalizer[row] = log_normalizer;
  }
}

// A block owns 64 rows and passes over all codes.
template <class T>
__global__ void __launch_bounds__(kTileThreads) expected_distance_kernel(ExpectedDistanceArgs<T> args) {
  using C = Compute<T>;
  __shared__ DistanceTile<C> tile;
  const int x = threadIdx.x % kTileSide, y = threadIdx.x / kTileSide;
  const int64_t row0 = int64_t(blockIdx.x) * kTile;
  double sum[kPerThread] = {};  // of rows y + 16 i, over codes x + 16 j

  for (int64_t unit0 = 0; unit0 < args.units; unit0 += kTile) {
    C distance[kPerThread][kPerThread];
    distance_tile(args.z, args.rows, row0, args.codebook, args.units, unit0, args.dim, tile, distance);
    for (int i = 0; i < kPerThread; ++i) {
      const int64_t row = row0 + y + kTileSide * i;
      if (row >= args.rows || !in_range(args.prev[row], args.units)) continue;
      const T* logits = args.logits + args.prev[row] * args.units;
      for (int j = 0; j < kPerThread; ++j) {
        const int64_t unit = unit0 + x + kTileSide * j;
        if (unit < args.units) {
          sum[i] += double(probability(logits[unit], args.log_normalizer[row])) * double(distance[i][j]);
        }
      }
    }
  }

  // The 16 threads of a row are half a warp.
  for (int i = 0; i < kPerThread; ++i) {
    for (int offset = kTileSide / 2; offset > 0; offset /= 2) sum[i] += __shfl_xor_sync(kFullWarp, sum[i], offset);
    const int64_t row = row0 + y + kTileSide * i;
    if (x == 0 && row < args.rows) {
      args.expectation[row] = in_range(args.prev[row], args.units) ? static_cast<C>(sum[i]) : C(NAN);
    }
  }
}

// A block has one row of the gradient and 128 codes, a thread each.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    expected_distance_backward_logits_kernel(ExpectedDistanceBackwardArgs<T> args) {
  using C = Compute<T>;
  __shared__ C codes[kTileDepth][kRowThreads + 1];
  __shared__ C z[kTileDepth];
  const int64_t chunks = (args.units + kRowThreads - 1) / kRowThreads;
  for (int64_t block = blockIdx.x; block < gradient_rows(args) * chunks; block += gridDim.x) {
    const int64_t r = block / chunks, unit0 = block % chunks * kRowThreads, unit = unit0 + threadIdx.x;
    const GradientRow group = gradient_row(args, r);
    double sum = 0;
    for (int64_t i = 0; i < group.count; ++i) {
      const int64_t row = group.member(i);
      C distance = 0;
      for (int64_t d0 = 0; d0 < args.dim; d0 += kTileDepth) {
        for (int e = threadIdx.x; e < kTileDepth * kRowThreads; e += kRowThreads) {
          const int64_t d = d0 + e % kTileDepth, code = unit0 + e / kTileDepth;
          codes[e % kTileDepth][e / kTileDepth] =
              d < args.dim && code < args.units ? load(args.codebook[code * args.dim + d]) : C(0);
        }
        if (threadIdx.x < kTileDepth) {
          const int64_t d = d0 + threadIdx.x;
          z[threadIdx.x] = d < args.dim ? load(args.z[row * args.dim + d]) : C(0);
        }
        __syncthreads();
        for (int depth = 0; depth < kTileDepth; ++depth) {
          const C difference = z[depth] - codes[depth][threadIdx.x];
          distance = fused_multiply_add(difference, difference, distance);
        }
        __syncthreads();
      }
      sum += double(args.grad[row]) * (double(distance) - double(args.expectation[row]));
    }
    if (unit >= args.units) continue;
    if (!in_range(group.unit, args.units)) {
      sum = NAN;
    } else if (group.count > 0) {
      const double log_normalizer = args.log_normalizer[group.member(0)];
      sum *= double(probability(args.logits[group.unit * args.units + unit], log_normalizer));
    }
    args.grad_logits[r * args.units + unit] = store<T>(sum);
  }
}

// A block has one row and 128 features, a thread each, and passes over the codes 128 at a time.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    expected_distance_backward_z_kernel(ExpectedDistanceBackwardArgs<T> args) {
  __shared__ double weights[kRowThreads];
  const int64_t chunks = (args.dim + kRowThreads - 1) / kRowThreads;
  for (int64_t block = blockIdx.x; block < args.rows * chunks; block += gridDim.x) {
    const int64_t row = block / chunks, d = block % chunks * kRowThreads + threadIdx.x;
    const int64_t prev = args.prev[row];
    const bool valid = in_range(prev, args.units);
    const double z = d < args.dim ? double(load(args.z[row * args.dim + d])) : 0;
    double sum = valid ? 0 : NAN;
    for (int64_t unit0 = 0; unit0 < args.units; unit0 += kRowThreads) {
      const int64_t unit = unit0 + threadIdx.x;
      weights[threadIdx.x] =
          valid && unit < args.units
              ? 2 * double(args.grad[row]) *
                    double(probability(args.logits[prev * args.units + unit], args.log_normalizer[row]))
              : 0;
      __syncthreads();
      if (d < args.dim) {
        for (int j = 0; j < kRowThreads && unit0 + j < args.units; ++j) {
          sum += weights[j] * (z - double(load(args.codebook[(unit0 + j) * args.dim + d])));
        }
      }
      __syncthreads();
    }
    if (d < args.dim) args.grad_z[row * args.dim + d] = store<T>(sum);
  }
}

constexpr int kGradientCodes = 8, kGradientFeatures = 32, kGradientRows = 32;
static_assert(kGradientCodes * kGradientFeatures == kThreads && kGradientCodes * kGradientRows == kThreads);

// A block has 8 codes x 32 features, a thread each, and passes over the rows 32 at a time.
template <class T>
__global__ void __launch_bounds__(kThreads)
    expected_distance_backward_codebook_kernel(ExpectedDistanceBackwardArgs<T> args) {
  __shared__ double weights[kGradientRows][kGradientCodes];
  const int64_t chunks = (args.dim + kGradientFeatures - 1) / kGradientFeatures;
  const int64_t blocks = (args.units + kGradientCodes - 1) / kGradientCodes * chunks;
  for (int64_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    const int64_t unit0 = block / chunks * kGradientCodes;
    const int code = threadIdx.x / kGradientFeatures;
    const int64_t unit = unit0 + code;
    const int64_t d = block % chunks * kGradientFeatures + threadIdx.x % kGradientFeatures;
    const bool valid = unit < args.units && d < args.dim;
    const double center = valid ? double(load(args.codebook[unit * args.dim + d])) : 0;
    double sum = 0;
    for (int64_t row0 = 0; row0 < args.rows; row0 += kGradientRows) {
      {
        const int64_t row = row0 + threadIdx.x / kGradientCodes, weighed = unit0 + threadIdx.x % kGradientCodes;
        double weight = 0;
        if (row < args.rows && weighed < args.units && in_range(args.prev[row], args.units)) {
          weight = 2 * double(args.grad[row]) *
                   double(probability(args.logits[args.prev[row] * args.units + weighed], args.log_normalizer[row]));
        }
        weights[threadIdx.x / kGradientCodes][threadIdx.x % kGradientCodes] = weight;
      }
      __syncthreads();
      if (valid) {
        for (int i = 0; i < kGradientRows && row0 + i < args.rows; ++i) {
          if (!in_range(args.prev[row0 + i], args.units)) continue;
          sum += weights[i][code] * (center - double(load(args.z[(row0 + i) * args.dim + d])));
        }
      }
      __syncthreads();
    }
    if (valid) args.grad_codebook[unit * args.dim + d] = store<T>(sum);
  }
}

}  // namespace somvae
