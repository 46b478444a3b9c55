// Which CUDA kernel searches, and into how many slices of the codebook its work is cut: a pure function of the problem
// and the GPU, so that a call on the same GPU always takes the same way. (Every way gives the same bits.)
//
//   dtype               compute capability          shape                                     kernel
//   float64             any                         any                                       ffma
//   float32             8.0, 9.0, 10.0, 10.3        D in 32..65536, rows >= 256, K >= 512     tensor_core, 3xTF32
//   float16, bfloat16   8.0 and above               D in 32..65536, rows >= 256, K >= 512     tensor_core
//   otherwise                                                                                 ffma
//
// ffma forms every score in registers as bmu.h promises it: two instructions per row, code and feature. tensor_core
// finds the winner by approximate scores and proves it (tensor_core_search_kernel.cuh). It pays where three TF32
// products are cheaper than those two instructions: on the data-centre GPUs, whose tensor cores are rated at about
// eight TF32 multiply-adds or more in the time of one on the FP32 units, but not on the others, which are rated at one
// or two. Its three extra passes over rows and codes want enough work to hide in. The thresholds follow from these
// ratings; they have not been measured yet.
//
// The environment variable SOMVAE_EXT_BMU_KERNEL=ffma|tensor_core overrides the last column, so that tests can compare
// the two; tensor_core still leaves to ffma what it cannot do (float64, D above 65536, GPUs below 8.0).
//
// A block owns a tile of rows and passes over a slice of the codebook. One slice, if the rows' tiles fill the GPU;
// otherwise as many as fill it twice, each of at least two tiles of codes.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "dtypes.h"

namespace somvae {

// The tiles of a block: rows by codes.
constexpr int kExactRows = 64;
constexpr int kExactFewRows = 32;  // for at most so many rows in all
template <class T>
constexpr int kExactCodes = std::is_same_v<T, double> ? 64 : 128;
constexpr int kTensorCoreTile = 128;

enum class BmuKernel { ffma, tensor_core };

struct BmuPlan {
  BmuKernel kernel;
  bool few_rows;        // the exact kernel takes its smaller tile
  int64_t slices;       // of the codebook
  int64_t second_rows;  // tensor_core: tiles of rows, and slices, with which what it could not prove is searched again
  int64_t second_slices;
};

enum class BmuDtype { float32, float64, half };  // half: both 16-bit types

template <class T>
constexpr BmuDtype kBmuDtype = std::is_same_v<T, float>    ? BmuDtype::float32
                               : std::is_same_v<T, double> ? BmuDtype::float64
                                                           : BmuDtype::half;

// wanted is the value of SOMVAE_EXT_BMU_KERNEL; null or empty leave the choice to the table.
inline BmuKernel choose_bmu_kernel(int64_t rows, int64_t units, int64_t dim, BmuDtype dtype, int capability,
                                   const char* wanted) {
  const std::string wish = wanted == nullptr ? "" : wanted;
  if (wish != "" && wish != "ffma" && wish != "tensor_core") {
    throw std::runtime_error("somvae_ext: SOMVAE_EXT_BMU_KERNEL must be ffma or tensor_core, got '" + wish +
                             "'; unset it to let the shape decide");
  }
  const bool possible = dtype != BmuDtype::float64 && dim >= 1 && dim <= 65536 && capability >= 80;
  if (!possible || wish == "ffma") return BmuKernel::ffma;
  if (wish == "tensor_core") return BmuKernel::tensor_core;
  const bool data_center = capability == 80 || capability == 90 || capability == 100 || capability == 103;
  const bool pays = dim >= 32 && rows >= 256 && units >= 512 && (dtype == BmuDtype::half || data_center);
  return pays ? BmuKernel::tensor_core : BmuKernel::ffma;
}

// Slices that give `row_tiles` tiles of rows enough blocks for a GPU that runs `resident` at a time.
inline int64_t bmu_slices(int64_t row_tiles, int64_t code_tiles, int64_t resident) {
  constexpr int64_t fewest_tiles = 2, largest_grid_height = 65535;
  if (row_tiles >= resident) return 1;
  const int64_t wanted = (2 * resident + row_tiles - 1) / row_tiles;
  const int64_t possible =
      code_tiles / fewest_tiles < largest_grid_height ? code_tiles / fewest_tiles : largest_grid_height;
  const int64_t slices = wanted < possible ? wanted : possible;
  return slices > 1 ? slices : 1;
}

// rows is positive.
inline BmuPlan plan_bmu(int64_t rows, int64_t units, int64_t dim, BmuDtype dtype, int multiprocessors, int capability,
                        const char* wanted = std::getenv("SOMVAE_EXT_BMU_KERNEL")) {
  const auto tiles = [](int64_t items, int64_t tile) { return (items + tile - 1) / tile; };
  const int64_t exact_codes = dtype == BmuDtype::float64 ? kExactCodes<double> : kExactCodes<float>;
  const int64_t resident = 3 * int64_t(multiprocessors);  // blocks of the exact kernel
  BmuPlan plan = {};
  plan.kernel = choose_bmu_kernel(rows, units, dim, dtype, capability, wanted);
  plan.few_rows = rows <= kExactFewRows;
  if (plan.kernel == BmuKernel::ffma) {
    const int64_t row_tiles = tiles(rows, plan.few_rows ? kExactFewRows : kExactRows);
    plan.slices = bmu_slices(row_tiles, tiles(units, exact_codes), resident);
    return plan;
  }
  const int64_t row_tiles = tiles(rows, kTensorCoreTile);
  plan.slices = bmu_slices(row_tiles, tiles(units, kTensorCoreTile), multiprocessors);
  // Usually a handful of rows is searched again, in the time that one block takes for its slice: many slices.
  plan.second_slices = bmu_slices(1, tiles(units, exact_codes), resident);
  const int64_t blocks = tiles(2 * resident, plan.second_slices);
  const int64_t second_tiles = tiles(rows, plan.few_rows ? kExactFewRows : kExactRows);
  plan.second_rows = blocks < 1 ? 1 : blocks < second_tiles ? blocks : second_tiles;
  return plan;
}

}  // namespace somvae
