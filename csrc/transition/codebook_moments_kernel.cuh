// The moments of the codebook on CUDA.
#pragma once
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"
#include "transition/codebook_moments.h"

namespace somvae {

// A block of these kernels sums 32 adjacent features, over codes that are divided among 8 lanes.
constexpr int kMomentFeatures = 32, kMomentLanes = kThreads / kMomentFeatures;

// Sums the lanes' values of each feature. Only the threads of lane 0 get the sum.
__device__ inline double sum_of_lanes(double value, double (&scratch)[kMomentLanes][kMomentFeatures]) {
  const int feature = threadIdx.x % kMomentFeatures, lane = threadIdx.x / kMomentFeatures;
  scratch[lane][feature] = value;
  __syncthreads();
  double sum = 0;
  for (int l = 0; lane == 0 && l < kMomentLanes; ++l) sum += scratch[l][feature];
  __syncthreads();
  return sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads) codebook_center_kernel(CodebookMomentsArgs<T> args) {
  __shared__ double scratch[kMomentLanes][kMomentFeatures];
  const int64_t stride = center_stride(args.codes), count = center_count(args.codes);
  const int feature = threadIdx.x % kMomentFeatures, lane = threadIdx.x / kMomentFeatures;
  for (int64_t d0 = int64_t(blockIdx.x) * kMomentFeatures; d0 < args.dim; d0 += int64_t(gridDim.x) * kMomentFeatures) {
    const int64_t d = d0 + feature;
    double sum = 0;
    for (int64_t i = lane; d < args.dim && i < count; i += kMomentLanes) {
      sum += double(load(args.codebook[i * stride * args.dim + d]));
    }
    sum = sum_of_lanes(sum, scratch);
    if (lane == 0 && d < args.dim) args.moments[d] = count > 0 ? sum / double(count) : 0;
  }
}

// One block per chunk of the codes and 32 features.
template <class T>
__global__ void __launch_bounds__(kThreads) codebook_moments_kernel(CodebookMomentsArgs<T> args) {
  __shared__ double scratch[kMomentLanes][kMomentFeatures];
  const int feature = threadIdx.x % kMomentFeatures, lane = threadIdx.x / kMomentFeatures;
  const int64_t columns = (args.dim + kMomentFeatures - 1) / kMomentFeatures;
  for (int64_t block = blockIdx.x; block < moment_chunks(args.codes) * columns; block += gridDim.x) {
    const int64_t chunk = block / columns, d = block % columns * kMomentFeatures + feature;
    const int64_t end = (chunk + 1) * kMomentCodes < args.codes ? (chunk + 1) * kMomentCodes : args.codes;
    const double center = d < args.dim ? args.moments[d] : 0;
    double residual = 0, square = 0;
    for (int64_t code = chunk * kMomentCodes + lane; d < args.dim && code < end; code += kMomentLanes) {
      const double difference = double(load(args.codebook[code * args.dim + d])) - center;
      residual += difference;
      square += difference * difference;
    }
    residual = sum_of_lanes(residual, scratch);
    square = sum_of_lanes(square, scratch);
    if (lane == 0 && d < args.dim) {
      args.partial[chunk * 2 * args.dim + d] = residual;
      args.partial[(chunk * 2 + 1) * args.dim + d] = square;
    }
  }
}

// Launched with one block.
template <class T>
__global__ void __launch_bounds__(kThreads) codebook_moments_join_kernel(CodebookMomentsArgs<T> args) {
  __shared__ double scratch[kThreads / 32];
  double spread = 0;
  for (int64_t d = threadIdx.x; d < args.dim; d += kThreads) {
    double residual = 0;
    for (int64_t chunk = 0; chunk < moment_chunks(args.codes); ++chunk) {
      residual += args.partial[chunk * 2 * args.dim + d];
      spread += args.partial[(chunk * 2 + 1) * args.dim + d];
    }
    args.moments[args.dim + d] = residual;
  }
  spread = block_reduce<Sum, kThreads>(spread, scratch);
  if (threadIdx.x == 0) args.moments[2 * args.dim] = spread;
}

}  // namespace somvae
