#include "cuda/workspace.h"
#include "transition/transition_losses_kernel.cuh"

namespace somvae {
namespace {

template <class T>
TransitionLossesPlan<T> plan_for(const TransitionLossesArgs<T>& args, Workspace& workspace) {
  const int64_t slices = (args.nodes + kSliceCodes - 1) / kSliceCodes;
  return {args, workspace.take<SoftmaxShare>(slices * args.rows), slices};
}

// The number of slices, and so the order of sums, depends on the sizes alone. It is low enough to keep the means small.
template <class T>
TransitionLossesBackwardPlan<T> plan_for(const TransitionLossesBackwardArgs<T>& args, Workspace& workspace) {
  constexpr int64_t elements = 1 << 22;
  const int64_t count = args.groups.count, blocks = (args.nodes + kSliceCodes - 1) / kSliceCodes;
  int64_t slices = elements / (count * args.dim > 0 ? count * args.dim : 1);
  slices = slices < 1 ? 1 : slices > blocks ? blocks : slices;
  TransitionLossesBackwardPlan<T> plan = {};
  plan.args = args;
  plan.slices = slices;
  plan.center = workspace.take<double>(args.dim);
  plan.weighted_rows = workspace.take<Compute<T>>(args.grad_codebook ? count * args.dim : 0);
  plan.weight = workspace.take<double>(args.grad_codebook ? count : 0);
  plan.mean = workspace.take<double>(args.grad_z ? slices * count * args.dim : 0);
  return plan;
}

}  // namespace

template <class T>
int64_t transition_losses_cuda_workspace_bytes(const TransitionLossesArgs<T>& args) {
  Workspace measure(nullptr);
  plan_for(args, measure);
  return measure.used();
}

template <class T>
void transition_losses_cuda(const TransitionLossesArgs<T>& args, void* memory, void* stream) {
  if (args.rows == 0) return;
  Workspace workspace(memory);
  const TransitionLossesPlan<T> plan = plan_for(args, workspace);
  const int64_t tiles = (args.rows + kTile - 1) / kTile;
  LAUNCH((transition_losses_partial_kernel<T>), blocks_for(tiles * plan.slices, 1), kTileThreads, 0, stream, plan);
  LAUNCH((transition_losses_join_kernel<T>), blocks_for(args.rows, kThreads), kThreads, 0, stream, plan);
}

template <class T>
int64_t transition_losses_backward_cuda_workspace_bytes(const TransitionLossesBackwardArgs<T>& args) {
  Workspace measure(nullptr);
  plan_for(args, measure);
  return measure.used();
}

template <class T>
void transition_losses_backward_cuda(const TransitionLossesBackwardArgs<T>& args, void* memory, void* stream) {
  Workspace workspace(memory);
  const TransitionLossesBackwardPlan<T> plan = plan_for(args, workspace);
  const auto tiles = [](int64_t count) { return (count + kTile - 1) / kTile; };
  const int64_t elements = args.groups.count * args.dim;  // of groups and features
  if (args.grad_logits != nullptr && args.rows > 0) {
    LAUNCH((transition_losses_backward_logits_kernel<T>), blocks_for(tiles(args.rows) * tiles(args.nodes), 1),
           kTileThreads, 0, stream, plan);
  }
  if (args.dim == 0 || (args.grad_z == nullptr && args.grad_codebook == nullptr)) return;
  LAUNCH((transition_losses_backward_center_kernel<T>), blocks_for(args.dim, kCenterFeatures), kThreads, 0, stream,
         plan);
  if (args.grad_codebook != nullptr) {
    if (elements > 0) {
      LAUNCH((transition_losses_backward_weighted_rows_kernel<T>), blocks_for(elements, kThreads), kThreads, 0, stream,
             plan);
    }
    LAUNCH((transition_losses_backward_codebook_kernel<T>), blocks_for(tiles(args.nodes) * tiles(args.dim), 1),
           kTileThreads, 0, stream, plan);
  }
  if (args.grad_z != nullptr && elements > 0) {
    const int64_t blocks = tiles(args.groups.count) * tiles(args.dim) * plan.slices;
    LAUNCH((transition_losses_backward_means_kernel<T>), blocks_for(blocks, 1), kTileThreads, 0, stream, plan);
    LAUNCH((transition_losses_backward_z_kernel<T>), blocks_for(elements, kThreads), kThreads, 0, stream, plan);
  }
}

#define INSTANTIATE(T)                                                                                      \
  template int64_t transition_losses_cuda_workspace_bytes(const TransitionLossesArgs<T>&);                  \
  template void transition_losses_cuda(const TransitionLossesArgs<T>&, void*, void*);                       \
  template int64_t transition_losses_backward_cuda_workspace_bytes(const TransitionLossesBackwardArgs<T>&); \
  template void transition_losses_backward_cuda(const TransitionLossesBackwardArgs<T>&, void*, void*);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
