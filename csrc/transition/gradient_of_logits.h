// The gradient of a table of logits as tensors: the whole table, or only the rows that the batch touched, as a hybrid
// sparse_coo tensor with one sparse and one dense dimension.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/SymInt.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "tensor/checks.h"
#include "tensor/dispatch.h"
#include "tensor/touched_rows.h"
#include "transition/touched_groups.h"

namespace somvae {

// How many rows a sparse gradient has: those that the batch touched, where their number is known; else as many as the
// batch has, of which those of empty groups are zeros.
struct SparseRows {
  c10::SymInt count;
  bool distinct;

  explicit SparseRows(const Tensor& touched_offsets) {
    const std::optional<int64_t> known = touched_row_count(touched_offsets);
    distinct = known.has_value();
    count = known ? c10::SymInt(*known) : touched_offsets.sym_numel() - 1;
  }

  Tensor gradient(const Tensor& touched_unit, const Tensor& values, const Tensor& logits) const {
    return at::_sparse_coo_tensor_unsafe_symint(touched_unit.slice_symint(0, 0, count).unsqueeze(0), values,
                                                logits.sym_sizes(), values.options().layout(at::kSparse), distinct);
  }
};

// For a kernel to fill: the whole table begins as zeros, of which the kernel overwrites the touched rows; of sparse
// rows the CUDA kernels write all, the CPU's those of groups that are not empty.
inline Tensor empty_gradient_of_logits(const Tensor& logits, const Tensor& touched_offsets,
                                       const std::optional<c10::SymInt>& sparse_rows) {
  if (!sparse_rows) return at::zeros_symint(logits.sym_sizes(), logits.options());
  const Tensor values = at::empty_symint({*sparse_rows, logits.sym_size(1)}, logits.options());
  if (const std::optional<int64_t> touched = touched_row_count(touched_offsets)) values.slice(0, *touched).zero_();
  return values;
}

inline void check_touched(ArgumentChecks& check, const Tensor& unit, const Tensor& order, const Tensor& offsets) {
  check.set_size('P', check.size('N') + 1);
  for (const auto& [name, tensor, shape] :
       {std::tuple{"touched_unit", unit, "N"}, std::tuple{"touched_order", order, "N"},
        std::tuple{"touched_offsets", offsets, "P"}}) {
    check.shape(name, tensor, shape);
    check.dtype(name, tensor, at::kLong);
  }
}

// For the kernels. Empty groups are left out where their number is known; elsewhere they come last.
inline TouchedGroups touched_groups(const Tensor& unit, const Tensor& order, const Tensor& offsets,
                                    const std::optional<c10::SymInt>& sparse_rows) {
  const int64_t rows = sparse_rows ? sparse_rows->expect_int() : unit.size(0);
  return {elements<int64_t>(unit), elements<int64_t>(order), elements<int64_t>(offsets),
          std::min(rows, touched_row_count(offsets).value_or(rows))};
}

}  // namespace somvae
