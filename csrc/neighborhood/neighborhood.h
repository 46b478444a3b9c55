// Neighborhood weights between the nodes of a map, as tensors, for the ops that update a codebook.
#pragma once
#include <ATen/core/Tensor.h>

#include <optional>

#include "tensor/checks.h"

namespace somvae {

// Contiguous float64 tensors: either weights [M, K], or rows [R, R] and columns [P, P, C, C].
struct Neighborhood {
  Tensor weights, rows, columns;
};

// Check, and convert, weights along the axes of a grid whose R * C nodes are the K rows of the codebook.
void check_axis_weights(ArgumentChecks& check, const Tensor& rows, const Tensor& columns);
Neighborhood axis_neighborhood(const Tensor& rows, const Tensor& columns);

// Writes new codes (see SomUpdateFinish) to `out`, which may be `codes` itself. All tensors are contiguous.
//   codes, out [M, D]; total float32 or float64 [K, D]; count the same [K] or [K, D]; least: float64 [1], the count
//   above which a code moves, or undefined
void update_codes(const Neighborhood& neighborhood, const Tensor& codes, const Tensor& total, const Tensor& count,
                  std::optional<double> rate, const Tensor& least, const Tensor& out);

}  // namespace somvae
