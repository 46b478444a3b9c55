// Chooses the first pass of a search on CUDA, its number of blocks, and the rows to search at a time. The choice
// depends only on the problem and the GPU. (Every choice gives the same bits.)
//
//   dtype               compute capability          shape                                       first pass
//   float64             any                         any                                         exact
//   any                 any                         little work                                 exact
//   float32             8.0, 9.0, 10.0, 10.3        D in 16..65536, K >= 1024, enough work      tensor_core, halves
//   float16, bfloat16   8.0 and above               D in 16..65536, K >= 1024, enough work      tensor_core
//   otherwise                                                                                   ffma
//
// exact computes every score in float64 and needs no further step. It takes three launches, and three float64
// instructions per row, code and feature, which run at half the rate of float32 on data-center GPUs and at a 64th on
// others. "Little work" takes less time than five launches: at most 2^19 multiply-adds per multiprocessor on
// data-center GPUs, 2^13 on others.
//
// ffma computes every score in float32 from differences, with two instructions per row, code and feature. On a map in
// training, rounding leaves up to half of the rows uncertain, but only few of their tiles.
//
// tensor_core computes approximate scores. It rescores at least one tile of 64 codes per row, which pays only if K is
// much larger than 64. For float32, it takes three float16 products per feature, which pays only where they are cheaper
// than ffma's two instructions: on data-center GPUs, whose tensor cores are rated at some fifteen float16 multiply-adds
// in the time of one on the FP32 units, but not on others, which are rated at two or four. Its four additional, larger
// launches take some 20 microseconds, in which ffma does 2^22 multiply-adds on each multiprocessor: that is "enough
// work". How much it has to rescore depends on the data. Where clusters are much narrower than the distances between
// them, the approximation cannot tell their codes apart. At worst every tile is rescored, which takes longer than ffma
// alone.
//
// The thresholds follow from these ratings; they have not been measured yet. The environment variable
// SOMVAE_EXT_BMU_KERNEL=exact|ffma|tensor_core overrides the last column, so that tests can compare the kernels. What
// tensor_core cannot do (D above 65536, GPUs below 8.0) is still left to ffma, and float64 is always exact.
//
// Workspace: tensor_core keeps a copy of the codes, padded to whole tiles of 128 codes and whole stages of 64 bytes. A
// row takes some 170 + K / 32 bytes with ffma, and some 170 + K / 16 bytes and a copy of its features with tensor_core.
// Rows are searched in blocks of at most kBlockBytes, which fit into the L2 cache, or of 1024 rows if those take more.
#pragma once
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "dtypes.h"

namespace somvae {

// The tile of a block, in rows and codes, and the number of blocks that share a multiprocessor and its shared memory.
constexpr int kDifferenceRows = 64, kDifferenceCodes = 128, kDifferenceBlocks = 3;
constexpr int kDifferenceFewRows = 32;  // the rows of a tile if there are at most this many rows in all
constexpr int kDifferenceSharedBytes = 32 << 10;
constexpr int kExactRows = 32, kExactCodes = 64, kExactBlocks = 4;
constexpr int kTensorCoreTile = 128, kTensorCoreBlocks = 2;
constexpr int kStageBytes = kTensorCoreTile * 64, kStageBuffers = 3;
constexpr int kRescoredCodes = 64, kRescoreBlocks = 4;

enum class BmuKernel { exact, ffma, tensor_core };

inline const char* kernel_name(BmuKernel kernel) {
  return kernel == BmuKernel::exact ? "exact" : kernel == BmuKernel::ffma ? "ffma" : "tensor_core";
}

enum class BmuDtype { float32, float64, half };  // half: both 16-bit types

template <class T>
constexpr BmuDtype kBmuDtype = std::is_same_v<T, float>    ? BmuDtype::float32
                               : std::is_same_v<T, double> ? BmuDtype::float64
                                                           : BmuDtype::half;

struct BmuProblem {
  int64_t rows, codes, dim;
  BmuDtype dtype;
  int k;
};

struct BmuGpu {
  int multiprocessors, capability;
  int64_t shared_bytes;  // of a multiprocessor

  bool is_of_data_center() const {
    return capability == 80 || capability == 90 || capability == 100 || capability == 103;
  }
};

struct BmuPlan {
  BmuKernel kernel;
  bool few_rows;            // difference_search_kernel takes tiles of kDifferenceFewRows rows
  bool rows_stay;           // tensor_core_search_kernel keeps rows in shared memory while codes pass by
  int64_t block_rows;       // rows searched at a time
  int64_t first_blocks;     // thread blocks of the first pass, as many as the GPU runs at a time
  int64_t exact_blocks;     // thread blocks of the search in float64, likewise
  int64_t chunk_rows;       // rows among which a block of rescore_kernel looks for those to score
  int64_t workspace_bytes;  // set by plan_bmu_cuda
};

constexpr int64_t kBlockBytes = int64_t{24} << 20;  // of workspace, for a block of rows

// requested is the value of SOMVAE_EXT_BMU_KERNEL. If it is null or empty, the table above decides.
inline BmuKernel choose_bmu_kernel(const BmuProblem& problem, const BmuGpu& gpu, const char* requested) {
  const std::string request = requested == nullptr ? "" : requested;
  if (request != "" && request != "exact" && request != "ffma" && request != "tensor_core") {
    throw std::runtime_error("somvae_ext: SOMVAE_EXT_BMU_KERNEL must be exact, ffma or tensor_core, got '" + request +
                             "'; unset it to let the shape decide");
  }
  if (problem.dtype == BmuDtype::float64 || request == "exact") return BmuKernel::exact;
  const bool possible = problem.dim >= 1 && problem.dim <= 65536 && gpu.capability >= 80;
  if (request == "tensor_core" && possible) return BmuKernel::tensor_core;
  if (request != "") return BmuKernel::ffma;
  const double work =
      double(problem.rows) * double(problem.codes) * double(problem.dim) / std::max(1, gpu.multiprocessors);
  if (work <= (gpu.is_of_data_center() ? 1 << 19 : 1 << 13)) return BmuKernel::exact;
  const bool pays = problem.dim >= 16 && problem.codes >= 1024 && work >= 1 << 22 &&
                    (problem.dtype == BmuDtype::half || gpu.is_of_data_center());
  return possible && pays ? BmuKernel::tensor_core : BmuKernel::ffma;
}

// The number of 64-byte stages that hold an item's features, float32 ones as two halves.
inline int64_t tensor_core_stages(const BmuProblem& problem) {
  const int64_t features = problem.dtype == BmuDtype::float32 ? 16 : 32;
  return (problem.dim + features - 1) / features;
}
inline int64_t tensor_core_shared_bytes(const BmuProblem& problem, bool rows_stay) {
  return (kStageBuffers + (rows_stay ? tensor_core_stages(problem) : kStageBuffers)) * kStageBytes;
}

// Bytes of workspace per row: the least scores of tiles, the tensor cores' operands or ffma's smallest scores, a limit
// and a few other numbers, and the list of candidates. An estimate, because arrays are aligned.
inline int64_t bmu_bytes_per_row(const BmuProblem& problem, BmuKernel kernel) {
  if (kernel == BmuKernel::exact) return 0;
  const auto tiles = [&](int64_t codes) { return (problem.codes + codes - 1) / codes; };
  const int64_t lists = 8 * 16 + 4 + 8 + 4;
  if (kernel == BmuKernel::ffma) return lists + 8 * (problem.k + 1) + 4 * tiles(kDifferenceCodes);
  return lists + 8 * problem.k + 20 + 64 * tensor_core_stages(problem) + 4 * tiles(kRescoredCodes);
}

inline BmuPlan plan_bmu(const BmuProblem& problem, const BmuGpu& gpu, const char* requested) {
  constexpr int64_t fewest_rows = 1024, most_chunk_rows = 16384;
  constexpr int64_t reserved = 1 << 10, most_of_a_block = 99 << 10;  // bytes of shared memory, on all GPUs since 8.0
  const int64_t processors = std::max(1, gpu.multiprocessors);
  BmuPlan plan = {};
  plan.kernel = choose_bmu_kernel(problem, gpu, requested);
  plan.few_rows = problem.rows <= kDifferenceFewRows;
  plan.exact_blocks = processors * kExactBlocks;
  const int64_t needed = tensor_core_shared_bytes(problem, true) + reserved;
  plan.rows_stay = needed <= most_of_a_block && needed <= gpu.shared_bytes / kTensorCoreBlocks;
  const int64_t resident = gpu.shared_bytes / (kDifferenceSharedBytes + reserved);
  plan.first_blocks =
      processors *
      (plan.kernel == BmuKernel::tensor_core ? kTensorCoreBlocks : std::clamp<int64_t>(resident, 1, kDifferenceBlocks));

  const int64_t bytes = bmu_bytes_per_row(problem, plan.kernel);
  const int64_t most_rows =
      bytes == 0 ? std::max<int64_t>(1, problem.rows) : std::max(fewest_rows, kBlockBytes / bytes);
  const int64_t blocks = std::max<int64_t>(1, (problem.rows + most_rows - 1) / most_rows);
  plan.block_rows = (problem.rows + blocks - 1) / blocks;

  // At two rescored tiles per row, each tile then has about 32 rows of a chunk: as many as are scored together.
  const int64_t tiles = (problem.codes + kRescoredCodes - 1) / kRescoredCodes;
  plan.chunk_rows = std::clamp(16 * tiles, fewest_rows, most_chunk_rows);
  return plan;
}

}  // namespace somvae
