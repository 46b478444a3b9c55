// Best matching unit: squared distance and argmin. Launchers for CPU and CUDA; no torch here.
#pragma once
#include <cstdint>
#include <limits>

#include "bmu/bmu_policy.h"
#include "dtypes.h"

namespace somvae {

constexpr int64_t kMaxCodes = std::numeric_limits<int32_t>::max();  // the search keeps indices of codes in 32 bits

// The score of (row, code) is sum_d (z_d - e_d)^2 in float64: t = z_d - e_d, s = s + t * t, for d ascending. Each of
// the three operations is rounded separately, never fused. The code with the smallest score wins; among equal scores,
// that with the smallest index. A NaN score never wins. The distance is the score, rounded once to Compute<T>. A slot
// without a winner gets distance NaN and index 0.
template <class T>
struct BmuArgs {
  const T* z;            // [rows, dim]
  const T* codebook;     // [codes, dim]
  Compute<T>* distance;  // [rows, k] out, ascending in k
  int64_t* index;        // [rows, k] out
  int64_t rows, codes, dim;
  int k;  // 1 or 2; codes >= k
};

// Pair p of a forward pass is row p / k and its winner, code index[p]. grad = d loss / d distance.
// grad_z[row] = sum over its pairs of 2 grad (z - e); grad_codebook[code] = sum over its pairs of 2 grad (e - z).
template <class T>
struct BmuBackwardArgs {
  const Compute<T>* grad;  // [rows, k]
  const T* z;              // [rows, dim]
  const T* codebook;       // [codes, dim]
  const int64_t* index;    // [rows, k]
  const int64_t* order;    // [rows * k] pairs sorted by code, ascending pair within a code
  const int64_t* offsets;  // [codes + 1] code j owns order[offsets[j]] .. order[offsets[j + 1] - 1]
  T* grad_z;               // [rows, dim] out, or null if not needed
  T* grad_codebook;        // [codes, dim] out, or null if not needed
  int64_t rows, codes, dim;
  int k;
};

// Finds the best codes of a range of panels of 16 (cpu/codebook_panels.h) for a range of rows. Writes distances to
// args.distance or, if score is not null, scores to score[rows, k]. Any split into ranges of rows gives the same bits,
// and so does any split into ranges of panels whose results bmu_join_cpu joins.
template <class T>
void bmu_cpu(const BmuArgs<T>& args, int64_t first_row, int64_t last_row, int64_t first_panel, int64_t last_panel,
             double* score = nullptr);
// Joins the results of bmu_cpu for several ranges of panels: score and index [shares, rows, k].
template <class T>
void bmu_join_cpu(const BmuArgs<T>& args, const double* score, const int64_t* index, int64_t shares);
template <class T>
void bmu_backward_z_cpu(const BmuBackwardArgs<T>& args, int64_t first_row, int64_t last_row);
template <class T>
void bmu_backward_codebook_cpu(const BmuBackwardArgs<T>& args, int64_t first_code, int64_t last_code);

// On CUDA, the search needs a plan for these arguments on the current device, and a workspace of plan.workspace_bytes.
// It leaves two 64-bit counts at the start of the workspace: of the pairs of a row and a code that were scored again in
// float32, and of the rows that were searched in float64 because they had too many candidates.
template <class T>
BmuPlan plan_bmu_cuda(const BmuArgs<T>& args);
template <class T>
void bmu_cuda(const BmuArgs<T>& args, const BmuPlan& plan, void* workspace, void* stream);
template <class T>
void bmu_backward_cuda(const BmuBackwardArgs<T>& args, void* stream);

}  // namespace somvae
