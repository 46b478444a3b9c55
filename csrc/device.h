// What kernel files include in place of CUDA's headers.
//
// Under nvcc: CUDA itself. Under a host compiler with SOMVAE_SIMT: csrc/simt, which runs the same kernels on the CPU.
// Otherwise (the CPU twins and the operators): only the empty qualifiers.
//
//   DYNAMIC_SHARED(float, tile);                              the block's dynamic shared memory
//   LAUNCH((kernel<float, 64>), grid, block, bytes, stream, arguments...);   launches, and throws if it was refused
//   SOMVAE_CALL_SITE   ends the parameters of a wrapper for an instruction that the twin reports by `file` and `line`
#pragma once

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#define SOMVAE_HOST_DEVICE __host__ __device__

#define DYNAMIC_SHARED(type, name)                                 \
  extern __shared__ __align__(16) unsigned char dynamic_shared_[]; \
  type* name = reinterpret_cast<type*>(dynamic_shared_)

namespace somvae {
inline void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string("somvae_ext: CUDA refused to launch ") + kernel + ": " +
                             cudaGetErrorString(error));
  }
}
}  // namespace somvae

#define SOMVAE_STRIP_PARENTHESES(...) __VA_ARGS__
#define LAUNCH(kernel, grid, block, bytes, stream, ...)                                                      \
  do {                                                                                                       \
    SOMVAE_STRIP_PARENTHESES kernel<<<grid, block, bytes, static_cast<cudaStream_t>(stream)>>>(__VA_ARGS__); \
    ::somvae::check_launch(#kernel);                                                                         \
  } while (0)

#define SOMVAE_CALL_SITE

#elif defined(SOMVAE_SIMT)

#include "simt/simt.h"

#define SOMVAE_CALL_SITE , const char *file = __builtin_FILE(), int line = __builtin_LINE()

#define SOMVAE_HOST_DEVICE

#else

#define SOMVAE_HOST_DEVICE

#endif
