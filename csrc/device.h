// What kernel files include in place of CUDA's headers.
//
// Under nvcc: CUDA itself. Under a host compiler with SOMVAE_SIMT: csrc/simt, which runs the same kernels on the CPU.
// Otherwise (the CPU kernels and the ops): only the empty qualifiers.
//
//   DYNAMIC_SHARED(float, tile);                              the block's dynamic shared memory
//   LAUNCH((kernel<float, 64>), grid, block, bytes, stream, arguments...);   launches, and throws if it was refused
//   SOMVAE_CALL_SITE   ends the parameters of a wrapper for an instruction that csrc/simt reports by `file` and `line`
#pragma once

#if defined(__CUDACC__)

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#include <utility>

#define SOMVAE_HOST_DEVICE __host__ __device__

#define DYNAMIC_SHARED(type, name)                                 \
  extern __shared__ __align__(16) unsigned char dynamic_shared_[]; \
  type* name = reinterpret_cast<type*>(dynamic_shared_)

namespace somvae {

// Launches, and throws this launch's own error. cudaGetLastError would also report that of an earlier call.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t dynamic_shared_bytes,
            void* stream, Arguments&&... arguments) {
  constexpr size_t granted_unasked = 48 << 10;
  cudaError_t error = cudaSuccess;
  if (dynamic_shared_bytes > granted_unasked) {
    error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(dynamic_shared_bytes));
  }
  if (error == cudaSuccess) {
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = dynamic_shared_bytes;
    config.stream = static_cast<cudaStream_t>(stream);
    error = cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
  }
  if (error == cudaSuccess) return;
  cudaGetLastError();  // clears this error, which others would take for theirs
  const bool refused = error == cudaErrorInvalidValue || error == cudaErrorInvalidConfiguration ||
                       error == cudaErrorLaunchOutOfResources || error == cudaErrorInvalidDeviceFunction ||
                       error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidPtx ||
                       error == cudaErrorUnsupportedPtxVersion || error == cudaErrorNoDevice ||
                       error == cudaErrorInsufficientDriver;
  // A kernel that fails while it runs breaks the context, and every later call reports it.
  const std::string what = refused ? "CUDA refused to launch " + std::string(name)
                                   : "CUDA reports, at the launch of " + std::string(name) + ", a failure from before";
  throw std::runtime_error("somvae_ext: " + what + ": " + cudaGetErrorString(error));
}

}  // namespace somvae

#define SOMVAE_STRIP_PARENTHESES(...) __VA_ARGS__
#define LAUNCH(kernel, grid, block, bytes, stream, ...) \
  ::somvae::launch(#kernel, &SOMVAE_STRIP_PARENTHESES kernel, grid, block, bytes, stream, __VA_ARGS__)

#define SOMVAE_CALL_SITE

#elif defined(SOMVAE_SIMT)

#include "simt/simt.h"

#define SOMVAE_CALL_SITE , const char *file = __builtin_FILE(), int line = __builtin_LINE()

#define SOMVAE_HOST_DEVICE

#else

#define SOMVAE_HOST_DEVICE

#endif
