// Rows grouped by the node they belong to: what turns every scatter into a sum per node in a fixed order, without
// atomics.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace somvae {

struct RowGroups {
  at::Tensor order;    // int64 [rows]: rows sorted by node, ascending row within a node
  at::Tensor offsets;  // int64 [nodes + 1]: node j owns order[offsets[j]] .. order[offsets[j + 1] - 1]
};

// Rows whose index is not in [0, nodes) are in no group. Does not wait for a CUDA device.
RowGroups group_rows(const at::Tensor& index, int64_t nodes);

}  // namespace somvae
