// Kernel files include this file in place of CUDA's headers.
//
// Under nvcc, it includes CUDA itself; under a host compiler with SOMVAE_SIMT, csrc/simt, which runs the same kernels
// on the CPU. Otherwise (CPU kernels and ops), it defines only the empty qualifier SOMVAE_HOST_DEVICE.
//
//   DYNAMIC_SHARED(float, tile);   declares the block's dynamic shared memory
//   LAUNCH((kernel<float, 64>), grid, block, bytes, stream, arguments...);   launches a kernel, throws if that fails
//   SOMVAE_CALL_SITE   the last parameters, `file` and `line`, of an instruction's wrapper: csrc/simt reports them
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

// Launches a kernel and throws if the launch returns an error. Does not ask cudaGetLastError, which would also report
// the error of an earlier call.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t dynamic_shared_bytes,
            void* stream, Arguments&&... arguments) {
  constexpr size_t default_limit = 48 << 10;
  cudaError_t error = cudaSuccess;
  if (dynamic_shared_bytes > default_limit) {
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
  cudaGetLastError();  // clears this error, so that later calls do not report it as theirs
  const bool refused = error == cudaErrorInvalidValue || error == cudaErrorInvalidConfiguration ||
                       error == cudaErrorLaunchOutOfResources || error == cudaErrorInvalidDeviceFunction ||
                       error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidPtx ||
                       error == cudaErrorUnsupportedPtxVersion || error == cudaErrorNoDevice ||
                       error == cudaErrorInsufficientDriver;
  // A kernel that fails while it runs breaks the context, and every later call reports it.
  const std::string failure = refused ? "CUDA refused to launch " + std::string(name)
                                      : "CUDA reports an earlier failure at the launch of " + std::string(name);
  throw std::runtime_error("somvae_ext: " + failure + ": " + cudaGetErrorString(error));
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
