// Reductions over the threads of a warp or block, in an order that depends on nothing but the number of threads.
#pragma once
#include "device.h"

namespace somvae {

constexpr unsigned kFullWarp = 0xffffffffu;

template <class V>
__device__ inline V warp_sum(V value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(kFullWarp, value, offset);
  return value;
}

template <class V>
__device__ inline V larger(V a, V b) {
  return b > a ? b : a;
}

template <class V>
__device__ inline V warp_max(V value) {
  for (int offset = 16; offset > 0; offset /= 2) value = larger(value, __shfl_xor_sync(kFullWarp, value, offset));
  return value;
}

// All threads of the block call these and all get the result. `scratch` holds one value per warp, and may be used again
// after the call.
template <int threads, class V>
__device__ inline V block_sum(V value, V* scratch) {
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  V sum = scratch[0];
  for (int warp = 1; warp < threads / 32; ++warp) sum += scratch[warp];
  __syncthreads();
  return sum;
}

template <int threads, class V>
__device__ inline V block_max(V value, V* scratch) {
  value = warp_max(value);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  V largest = scratch[0];
  for (int warp = 1; warp < threads / 32; ++warp) largest = larger(largest, scratch[warp]);
  __syncthreads();
  return largest;
}

}  // namespace somvae
