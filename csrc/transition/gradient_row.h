// Which rows of the batch contribute to row r of a gradient of the logits: those with prev == r for a dense gradient,
// row r itself for a sparse one (offsets say which: order is null when there are no rows, too). Works on the backward
// arguments of both transition ops.
#pragma once
#include <cstdint>

#include "device.h"

namespace somvae {

struct GradientRow {
  const int64_t* order;  // null: sparse, or no rows at all
  int64_t first, count;
  int64_t unit;  // whose logits

  SOMVAE_HOST_DEVICE inline int64_t member(int64_t i) const { return order == nullptr ? first : order[first + i]; }
};

template <class Args>
SOMVAE_HOST_DEVICE inline GradientRow gradient_row(const Args& args, int64_t r) {
  if (args.offsets == nullptr) return {nullptr, r, 1, args.prev[r]};
  return {args.order, args.offsets[r], args.offsets[r + 1] - args.offsets[r], r};
}

template <class Args>
SOMVAE_HOST_DEVICE inline int64_t gradient_rows(const Args& args) {
  return args.offsets == nullptr ? args.rows : args.units;
}

}  // namespace somvae
