// Runs the search: on csrc/simt with each of its kernels, on the CPU in parts of the rows and of the codes.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "backend.h"
#include "bmu/bmu.h"
#include "cpu/codebook_panels.h"

namespace somvae::test {

#if defined(SOMVAE_SIMT)

// A way to search: the kernel, the GPU, and the division of the rows.
struct SearchWay {
  std::string name;
  const char* kernel;  // the value of SOMVAE_EXT_BMU_KERNEL
  int multiprocessors;
  int64_t largest_grid;
  int64_t block_rows = 0, chunk_rows = 0;  // 0: as planned
  // Of the latest search: the pairs that were scored again in float32, and the rows that were searched in float64.
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

#else

struct SearchWay {
  std::string name;
};

inline std::vector<SearchWay> search_ways() { return {{"CPU"}}; }

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

#endif

}  // namespace somvae::test
