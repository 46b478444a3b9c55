// RUN_ON_CUDA(tensor, bmu_cuda(args, stream)) makes the call on the tensor's device, where `stream` is torch's current
// stream. In a build without CUDA it throws.
#pragma once

#ifdef SOMVAE_EXT_WITH_CUDA
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#define RUN_ON_CUDA(tensor, call)                                                             \
  do {                                                                                        \
    const c10::cuda::CUDAGuard guard((tensor).device());                                      \
    void* const stream = c10::cuda::getCurrentCUDAStream((tensor).device().index()).stream(); \
    call;                                                                                     \
  } while (0)
#else
#include <c10/util/Exception.h>

#define RUN_ON_CUDA(tensor, call)                                                              \
  TORCH_CHECK(false, "somvae_ext was built without CUDA, got a tensor on ", (tensor).device(), \
              ": rebuild it with nvcc available (SOMVAE_EXT_CUDA=1), or move the tensors to the CPU")
#endif
