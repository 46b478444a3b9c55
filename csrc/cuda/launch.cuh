// Divides work among blocks, for launchers, and among threads and warps, for kernels.
#pragma once
#include <cstdint>

#include "device.h"

namespace somvae {

constexpr int kThreads = 256;  // per block, in kernels with one thread per element

// The largest number of blocks along x. The simt tests make it small, so that grid-stride loops iterate more than once.
inline int64_t largest_grid() {
#if defined(SOMVAE_SIMT)
  return simt::device().largest_grid;
#else
  return 2147483647;
#endif
}

inline unsigned blocks_for(int64_t elements, int64_t per_block) {
  const int64_t blocks = (elements + per_block - 1) / per_block;
  return static_cast<unsigned>(blocks < largest_grid() ? blocks : largest_grid());
}

// Kernels loop `for (int64_t i = global_thread(); i < elements; i += total_threads())`, so any grid covers all
// elements.
__device__ inline int64_t global_thread() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline int64_t total_threads() { return int64_t(gridDim.x) * blockDim.x; }

// The same for warps, in blocks of kThreads.
constexpr int kWarpsPerBlock = kThreads / 32;
__device__ inline int64_t global_warp() { return int64_t(blockIdx.x) * kWarpsPerBlock + threadIdx.x / 32; }
__device__ inline int64_t total_warps() { return int64_t(gridDim.x) * kWarpsPerBlock; }

}  // namespace somvae
