// From tensors to kernels: element types, the threads of the CPU, the stream of a CUDA device.
#pragma once
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "cpu/codebook_panels.h"
#include "dtypes.h"

#ifdef SOMVAE_EXT_WITH_CUDA
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace somvae {

using at::Tensor;

inline at::ScalarType compute_dtype(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

// Calls run.operator()<T>() with the kernels' type for a supported floating dtype.
template <class Run>
void dispatch_floating(at::ScalarType type, Run run) {
  switch (type) {
    case at::kFloat:
      return run.template operator()<float>();
    case at::kDouble:
      return run.template operator()<double>();
    case at::kHalf:
      return run.template operator()<Float16>();
    case at::kBFloat16:
      return run.template operator()<BFloat16>();
    default:
      TORCH_INTERNAL_ASSERT(false, "unchecked dtype ", type);
  }
}

// The elements of a contiguous tensor, as the kernels' type; null for an undefined one.
template <class T>
const T* elements(const Tensor& tensor) {
  return tensor.defined() ? static_cast<const T*>(tensor.const_data_ptr()) : nullptr;
}
template <class T>
T* mutable_elements(const Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.mutable_data_ptr()) : nullptr;
}

// Runs `run(first, last)` over ranges that cover [0, items), on torch's CPU threads. `nanoseconds` is a rough guess of
// what an item takes. Too little work for a thread is not worth waking it: where other processes want the cores, it may
// have to wait for one longer than it works, and the others for it. For the same reason much work is cut into more
// ranges than threads, which take one after the other.
constexpr double kWorthAThread = 200e3, kWorthARange = 400e3;
template <class Run>
void parallel(int64_t items, double nanoseconds, const Run& run) {
  const double work = double(items) * nanoseconds;
  const int64_t most = at::in_parallel_region() ? 1 : std::min<int64_t>(at::get_num_threads(), items);
  const int64_t threads = std::min<int64_t>(most, static_cast<int64_t>(work / kWorthAThread));
  if (threads <= 1) {
    if (items > 0) run(int64_t(0), items);
    return;
  }
  const int64_t turns = std::clamp<int64_t>(static_cast<int64_t>(work / double(threads) / kWorthARange), 1, 4);
  const int64_t ranges = std::min(threads * turns, items);
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    for (int64_t range = next++; range < ranges; range = next++) {
      run(range * items / ranges, (range + 1) * items / ranges);
    }
  });
}

// Guesses for `parallel`: of what kernels do per pair of features.
constexpr double kTiledPair = 0.02;     // distances in register tiles
constexpr double kPackedFeature = 0.1;  // of a code that is packed into a panel
constexpr double kStreamedPair = 0.25;  // distances and sums that stream from the cache
constexpr double kExponential = 5;

// The codebook in panels, for the CPU's distance kernels.
template <class T>
Tensor packed_codebook(const Tensor& codebook) {
  const int64_t units = codebook.size(0), dim = codebook.size(1), panels = panel_count(units);
  const Tensor packed =
      at::empty({panels * kPanelCodes * dim}, codebook.options().dtype(compute_dtype(codebook.scalar_type())));
  parallel(panels, kPanelCodes * dim * kPackedFeature, [&](int64_t first, int64_t last) {
    pack_panels_cpu(elements<T>(codebook), units, dim, mutable_elements<Compute<T>>(packed), first, last);
  });
  return packed;
}

// RUN_ON_CUDA(tensor, bmu_cuda(args, stream)): on the tensor's device, in torch's current stream there.
#ifdef SOMVAE_EXT_WITH_CUDA
#define RUN_ON_CUDA(tensor, call)                                                             \
  do {                                                                                        \
    const c10::cuda::CUDAGuard guard((tensor).device());                                      \
    void* const stream = c10::cuda::getCurrentCUDAStream((tensor).device().index()).stream(); \
    call;                                                                                     \
  } while (0)
#else
#define RUN_ON_CUDA(tensor, call)                                                              \
  TORCH_CHECK(false, "somvae_ext was built without CUDA, got a tensor on ", (tensor).device(), \
              ": rebuild it with an ", "nvcc in reach (SOMVAE_EXT_CUDA=1), or move the tensors to the CPU")
#endif

}  // namespace somvae
