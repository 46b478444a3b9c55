#include "bmu/bmu_backward_kernel.cuh"
#include "bmu/bmu_policy.h"
#include "bmu/candidate_keys.cuh"
#include "bmu/exact_search_kernel.cuh"
#include "bmu/tensor_core_search_kernel.cuh"
#include "cuda/device_properties.cuh"
#include "cuda/workspace.h"

namespace somvae {
namespace {

template <class T>
BmuPlan plan_for(const BmuArgs<T>& args) {
  const DeviceProperties device = current_device_properties();
  return plan_bmu(args.rows, args.units, args.dim, kBmuDtype<T>, device.multiprocessors, device.capability);
}

template <class T>
ExactSearch<T> exact_search(const BmuArgs<T>& args, const BmuPlan& plan, Workspace& workspace) {
  ExactSearch<T> search = {};
  search.args = args;
  search.selection.rows = args.rows;
  search.vectors = chunks_are_aligned(args.z, args.dim) && chunks_are_aligned(args.codebook, args.dim);
  if (plan.slices == 1) return search;
  if constexpr (std::is_same_v<T, double>) {
    search.slice_score = workspace.take<double>(plan.slices * args.rows * args.k);
    search.slice_index = workspace.take<int64_t>(plan.slices * args.rows * args.k);
  } else {
    search.keys = workspace.take<Key>(args.rows * args.k);
    search.stride = args.k;
  }
  return search;
}

template <class T>
TensorCoreSearch<T> tensor_core_search(const BmuArgs<T>& args, Workspace& workspace) {
  constexpr int vector = 16 / int(sizeof(T));
  const auto aligned = [&](const T* matrix) {
    return args.dim % vector == 0 && reinterpret_cast<uintptr_t>(matrix) % 16 == 0;
  };
  TensorCoreSearch<T> search = {};
  search.args = args;
  search.vectors = aligned(args.z) && aligned(args.codebook);
  search.uncertain_count = workspace.take<Key>(1);
  search.keys = workspace.take<Key>(args.rows * (args.k + 1));
  search.uncertain = workspace.take<int64_t>(args.rows);
  search.largest_norm = workspace.take<uint32_t>(1);
  search.norm = workspace.take<float>(args.units);
  if constexpr (std::is_same_v<T, float>) {
    search.mean = workspace.take<float>(padded_dim<T>(args.dim));
    search.centred = workspace.take<float>(args.units * padded_dim<T>(args.dim));
  }
  return search;
}

template <class T, int k>
void launch_exact_kernel(const ExactSearch<T>& search, bool few_rows, dim3 grid, void* stream) {
  if (few_rows) {
    LAUNCH((exact_search_kernel<T, k, kExactFewRows / kExactHeight>), grid, kExactThreads, 0, stream, search);
  } else {
    LAUNCH((exact_search_kernel<T, k, kExactRows / kExactHeight>), grid, kExactThreads, 0, stream, search);
  }
}

template <class T, int k>
void search_exactly(const BmuArgs<T>& args, const BmuPlan& plan, void* memory, void* stream) {
  Workspace workspace(memory);
  const ExactSearch<T> search = exact_search(args, plan, workspace);
  const unsigned row_blocks = blocks_for(args.rows, kThreads);
  if (search.keys != nullptr) {
    const unsigned blocks = blocks_for(args.rows * k, kThreads);
    LAUNCH((clear_keys_kernel), blocks, kThreads, 0, stream, search.keys, args.rows * k);
  }
  const dim3 grid(blocks_for(args.rows, plan.few_rows ? kExactFewRows : kExactRows), plan.slices);
  launch_exact_kernel<T, k>(search, plan.few_rows, grid, stream);
  if constexpr (std::is_same_v<T, double>) {
    if (plan.slices > 1) LAUNCH((merge_slices_kernel<T, k>), row_blocks, kThreads, 0, stream, search, plan.slices);
  } else if (search.keys != nullptr) {
    LAUNCH((unpack_keys_kernel<k>), row_blocks, kThreads, 0, stream, search.keys, k, search.selection, args.distance,
           args.index);
  }
}

template <class T, int k>
void search_by_tensor_cores(const BmuArgs<T>& args, const BmuPlan& plan, void* memory, void* stream) {
  Workspace workspace(memory);
  const TensorCoreSearch<T> search = tensor_core_search(args, workspace);
  LAUNCH((clear_tensor_core_search_kernel<k>), blocks_for(args.rows * (k + 1), kThreads), kThreads, 0, stream,
         search.keys, args.rows, search.uncertain_count, search.largest_norm);
  if constexpr (std::is_same_v<T, float>) {
    LAUNCH((codebook_mean_kernel<T>), blocks_for(padded_dim<T>(args.dim), kMeanFeatures), kMeanFeatures * kMeanGroups,
           0, stream, search);
  }
  LAUNCH((codebook_norm_kernel<T>), blocks_for(args.units, 1), kNormThreads, 0, stream, search);
  const dim3 grid(blocks_for(args.rows, kTensorCoreTile), plan.slices);
  LAUNCH((tensor_core_search_kernel<T, k>), grid, kTensorCoreThreads, 0, stream, search);
  LAUNCH((certify_kernel<T, k>), blocks_for(args.rows, kCertifyRows), kCertifyRows, 0, stream, search);

  // What is still uncertain, how much of it only the device knows.
  ExactSearch<T> second = {};
  second.args = args;
  second.selection = {args.rows, search.uncertain, search.uncertain_count};
  second.vectors = chunks_are_aligned(args.z, args.dim) && chunks_are_aligned(args.codebook, args.dim);
  second.keys = search.keys;
  second.stride = k + 1;
  launch_exact_kernel<T, k>(second, plan.few_rows, dim3(plan.second_rows, plan.second_slices), stream);
  LAUNCH((unpack_keys_kernel<k>), blocks_for(args.rows, kThreads), kThreads, 0, stream, search.keys, k + 1,
         second.selection, args.distance, args.index);
}

template <class T, int k>
void search(const BmuArgs<T>& args, const BmuPlan& plan, void* memory, void* stream) {
  if constexpr (!std::is_same_v<T, double>) {
    if (plan.kernel == BmuKernel::tensor_core) return search_by_tensor_cores<T, k>(args, plan, memory, stream);
  }
  search_exactly<T, k>(args, plan, memory, stream);
}

}  // namespace

template <class T>
int64_t bmu_cuda_workspace_bytes(const BmuArgs<T>& args) {
  if (args.rows == 0) return 0;
  const BmuPlan plan = plan_for(args);
  Workspace workspace(nullptr);
  if constexpr (!std::is_same_v<T, double>) {
    if (plan.kernel == BmuKernel::tensor_core) {
      tensor_core_search(args, workspace);
      return workspace.used();
    }
  }
  exact_search(args, plan, workspace);
  return workspace.used();
}

template <class T>
bool bmu_cuda(const BmuArgs<T>& args, void* workspace, void* stream) {
  if (args.rows == 0) return false;
  const BmuPlan plan = plan_for(args);
  if (args.k == 1) {
    search<T, 1>(args, plan, workspace, stream);
  } else {
    search<T, 2>(args, plan, workspace, stream);
  }
  return plan.kernel == BmuKernel::tensor_core;
}

template <class T>
void bmu_backward_cuda(const BmuBackwardArgs<T>& args, void* stream) {
  if (args.grad_z != nullptr && args.rows * args.dim > 0) {
    LAUNCH((bmu_backward_z_kernel<T>), blocks_for(args.rows * args.dim, kThreads), kThreads, 0, stream, args);
  }
  if (args.grad_codebook != nullptr && args.units * args.dim > 0) {
    LAUNCH((bmu_backward_codebook_kernel<T>), blocks_for(args.units * args.dim, kThreads), kThreads, 0, stream, args);
  }
}

#define INSTANTIATE(T)                                          \
  template int64_t bmu_cuda_workspace_bytes(const BmuArgs<T>&); \
  template bool bmu_cuda(const BmuArgs<T>&, void*, void*);      \
  template void bmu_backward_cuda(const BmuBackwardArgs<T>&, void*);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
