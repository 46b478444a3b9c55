// Chooses the first pass of a search on CUDA, its number of blocks, and the rows to search at a time. The choice
// depends on the problem and the GPU alone. (Every choice gives the same bits.)
//
//   dtype               compute capability          shape                                       first pass
//   float64             any                         any                                         exact
//   any                 any                         little work                                 exact
//   float32             8.0, 9.0, 10.0, 10.3        D in 16..65536, K >= 1024, enough work      tensor_core, halves
//   float16, bfloat16   8.0 and above               D in 16..65536, K >= 1024, enough work      tensor_core
//   otherwise                                                                                   ffma
//
// exact computes every score in float64, and no step follows: three launches, and three float64 instructions per row,
// code and feature, at half the rate of float32 on data-centre GPUs and at a 64th on others. Little work is work that
// takes less time than five launches: 2^19 multiply-adds per multiprocessor on data-centre GPUs, 2^13 on others.
//
// ffma computes every score by differences: two instructions per row, code and feature. On a map in training rounding
// leaves up to half of the rows uncertain, but few of their tiles.
//
// tensor_core computes approximate scores. Rescoring at least one tile of 64 codes per row pays only when K is much
// larger than 64, and products of float16 only where three of them are cheaper than two instructions: on data-centre
// GPUs, whose tensor cores are rated at some fifteen multiply-adds of float16 in the time of one on the FP32 units, but
// not on the others, which are rated at two or four. Its four additional launches, larger ones, take some 20
// microseconds, in which ffma does 2^22 multiply-adds on each multiprocessor: that is enough work. What is left to be
// rescored depends on the data: where clusters are much narrower than their distances, the approximation cannot tell
// their codes apart, and at worst every tile is rescored, which takes longer than ffma alone.
//
// The thresholds follow from these ratings; they have not been measured yet. The environment variable
// SOMVAE_EXT_BMU_KERNEL=exact|ffma|tensor_core overrides the last column, so that tests can compare them; tensor_core
// still leaves to ffma what it cannot do (D above 65536, GPUs below 8.0), and float64 is always exact.
//
// Workspace: tensor_core holds a copy of the codes, rounded up to whole tiles of 128 and stages of 64 bytes. A row
// takes some 170 bytes and K / 32, with tensor_core K / 16 and a copy of its features. Rows are searched in blocks of
// at most kBlockBytes, which L2 caches hold, or of 1024 rows if those take more.
#pragma once
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "dtypes.h"

namespace somvae {

// The tiles of a block, rows by codes, and how many blocks share a multiprocessor and its shared memory.
constexpr int kDifferenceRows = 64, kDifferenceCodes = 128, kDifferenceBlocks = 3;
constexpr int kDifferenceFewRows = 32;  // the tile for at most so many rows in all
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
  bool few_rows;            // the tile of differences is the smaller one
  bool rows_stay;           // the tensor cores' rows stay in shared memory while codes pass by
  int64_t block_rows;       // searched at a time
  int64_t first_blocks;     // of the first pass, as many as the GPU runs at a time
  int64_t exact_blocks;     // of the search in float64, likewise
  int64_t chunk_rows;       // among which a block of the rescoring looks for rows to score
  int64_t workspace_bytes;  // set by plan_bmu_cuda
};

constexpr int64_t kBlockBytes = int64_t{24} << 20;  // what rows may take of the workspace

// requested is the value of SOMVAE_EXT_BMU_KERNEL; null or empty leave the choice to the table.
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

// Stages of 64 bytes per item: of the features of an item, float32 ones as two halves.
inline int64_t tensor_core_stages(const BmuProblem& problem) {
  const int64_t features = problem.dtype == BmuDtype::float32 ? 16 : 32;
  return (problem.dim + features - 1) / features;
}
inline int64_t tensor_core_shared_bytes(const BmuProblem& problem, bool rows_stay) {
  return (kStageBuffers + (rows_stay ? tensor_core_stages(problem) : kStageBuffers)) * kStageBytes;
}

// Bytes of workspace per row: least scores of tiles, operands of the tensor cores or the smallest scores of ffma, a
// limit and a few numbers, the list of candidates. An estimate, because arrays are aligned.
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
  const int64_t staying = tensor_core_shared_bytes(problem, true) + reserved;
  plan.rows_stay = staying <= most_of_a_block && staying <= gpu.shared_bytes / kTensorCoreBlocks;
  const int64_t fitting = gpu.shared_bytes / (kDifferenceSharedBytes + reserved);
  plan.first_blocks =
      processors *
      (plan.kernel == BmuKernel::tensor_core ? kTensorCoreBlocks : std::clamp<int64_t>(fitting, 1, kDifferenceBlocks));

  const int64_t bytes = bmu_bytes_per_row(problem, plan.kernel);
  const int64_t most_rows =
      bytes == 0 ? std::max<int64_t>(1, problem.rows) : std::max(fewest_rows, kBlockBytes / bytes);
  const int64_t blocks = std::max<int64_t>(1, (problem.rows + most_rows - 1) / most_rows);
  plan.block_rows = (problem.rows + blocks - 1) / blocks;

  // Enough that a tile's share of them, at two tiles per row, fills the rows that are scored together.
  const int64_t tiles = (problem.codes + kRescoredCodes - 1) / kRescoredCodes;
  plan.chunk_rows = std::clamp(16 * tiles, fewest_rows, most_chunk_rows);
  return plan;
}

}  // namespace somvae
