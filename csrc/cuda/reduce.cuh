// Reductions over the threads of a warp or block, in an order that depends only on the number of threads.
#pragma once
#include "device.h"

namespace somvae {

constexpr unsigned kFullWarp = 0xffffffffu;

struct Sum {
  template <class V>
  __device__ V operator()(V a, V b) const {
    return a + b;
  }
};

struct Maximum {
  template <class V>
  __device__ V operator()(V a, V b) const {
    return b > a ? b : a;
  }
};

template <class Combine, class V>
__device__ inline V warp_reduce(V value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value = Combine()(value, __shfl_xor_sync(kFullWarp, value, offset));
  }
  return value;
}

// All threads of the block must call it, and all get the result. `scratch` holds one value per warp and may be reused
// after the call.
template <class Combine, int threads, class V>
__device__ inline V block_reduce(V value, V* scratch) {
  value = warp_reduce<Combine>(value);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();
  V result = scratch[0];
  for (int warp = 1; warp < threads / 32; ++warp) result = Combine()(result, scratch[warp]);
  __syncthreads();
  return result;
}

}  // namespace somvae
