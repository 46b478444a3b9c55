// Which CUDA kernel makes the first pass of a search, on how many blocks, and over how many rows at a time: a pure
// function of the problem and the GPU, so that a call on the same GPU always takes the same way. (Every way gives the
// same bits.)
//
//   dtype               compute capability          shape                                       first pass
//   float64             any                         any                                         none: all in float64
//   float32             8.0, 9.0, 10.0, 10.3        D in 16..65536, K >= 1024, enough work      tensor_core, halves
//   float16, bfloat16   8.0 and above               D in 16..65536, K >= 1024, enough work      tensor_core
//   otherwise                                                                                   ffma
//
// ffma forms every score by differences: two instructions per row, code and feature, and is done but for the few rows
// that rounding leaves uncertain. tensor_core forms approximate scores, and leaves a tile of 64 codes or more of each
// row to be scored by differences, which wants many codes to be little beside. Its products pay where three of float16
// are cheaper than those two instructions: on the data-centre GPUs, whose tensor cores are rated at some fifteen
// multiply-adds of float16 in the time of one on the FP32 units, but not on the others, which are rated at two or four.
// It has four launches more, and larger ones, 20 microseconds or so, in which ffma does 2^22 multiply-adds on each
// multiprocessor: that is "enough work". The thresholds follow from these ratings; they have not been measured yet.
//
// The environment variable SOMVAE_EXT_BMU_KERNEL=ffma|tensor_core overrides the last column, so that tests can compare
// the two; tensor_core still leaves to ffma what it cannot do (float64, D above 65536, GPUs below 8.0).
//
// Workspace: tensor_core has the codes once more, rounded up to whole tiles of 128 and stages of 64 bytes. Rows have
// some 170 bytes each and K / 32, with tensor_core K / 16 and their features once more, kBlockBytes in all; rows beyond
// that are searched one block after another, at least 1024 at a time.
#pragma once
#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "dtypes.h"

namespace somvae {

// The tiles of a block, rows by codes, and how many blocks share a multiprocessor.
constexpr int kDifferenceRows = 64, kDifferenceCodes = 128, kDifferenceBlocks = 3;
constexpr int kDifferenceFewRows = 32;  // for at most so many rows in all
constexpr int kExactRows = 32, kExactCodes = 64, kExactBlocks = 4;
constexpr int kTensorCoreTile = 128, kTensorCoreBlocks = 2;
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

struct BmuPlan {
  BmuKernel kernel;
  bool few_rows;            // the tile of differences is the smaller one
  int64_t block_rows;       // searched at a time
  int64_t first_blocks;     // of the first pass, as many as the GPU runs at a time
  int64_t exact_blocks;     // of the search in float64, likewise
  int64_t chunk_rows;       // of which a block of the rescoring looks for those that it is to score
  int64_t workspace_bytes;  // set by plan_bmu_cuda
};

constexpr int64_t kBlockBytes = int64_t{64} << 20;  // what rows may take of the workspace

// wanted is the value of SOMVAE_EXT_BMU_KERNEL; null or empty leave the choice to the table.
inline BmuKernel choose_bmu_kernel(int64_t rows, int64_t units, int64_t dim, BmuDtype dtype, int multiprocessors,
                                   int capability, const char* wanted) {
  const std::string wish = wanted == nullptr ? "" : wanted;
  if (wish != "" && wish != "ffma" && wish != "tensor_core") {
    throw std::runtime_error("somvae_ext: SOMVAE_EXT_BMU_KERNEL must be ffma or tensor_core, got '" + wish +
                             "'; unset it to let the shape decide");
  }
  if (dtype == BmuDtype::float64) return BmuKernel::exact;
  const bool possible = dim >= 1 && dim <= 65536 && capability >= 80;
  if (!possible || wish == "ffma") return BmuKernel::ffma;
  if (wish == "tensor_core") return BmuKernel::tensor_core;
  const bool data_center = capability == 80 || capability == 90 || capability == 100 || capability == 103;
  const double work = double(rows) * double(units) * double(dim), enough = double(1 << 22) * multiprocessors;
  const bool pays = dim >= 16 && units >= 1024 && work >= enough && (dtype == BmuDtype::half || data_center);
  return pays ? BmuKernel::tensor_core : BmuKernel::ffma;
}

// Bytes of workspace per row: least scores of tiles, operands of the tensor cores or the smallest scores of ffma, a
// limit and some more numbers, the list of candidates. Nearly, for arrays begin at round addresses.
inline int64_t bmu_bytes_per_row(BmuKernel kernel, int64_t units, int64_t dim, BmuDtype dtype, int k) {
  if (kernel == BmuKernel::exact) return 0;
  const int64_t lists = 8 * 16 + 4 + 8 + 4;
  const auto tiles = [units](int64_t codes) { return (units + codes - 1) / codes; };
  if (kernel == BmuKernel::ffma) return lists + 8 * (k + 1) + 4 * tiles(kDifferenceCodes);
  const int64_t operand = (dim + 31) / 32 * (dtype == BmuDtype::float32 ? 128 : 64);
  return lists + 8 * k + 20 + operand + 4 * tiles(kRescoredCodes);
}

// rows is positive.
inline BmuPlan plan_bmu(int64_t rows, int64_t units, int64_t dim, BmuDtype dtype, int k, int multiprocessors,
                        int capability, const char* wanted) {
  constexpr int64_t fewest_rows = 1024, most_chunk_rows = 16384;
  const int64_t processors = std::max(1, multiprocessors);
  BmuPlan plan = {};
  plan.kernel = choose_bmu_kernel(rows, units, dim, dtype, multiprocessors, capability, wanted);
  plan.few_rows = rows <= kDifferenceFewRows;
  plan.first_blocks = processors * (plan.kernel == BmuKernel::tensor_core ? kTensorCoreBlocks : kDifferenceBlocks);
  plan.exact_blocks = processors * kExactBlocks;

  const int64_t bytes = bmu_bytes_per_row(plan.kernel, units, dim, dtype, k);
  const int64_t most_rows = bytes == 0 ? rows : std::max(fewest_rows, kBlockBytes / bytes);
  const int64_t blocks = (rows + most_rows - 1) / most_rows;
  plan.block_rows = (rows + blocks - 1) / blocks;

  // So many that a tile's share of them, at two tiles for a row, fills what is scored together.
  const int64_t tiles = (units + kRescoredCodes - 1) / kRescoredCodes;
  plan.chunk_rows = std::clamp(16 * tiles, fewest_rows, most_chunk_rows);
  return plan;
}

}  // namespace somvae
