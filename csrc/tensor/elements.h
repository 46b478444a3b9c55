// The elements of a tensor as kernels see them: their type, and a pointer to the first.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include "dtypes.h"

namespace somvae {

using at::Tensor;

// The dtype of Compute<T> for the dtype of T.
inline at::ScalarType compute_dtype(at::ScalarType type) { return type == at::kDouble ? at::kDouble : at::kFloat; }

// Calls run.operator()<T>() with the kernels' type for a supported floating dtype.
template <class Run>
void dispatch_floating(at::ScalarType type, Run run) {
  switch (type) {
    case at::kFloat:
      return run.template operator()<float>();
    case at::kDouble:
      return run.template operator()<double>();
    case at::kHalf:
      return run.template operator()<Float16>();
    case at::kBFloat16:
      return run.template operator()<BFloat16>();
    default:
      TORCH_INTERNAL_ASSERT(false, "unchecked dtype ", type);
  }
}

// The elements of a contiguous tensor, as the kernels' type; null for an undefined one.
template <class T>
const T* elements(const Tensor& tensor) {
  return tensor.defined() ? static_cast<const T*>(tensor.const_data_ptr()) : nullptr;
}
template <class T>
T* mutable_elements(const Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.mutable_data_ptr()) : nullptr;
}

}  // namespace somvae
