// Runs the kernels under test: the CUDA kernels on csrc/simt or, without SOMVAE_SIMT, the CPU kernels, each in two
// ranges as on two threads.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <set>
#include <string>
#include <vector>

#include "bmu/bmu.h"
#include "neighborhood/segment_sum.h"
#include "neighborhood/som_ema_update.h"
#include "neighborhood/som_gather.h"
#include "neighborhood/som_head.h"
#include "neighborhood/som_update.h"
#include "optim/adam_rows.h"
#include "transition/local_transition_losses.h"
#include "transition/transition_log_prob.h"
#include "transition/transition_losses.h"

#if !defined(SOMVAE_SIMT)
#include "cpu/codebook_panels.h"
#include "cpu/simd_level.h"
#endif

namespace somvae::test {

#if defined(SOMVAE_SIMT)

inline const std::string kTwin = "cuda on simt";
inline const std::set<std::string>& launched() { return simt::launched_kernels(); }

// Whether a running softmax uses a shift that follows the largest logit with some slack.
constexpr bool kFollowsAtDistance = false;
// Whether the kernels write the rows of empty groups in a sparse gradient.
constexpr bool kWritesEmptyGroups = true;

// A way to search: the kernel, the GPU, and the division of the rows.
struct SearchWay {
  std::string name;
  const char* kernel;  // the value of SOMVAE_EXT_BMU_KERNEL
  int multiprocessors;
  int64_t largest_grid;
  int64_t block_rows = 0, chunk_rows = 0;  // 0: as planned
  // The latest search's pairs that were scored again in float32, and its rows that were searched in float64.
  int64_t rescored = 0, dense = 0;
};

// On few multiprocessors a block has many tiles; on many, several blocks share the codes of a row.
inline std::vector<SearchWay> search_ways() {
  return {{"float64", "exact", 5, 65536},
          {"FFMA", "ffma", 1, 65536},
          {"FFMA in pieces", "ffma", 64, 1, 50, 30},
          {"tensor cores", "tensor_core", 1, 65536},
          {"tensor cores in pieces", "tensor_core", 64, 1, 50, 30}};
}

template <class Launch>
void with_workspace(int64_t bytes, Launch launch) {
  constexpr std::align_val_t alignment{256};  // as torch's allocations
  void* const workspace = operator new(bytes, alignment);
  memset(workspace, 0xfb, bytes);
  launch(workspace);
  operator delete(workspace, alignment);
}

template <class T>
void run(const BmuArgs<T>& args, SearchWay& way) {
  const simt::Device before = simt::device();
  setenv("SOMVAE_EXT_BMU_KERNEL", way.kernel, 1);
  simt::device().multiprocessors = way.multiprocessors;
  simt::device().largest_grid = way.largest_grid;
  BmuPlan plan = plan_bmu_cuda(args);
  unsetenv("SOMVAE_EXT_BMU_KERNEL");  // the library reads it once
  if (way.block_rows > 0) plan.block_rows = std::min(plan.block_rows, way.block_rows);
  if (way.chunk_rows > 0) plan.chunk_rows = way.chunk_rows;
  way.rescored = way.dense = 0;
  with_workspace(plan.workspace_bytes, [&](void* workspace) {
    bmu_cuda(args, plan, workspace, nullptr);
    if (plan.workspace_bytes == 0) return;
    memcpy(&way.rescored, workspace, sizeof way.rescored);
    memcpy(&way.dense, static_cast<char*>(workspace) + sizeof way.rescored, sizeof way.dense);
  });
  simt::device() = before;
}
template <class T>
void run(const BmuBackwardArgs<T>& args) {
  bmu_backward_cuda(args, nullptr);
}
template <class T>
void run(const SegmentSumArgs<T>& args) {
  segment_sum_cuda(args, nullptr);
}
template <class T>
void run(const SegmentSumBackwardArgs<T>& args) {
  segment_sum_backward_cuda(args, nullptr);
}
template <class T>
void run(const SomGatherArgs<T>& args) {
  som_gather_cuda(args, nullptr);
}
template <class T>
void run(const SomGatherBackwardArgs<T>& args) {
  som_gather_backward_cuda(args, nullptr);
}
template <class T>
void run(const SomHeadArgs<T>& args) {
  som_head_cuda(args, nullptr);
}
template <class T>
void run(const SomHeadBackwardArgs<T>& args) {
  som_head_backward_cuda(args, nullptr);
}
template <class T, class B>
void run(const SomUpdateArgs<T, B>& args) {
  som_update_cuda(args, nullptr);
}
// Processes features in two shares, of which the scratch memory holds one.
template <class T, class B>
void run(const SomUpdateAxesArgs<T, B>& args) {
  const int64_t share = (args.dim + 1) / 2;
  std::vector<double> partial(args.axes.phases * args.axes.rows * args.axes.columns * share, NAN);
  for (int64_t first = 0; first < args.dim; first += share) {
    som_update_axes_cuda(args, partial.data(), first, std::min(share, args.dim - first), nullptr);
  }
}
template <class A, class T>
void run(const MovingAverageArgs<A, T>& args) {
  moving_average_cuda(args, nullptr);
}
inline void run(const LeastCountArgs& args) { least_count_cuda(args, nullptr); }
template <class T>
void run(const TransitionLogProbArgs<T>& args) {
  transition_log_prob_cuda(args, nullptr);
}
template <class T>
void run(const TransitionLogProbBackwardArgs<T>& args) {
  transition_log_prob_backward_cuda(args, nullptr);
}
template <class T>
void run(const TransitionLossesArgs<T>& args) {
  with_workspace(transition_losses_cuda_workspace_bytes(args),
                 [&](void* workspace) { transition_losses_cuda(args, workspace, nullptr); });
}
template <class T>
void run(const TransitionLossesBackwardArgs<T>& args) {
  with_workspace(transition_losses_backward_cuda_workspace_bytes(args),
                 [&](void* workspace) { transition_losses_backward_cuda(args, workspace, nullptr); });
}
template <class T>
void run(const CodebookMomentsArgs<T>& args) {
  codebook_moments_cuda(args, nullptr);
}
template <class T>
void run(const LocalTransitionLossesArgs<T>& args) {
  local_transition_losses_cuda(args, nullptr);
}
template <class T>
void run(const LocalTransitionLossesBackwardArgs<T>& args) {
  std::vector<int64_t> group_of(args.in.nodes, -1);
  local_transition_losses_backward_cuda(args, group_of.data(), nullptr);
}
template <class T>
void run(const AdamRowsArgs<T>& args) {
  adam_rows_cuda(args, nullptr);
}

#else

inline const std::string kTwin = "cpu";
inline std::set<std::string> launched() { return {}; }
constexpr bool kFollowsAtDistance = true;
constexpr bool kWritesEmptyGroups = false;

template <class Range>
void in_two_ranges(int64_t count, Range range) {
  const int64_t cut = count / 3;
  range(0, cut);
  range(cut, count);
}

template <class T>
std::vector<Compute<T> > packed_codebook(const T* codebook, int64_t codes, int64_t dim) {
  const int64_t panels = panel_count(codes);
  std::vector<Compute<T> > packed(panels * kPanelCodes * dim);
  in_two_ranges(panels, [&](int64_t a, int64_t b) { pack_panels_cpu(codebook, codes, dim, packed.data(), a, b); });
  return packed;
}

template <class T>
void run(const BmuArgs<T>& args) {
  const int64_t panels = panel_count(args.codes), entries = args.rows * args.k;
  std::vector<double> score(2 * entries);
  std::vector<int64_t> index(2 * entries);
  BmuArgs<T> share = args;
  share.distance = nullptr;
  share.index = index.data();
  double* scores = score.data();
  in_two_ranges(panels, [&](int64_t first, int64_t last) {
    in_two_ranges(args.rows, [&](int64_t a, int64_t b) { bmu_cpu(share, a, b, first, last, scores); });
    scores += entries;
    share.index += entries;
  });
  bmu_join_cpu(args, score.data(), index.data(), 2);
}
struct SearchWay {
  std::string name;
};

inline std::vector<SearchWay> search_ways() { return {{"CPU"}}; }

template <class T>
void run(const BmuArgs<T>& args, SearchWay&) {
  run(args);
}
template <class T>
void run(const BmuBackwardArgs<T>& args) {
  if (args.grad_z) in_two_ranges(args.rows, [&](int64_t a, int64_t b) { bmu_backward_z_cpu(args, a, b); });
  if (args.grad_codebook) {
    in_two_ranges(args.codes, [&](int64_t a, int64_t b) { bmu_backward_codebook_cpu(args, a, b); });
  }
}
template <class T>
void run(const SegmentSumArgs<T>& args) {
  in_two_ranges(args.segments, [&](int64_t a, int64_t b) { segment_sum_cpu(args, a, b); });
}
template <class T>
void run(const SegmentScatterArgs<T>& args) {
  for (int64_t chunk = 0; chunk < args.chunks; ++chunk) {
    in_two_ranges(args.dim, [&](int64_t a, int64_t b) { segment_scatter_cpu(args, chunk, a, b); });
  }
  in_two_ranges(args.segments, [&](int64_t a, int64_t b) { segment_combine_cpu(args, a, b); });
}
template <class T>
void run(const SegmentSumBackwardArgs<T>& args) {
  in_two_ranges(args.rows, [&](int64_t a, int64_t b) { segment_sum_backward_cpu(args, a, b); });
}
template <class T>
void run(const SomGatherArgs<T>& args) {
  in_two_ranges(args.rows, [&](int64_t a, int64_t b) { som_gather_cpu(args, a, b); });
}
template <class T>
void run(const SomGatherBackwardArgs<T>& args) {
  in_two_ranges(args.nodes, [&](int64_t a, int64_t b) { som_gather_backward_cpu(args, a, b); });
}
template <class T>
void run(const SomHeadArgs<T>& args) {
  in_two_ranges(args.rows, [&](int64_t a, int64_t b) { som_head_cpu(args, a, b); });
}
template <class T>
void run(const SomHeadBackwardArgs<T>& args) {
  if (args.grad_z) in_two_ranges(args.rows, [&](int64_t a, int64_t b) { som_head_backward_z_cpu(args, a, b); });
  if (args.grad_codebook) {
    memset(args.grad_codebook, 0, args.nodes * args.dim * sizeof(T));
    const std::vector<int64_t> nodes = nodes_with_gradient(args);
    in_two_ranges(nodes.size(),
                  [&](int64_t a, int64_t b) { som_head_backward_codebook_cpu(args, nodes.data(), a, b); });
  }
}
template <class T, class B>
void run(const SomUpdateArgs<T, B>& args) {
  constexpr int64_t targets = 32, features = kSomUpdatePanels * kSomUpdateFeatures;
  const int64_t items = (args.targets + targets - 1) / targets * ((args.dim + features - 1) / features);
  in_two_ranges(items, [&](int64_t a, int64_t b) { som_update_cpu(args, targets, a, b); });
}
template <class T, class B>
void run(const SomUpdateAxesArgs<T, B>& args) {
  constexpr int64_t features = 16;
  in_two_ranges((args.dim + features - 1) / features,
                [&](int64_t a, int64_t b) { som_update_axes_cpu(args, features, a, b); });
}
template <class A, class T>
void run(const MovingAverageArgs<A, T>& args) {
  in_two_ranges(moving_average_chunks(args.nodes), [&](int64_t a, int64_t b) { moving_average_cpu(args, a, b); });
}
inline void run(const LeastCountArgs& args) { least_count_cpu(args); }
template <class T>
void run(const TransitionLogProbArgs<T>& args) {
  in_two_ranges(args.rows, [&](int64_t a, int64_t b) { transition_log_prob_cpu(args, a, b); });
}
template <class T>
void run(const TransitionLogProbBackwardArgs<T>& args) {
  in_two_ranges(args.groups.count, [&](int64_t a, int64_t b) { transition_log_prob_backward_cpu(args, a, b); });
}
template <class T>
void run(const TransitionLossesArgs<T>& args) {
  const auto packed = packed_codebook(args.codebook, args.nodes, args.dim);
  in_two_ranges(args.rows, [&](int64_t a, int64_t b) { transition_losses_cpu(args, packed.data(), a, b); });
}
template <class T>
void run(const TransitionLossesBackwardArgs<T>& args) {
  const int64_t groups = args.groups.count, pitch = (args.dim + kPanelCodes - 1) / kPanelCodes * kPanelCodes;
  const int64_t chunks = (args.nodes + kChunkStep - 1) / kChunkStep;
  std::vector<double> center(args.dim, NAN), weight(groups, NAN), mean(args.grad_z ? chunks * groups * pitch : 0, NAN);
  std::vector<Compute<T> > pull(groups * pitch, NAN);
  const TransitionBackwardWorkspace<Compute<T> > workspace{center.data(), pull.data(), weight.data(),
                                                           mean.data(),   pitch,       chunks};
  transition_losses_backward_prepare_cpu(args, workspace);
  in_two_ranges(chunks, [&](int64_t a, int64_t b) { transition_losses_backward_codes_cpu(args, workspace, a, b); });
  if (args.grad_z) {
    in_two_ranges(groups, [&](int64_t a, int64_t b) { transition_losses_backward_z_cpu(args, workspace, a, b); });
  }
}

template <class T>
void run(const CodebookMomentsArgs<T>& args) {
  codebook_center_cpu(args);
  in_two_ranges(moment_chunks(args.codes), [&](int64_t a, int64_t b) { codebook_moments_cpu(args, a, b); });
  codebook_moments_join_cpu(args);
}
template <class T>
void run(const LocalTransitionLossesArgs<T>& args) {
  in_two_ranges(args.in.groups.count, [&](int64_t a, int64_t b) { local_transition_losses_cpu(args, a, b); });
}
template <class T>
void run(const LocalTransitionLossesBackwardArgs<T>& args) {
  const int64_t places = args.in.groups.count * args.in.window.slots;
  std::vector<int64_t> node(places), order, begin{0};
  std::vector<Compute<T> > weight(places);
  WindowPull<T> pull{node.data(), weight.data(), nullptr, nullptr};
  in_two_ranges(args.in.groups.count,
                [&](int64_t a, int64_t b) { local_transition_losses_backward_groups_cpu(args, pull, a, b); });
  if (!args.grad_codebook) return;
  local_transition_losses_backward_join_cpu(args);
  for (int64_t wanted = 0; wanted < args.in.nodes; ++wanted) {
    for (int64_t place = 0; place < places; ++place) {
      if (node[place] == wanted) order.push_back(place);
    }
    begin.push_back(static_cast<int64_t>(order.size()));
  }
  pull.order = order.data();
  pull.begin = begin.data();
  in_two_ranges(args.in.nodes,
                [&](int64_t a, int64_t b) { local_transition_losses_backward_codebook_cpu(args, pull, a, b); });
}
template <class T>
void run(const AdamRowsArgs<T>& args) {
  in_two_ranges(args.groups * adam_pieces(args.width), [&](int64_t a, int64_t b) { adam_rows_cpu(args, a, b); });
}

#endif

}  // namespace somvae::test
