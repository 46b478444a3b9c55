// Rows grouped by the unit they belong to: what turns every scatter into a sum per unit in a fixed order, without
// atomics.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace somvae {

struct RowGroups {
  at::Tensor order;    // int64 [rows]: rows sorted by unit, ascending row within a unit
  at::Tensor offsets;  // int64 [units + 1]: unit j owns order[offsets[j]] .. order[offsets[j + 1] - 1]
};

// Rows whose index is not in [0, units) are in no group. Does not wait for a CUDA device.
RowGroups group_rows(const at::Tensor& index, int64_t units);

}  // namespace somvae
