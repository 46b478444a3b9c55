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
#include <string>
#include <tuple>

#include "index_range.h"
#include "tensor/checks.h"
#include "tensor/elements.h"
#include "tensor/touched_rows.h"
#include "transition/touched_groups.h"

namespace somvae {

// The number of rows of a sparse gradient: the number of touched rows if it is known, else the number of rows of the
// batch. In the latter case the rows of empty groups are zeros.
struct SparseRows {
  c10::SymInt count;
  bool distinct;

  explicit SparseRows(const Tensor& touched_offsets) {
    const std::optional<int64_t> touched_count = touched_row_count(touched_offsets);
    distinct = touched_count.has_value();
    count = touched_count ? c10::SymInt(*touched_count) : touched_offsets.sym_numel() - 1;
  }

  Tensor gradient(const Tensor& touched_node, const Tensor& values, const Tensor& logits) const {
    return at::_sparse_coo_tensor_unsafe_symint(touched_node.slice_symint(0, 0, count).unsqueeze(0), values,
                                                logits.sym_sizes(), values.options().layout(at::kSparse), distinct);
  }
};

// Allocates a gradient for a kernel to fill. A whole table starts as zeros, and the kernel overwrites the touched rows.
// Of sparse rows, the CUDA kernels write all. The CPU kernels write only those of groups that are not empty, so the
// others are zeroed here.
inline Tensor empty_gradient_of_logits(const Tensor& logits, const Tensor& touched_offsets,
                                       const std::optional<c10::SymInt>& sparse_rows) {
  if (!sparse_rows) return at::zeros_symint(logits.sym_sizes(), logits.options());
  const Tensor values = at::empty_symint({*sparse_rows, logits.sym_size(1)}, logits.options());
  const std::optional<int64_t> touched_count = touched_row_count(touched_offsets);
  if (touched_count) values.slice(0, *touched_count).zero_();
  return values;
}

// Requires the touched rows that the forward pass returned. As with indices, values are checked only on the CPU.
inline void check_touched(ArgumentChecks& check, const Tensor& node, const Tensor& order, const Tensor& offsets,
                          const std::optional<c10::SymInt>& sparse_rows) {
  check.set_size('P', check.size('N') + 1);
  for (const auto& [name, tensor, shape] :
       {std::tuple{"touched_node", node, "N"}, std::tuple{"touched_order", order, "N"},
        std::tuple{"touched_offsets", offsets, "P"}}) {
    check.shape(name, tensor, shape);
    check.dtype(name, tensor, at::kLong);
    if (!tensor.is_contiguous()) {
      check.fail(name, "be contiguous, as the forward pass returns it", "strides that are not contiguous");
    }
  }
  const std::optional<int64_t> touched_count = touched_row_count(offsets);
  if (!touched_count) return;
  const int64_t rows = offsets.numel() - 1, nodes = check.size('K').expect_int();
  const int64_t *const u = elements<int64_t>(node), *const o = elements<int64_t>(order);
  const int64_t* const place = elements<int64_t>(offsets);
  bool intact = place[0] == 0 && std::is_sorted(place, place + rows + 1) && place[rows] == rows;
  for (int64_t i = 0; intact && i < rows; ++i) intact = in_range(u[i], nodes) && in_range(o[i], rows);
  for (int64_t g = 1; intact && g < *touched_count; ++g) intact = u[g - 1] < u[g];
  if (!intact) {
    check.fail("touched_node, touched_order and touched_offsets", "be what the forward pass gave", "other values");
  }
  if (sparse_rows && (*sparse_rows < *touched_count || *sparse_rows > rows)) {
    check.fail("sparse_rows",
               "be from " + std::to_string(*touched_count) + ", the rows touched, to N = " + std::to_string(rows),
               std::to_string(sparse_rows->expect_int()));
  }
}

// Returns the touched rows as kernels read them, without empty groups if the number of touched rows is known.
inline TouchedGroups touched_groups(const Tensor& node, const Tensor& order, const Tensor& offsets,
                                    const std::optional<c10::SymInt>& sparse_rows) {
  const int64_t rows = sparse_rows ? sparse_rows->expect_int() : node.size(0);
  return {elements<int64_t>(node), elements<int64_t>(order), elements<int64_t>(offsets),
          std::min(rows, touched_row_count(offsets).value_or(rows))};
}

}  // namespace somvae
