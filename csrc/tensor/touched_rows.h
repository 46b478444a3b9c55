// The rows of a table that a batch touches, each with the rows of the batch that touch it: what makes work on a table
// cost the batch, not the table.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace somvae {

// Group g has table row node[g] and the batch's rows order[offsets[g]] .. order[offsets[g + 1] - 1]. The sizes do not
// depend on the data: groups past the last one are empty, and repeat its node.
struct TouchedRows {
  at::Tensor node;     // int64 [rows]: distinct values of the index, ascending
  at::Tensor order;    // int64 [rows]: rows of the batch sorted by their node, ascending row within a node
  at::Tensor offsets;  // int64 [rows + 1]
};

// Values that are not in [0, nodes) form groups too, but `node` has a legal row in their place: kernels tell by
// index[order[...]]. Does not wait for a CUDA device.
TouchedRows touched_rows(const at::Tensor& index, int64_t nodes);

// The number of groups that are not empty. Only on the CPU: elsewhere looking would wait for the device, and while a
// graph is traced there is nothing to look at.
std::optional<int64_t> touched_row_count(const at::Tensor& offsets);

}  // namespace somvae
