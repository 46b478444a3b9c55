// Groups rows by the node that they belong to. Kernels then sum the rows of each node in a fixed order, instead of
// scattering rows with atomics.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace somvae {

struct RowGroups {
  at::Tensor order;    // int64 [rows]: rows sorted by node, ascending row within a node
  at::Tensor offsets;  // int64 [nodes + 1]: node j owns order[offsets[j]] .. order[offsets[j + 1] - 1]
};

// Leaves out rows whose index is not in [0, nodes). Does not wait for a CUDA device.
RowGroups group_rows(const at::Tensor& index, int64_t nodes);

}  // namespace somvae
