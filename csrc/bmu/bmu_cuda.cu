#include <algorithm>
#include <cstdlib>

#include "bmu/bmu_backward_kernel.cuh"
#include "bmu/bmu_policy.h"
#include "bmu/candidate_keys.cuh"
#include "bmu/decide_kernel.cuh"
#include "bmu/difference_search_kernel.cuh"
#include "bmu/exact_search_kernel.cuh"
#include "bmu/rescore_kernel.cuh"
#include "bmu/tensor_core_search_kernel.cuh"
#include "cuda/device_properties.cuh"
#include "cuda/workspace.h"

// A search runs in steps: a first pass over all codes, float32 scores from differences for the codes that it could not
// rule out, and float64 scores for those that can win. Launches for each block of rows:
//
//   ffma          clear, difference_search, list_certain, rescore, decide, exact_search, join_pieces
//   tensor_core   prepare_rows, tensor_core_search, find_limits, rescore (best tile), rescore (others), decide,
//                 exact_search, join_pieces; and once codebook_center (float32 only), codebook_norm, pack_codebook
//   exact         exact_search, join_pieces, for all rows
//
// One more launch clears the counters. Only the device knows how much work the later steps have. If there is none,
// exact_search returns at once, and rescore after it has looked through its rows.
//
// Instructions (counted per lane: one instruction of a warp counts 32 times) and bytes besides inputs and outputs:
//   ffma          2 N K D on the FP32 units; for each of N K / 128 tiles 4 bytes written, and some 8 read
//   tensor_core   3 N K D multiply-adds of float16 (16-bit types: N K D); for each of N K / 64 tiles 4 bytes written,
//                 some 20 read, mostly from the L2 cache; operands of 4 D bytes (16-bit types: 2 D) per row and code;
//                 then 2 D on the FP32 units for each pair that is scored again
//   decide        3 D in float64, 2 D conversions and 8 D bytes read for each candidate, of which most rows have one
//   exact_search  3 K D in float64 for each row, at half the rate of float32 on data-center GPUs, a 64th on others
// At worst, for example if all codes are equal, every pair is scored again and every row is searched in float64. That
// takes 2 + 3 times as long as ffma's first pass alone on a data-center GPU, and 2 + 96 times on others.
namespace somvae {
namespace {

template <class C, class T>
bool vectors(const BmuArgs<T>& args) {
  return chunks_are_aligned<C>(args.z, args.dim) && chunks_are_aligned<C>(args.codebook, args.dim);
}

template <class T>
BmuProblem problem_of(const BmuArgs<T>& args) {
  return {args.rows, args.codes, args.dim, kBmuDtype<T>, args.k};
}

template <class T>
BmuArgs<T> rows_of(const BmuArgs<T>& args, int64_t first, int64_t count) {
  BmuArgs<T> block = args;
  block.z += first * args.dim;
  block.distance += first * args.k;
  block.index += first * args.k;
  block.rows = count;
  return block;
}

// --- The steps' memory -----------------------------------------------------------------------------------------------

template <class T>
struct Steps {
  SearchCounters* counters;
  DifferenceSearch<T> difference;
  TensorCoreSearch<T> tensor_core;
  TensorCoreLimits<T> limits;
  Rescore<T> rescore;
  Decide<T> decide;
  ExactSearch<T> exact;
};

// Lays out the steps' arrays in the workspace, for blocks of at most plan.block_rows rows.
template <class T>
Steps<T> lay_out(const BmuArgs<T>& args, const BmuPlan& plan, Workspace& workspace) {
  const int64_t rows = std::min(plan.block_rows, args.rows);
  Steps<T> steps = {};
  steps.counters = workspace.take<SearchCounters>(1);

  steps.exact.blocks = plan.exact_blocks;
  steps.exact.vectors = vectors<double>(args);
  steps.exact.score = workspace.take<double>(plan.exact_blocks * 2 * kExactRows * args.k);
  steps.exact.index = workspace.take<int64_t>(plan.exact_blocks * 2 * kExactRows * args.k);
  if constexpr (!std::is_same_v<T, double>) {
    if (plan.kernel == BmuKernel::exact) return steps;
    const CandidateLists lists = {workspace.take<int>(rows), workspace.take<Key>(rows * kMostCandidates),
                                  workspace.take<int64_t>(rows), workspace.take<Key>(1)};
    float* limit = workspace.take<float>(rows);
    const ScoreLimit<float> score_limits(args.dim);
    const bool aligned = vectors<float>(args);

    Rescore<T>& rescore = steps.rescore;
    rescore.vectors = aligned;
    rescore.chunk_rows = plan.chunk_rows;
    rescore.limits = score_limits;
    rescore.lists = lists;
    rescore.counters = steps.counters;
    rescore.limit = limit;

    steps.decide = {args, aligned, score_limits, lists, steps.counters};

    if (plan.kernel == BmuKernel::ffma) {
      Key* smallest = workspace.take<Key>(rows * (args.k + 1));
      float* least = workspace.take<float>(tiles_of(args.codes, kDifferenceCodes) * rows);
      steps.difference = {args, aligned, plan.first_blocks, score_limits, smallest, least, limit, lists};
      rescore.least = least;
    } else {
      TensorCoreSearch<T>& search = steps.tensor_core;
      search.args = args;
      search.blocks = plan.first_blocks;
      search.rows_stay = plan.rows_stay;
      search.pitch = tiles_of(rows, kTensorCoreTile) * kTensorCoreTile;
      const int64_t padded_codes = tiles_of(args.codes, kTensorCoreTile) * kTensorCoreTile,
                    stages = stages_of<T>(args.dim);
      search.codes = workspace.take<TensorCoreStage>(padded_codes / kTensorCoreTile * stages);
      search.rows = workspace.take<TensorCoreStage>(search.pitch / kTensorCoreTile * stages);
      if constexpr (std::is_same_v<T, float>) search.center = workspace.take<float>(args.dim);
      search.maxima = workspace.take<uint32_t>(2 * padded_codes / kRescoredCodes);
      search.code_radius = workspace.take<float>(padded_codes / kRescoredCodes);
      search.norm = workspace.take<float>(padded_codes);
      search.row_norm = workspace.take<float>(search.pitch);
      search.row_radius = workspace.take<float>(search.pitch);
      search.row_factor = workspace.take<float>(search.pitch);
      search.least = workspace.take<float>(padded_codes / kRescoredCodes * search.pitch);

      rescore.approximate = search;
      rescore.tail = workspace.take<float>(rows);
      rescore.best_tile = workspace.take<int32_t>(rows);
      rescore.smallest = workspace.take<Key>(rows * args.k);
      steps.limits = {search, lists, limit, rescore.tail, rescore.best_tile, rescore.smallest};
    }
  }
  return steps;
}

// --- The steps -------------------------------------------------------------------------------------------------------

template <class T, int k>
void search_exactly(const ExactSearch<T>& search, void* stream) {
  LAUNCH((exact_search_kernel<T, k>), dim3(search.blocks), kScoreThreads, 0, stream, search);
  LAUNCH((join_pieces_kernel<T, k>), blocks_for(search.selection.rows, kThreads), kThreads, 0, stream, search);
}

template <class T, int k, Rescored which>
void rescore_tiles(const Rescore<T>& rescore, void* stream) {
  const int64_t items = tiles_of(rescore.args.codes, kRescoredCodes) * tiles_of(rescore.args.rows, rescore.chunk_rows);
  LAUNCH((rescore_kernel<T, k, which>), blocks_for(items, 1), kScoreThreads, 0, stream, rescore);
}

template <class T, int k>
void run_differences(const DifferenceSearch<T>& search, bool few_rows, const Rescore<T>& rescore, void* stream) {
  const int64_t rows = search.args.rows;
  LAUNCH((clear_keys_kernel), blocks_for(rows * (k + 1), kThreads), kThreads, 0, stream, search.smallest,
         rows * (k + 1));
  if (few_rows) {
    LAUNCH((difference_search_kernel<T, k, kDifferenceFewRows>), dim3(search.blocks), kScoreThreads, 0, stream, search);
  } else {
    LAUNCH((difference_search_kernel<T, k, kDifferenceRows>), dim3(search.blocks), kScoreThreads, 0, stream, search);
  }
  LAUNCH((list_certain_kernel<T, k>), blocks_for(rows, kThreads), kThreads, 0, stream, search);
  rescore_tiles<T, k, Rescored::of_uncertain_rows>(rescore, stream);
}

template <class T>
void prepare_codes(const TensorCoreSearch<T>& search, void* stream) {
  const BmuArgs<T>& args = search.args;
  if constexpr (std::is_same_v<T, float>) {
    LAUNCH((codebook_center_kernel<T>), blocks_for(args.dim, kCenterFeatures), kCenterFeatures * kCenterGroups, 0,
           stream, search);
  }
  LAUNCH((codebook_norm_kernel<T>), blocks_for(args.codes, kWarpsPerBlock), kThreads, 0, stream, search);
  LAUNCH((pack_codebook_kernel<T>), blocks_for(args.codes, kWarpsPerBlock), kThreads, 0, stream, search);
}

template <class T, int k>
void run_tensor_cores(const TensorCoreLimits<T>& limits, const Rescore<T>& rescore, void* stream) {
  const TensorCoreSearch<T>& search = limits.search;
  const BmuArgs<T>& args = search.args;
  LAUNCH((prepare_rows_kernel<T>), blocks_for(args.rows, kWarpsPerBlock), kThreads, 0, stream, search);
  LAUNCH((tensor_core_search_kernel<T>), dim3(search.blocks), kTensorCoreThreads,
         tensor_core_shared_bytes(problem_of(args), search.rows_stay), stream, search);
  LAUNCH((find_limits_kernel<T, k>), blocks_for(args.rows, kLimitRows), kLimitRows * kLimitGroups, 0, stream, limits);
  rescore_tiles<T, k, Rescored::best_tile>(rescore, stream);
  rescore_tiles<T, k, Rescored::other_tiles>(rescore, stream);
}

template <class T, int k>
void search(const BmuArgs<T>& args, const BmuPlan& plan, void* memory, void* stream) {
  Workspace workspace(memory);
  Steps<T> steps = lay_out(args, plan, workspace);
  uint32_t* const maxima = steps.tensor_core.maxima;
  const int64_t count =
      maxima == nullptr ? 0 : 2 * tiles_of(args.codes, kTensorCoreTile) * kTensorCoreTile / kRescoredCodes;
  LAUNCH((clear_counters_kernel), blocks_for(count + 1, kThreads), kThreads, 0, stream, steps.counters, maxima, count);
  if (plan.kernel == BmuKernel::exact) {
    steps.exact.args = args;
    steps.exact.selection = {args.rows, nullptr, nullptr};
    search_exactly<T, k>(steps.exact, stream);
  } else if constexpr (!std::is_same_v<T, double>) {
    if (plan.kernel == BmuKernel::tensor_core) prepare_codes(steps.tensor_core, stream);
    for (int64_t first = 0; first < args.rows; first += plan.block_rows) {
      const BmuArgs<T> block = rows_of(args, first, std::min(plan.block_rows, args.rows - first));
      steps.rescore.args = steps.decide.args = steps.exact.args = block;
      if (plan.kernel == BmuKernel::ffma) {
        steps.difference.args = block;
        run_differences<T, k>(steps.difference, plan.few_rows, steps.rescore, stream);
      } else {
        steps.limits.search.args = block;
        run_tensor_cores<T, k>(steps.limits, steps.rescore, stream);
      }
      LAUNCH((decide_kernel<T, k>), blocks_for(block.rows, kDecidedRows), kDecidedRows, 0, stream, steps.decide);
      const CandidateLists& lists = steps.decide.lists;
      steps.exact.selection = {block.rows, lists.dense, lists.dense_count};
      search_exactly<T, k>(steps.exact, stream);
    }
  }
}

}  // namespace

template <class T>
BmuPlan plan_bmu_cuda(const BmuArgs<T>& args) {
  const DeviceProperties device = current_device_properties();
  BmuPlan plan = plan_bmu(problem_of(args), {device.multiprocessors, device.capability, device.shared_bytes},
                          std::getenv("SOMVAE_EXT_BMU_KERNEL"));
  if (args.rows == 0) return plan;  // nothing is written, not even the counters
  Workspace workspace(nullptr);
  lay_out(args, plan, workspace);
  plan.workspace_bytes = workspace.used();
  return plan;
}

template <class T>
void bmu_cuda(const BmuArgs<T>& args, const BmuPlan& plan, void* workspace, void* stream) {
  if (args.rows == 0) return;
  if (args.k == 1) {
    search<T, 1>(args, plan, workspace, stream);
  } else {
    search<T, 2>(args, plan, workspace, stream);
  }
}

template <class T>
void bmu_backward_cuda(const BmuBackwardArgs<T>& args, void* stream) {
  if (args.grad_z != nullptr && args.rows * args.dim > 0) {
    LAUNCH((bmu_backward_z_kernel<T>), blocks_for(args.rows * args.dim, kThreads), kThreads, 0, stream, args);
  }
  if (args.grad_codebook != nullptr && args.codes * args.dim > 0) {
    LAUNCH((bmu_backward_codebook_kernel<T>), blocks_for(args.codes * args.dim, kThreads), kThreads, 0, stream, args);
  }
}

#define INSTANTIATE(T)                                                               \
  template BmuPlan plan_bmu_cuda(const BmuArgs<T>&);                                 \
  template void bmu_cuda(const BmuArgs<T>&, const BmuPlan&, void* workspace, void*); \
  template void bmu_backward_cuda(const BmuBackwardArgs<T>&, void*);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
