// Finds the rows of a table that a batch touches, each with the rows of the batch that touch it. The cost of work on
// the table then depends on the size of the batch, not on that of the table.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace somvae {

// Group g has table row node[g] and the batch's rows order[offsets[g]] .. order[offsets[g + 1] - 1]. The sizes do not
// depend on the data: trailing groups are empty, and repeat the last node.
struct TouchedRows {
  at::Tensor node;     // int64 [rows]: distinct values of the index, ascending
  at::Tensor order;    // int64 [rows]: rows of the batch sorted by their node, ascending row within a node
  at::Tensor offsets;  // int64 [rows + 1]
};

// Values outside [0, nodes) form groups too, for which `node` holds a valid row: kernels recognize them by
// index[order[...]]. Does not wait for a CUDA device.
TouchedRows touched_rows(const at::Tensor& index, int64_t nodes);

// The number of groups that are not empty, known only on the CPU: elsewhere reading it would wait for the device, and
// tensors that torch.compile traces have no values.
std::optional<int64_t> touched_row_count(const at::Tensor& offsets);

}  // namespace somvae
