// A gradient of the logits as rows: a hybrid sparse_coo tensor with one sparse and one dense dimension.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>

namespace somvae {

// Row n of `values` [N, K] belongs to row prev[n] of a table of the size of `logits`; rows may repeat (not coalesced),
// so that the shape does not depend on the data.
inline at::Tensor sparse_rows(const at::Tensor& prev, const at::Tensor& values, const at::Tensor& logits) {
  return at::_sparse_coo_tensor_unsafe_symint(prev.unsqueeze(0), values, logits.sym_sizes(),
                                              values.options().layout(at::kSparse), /*is_coalesced=*/false);
}

}  // namespace somvae
