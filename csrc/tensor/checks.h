// Checks of tensor arguments. Every error is a ValueError that reads "<op>: <argument> must <expectation>, got <what
// came>", as in somvae_ext/ops/_arguments.py, which makes the same checks for the pure-torch path.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/SymInt.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace somvae {

using at::Tensor;

class ArgumentChecks {
 public:
  explicit ArgumentChecks(const char* op) : op_(op) {}

  // Requires a supported floating dtype. The first tensor checked sets dtype and device for the others.
  void floating(const char* name, const Tensor& tensor);
  void dtype(const char* name, const Tensor& tensor, at::ArrayRef<at::ScalarType> expected) const;

  // Requires a shape with one letter per dimension, such as "ND" for [N, D]. Equal letters must have equal sizes.
  void shape(const char* name, const Tensor& tensor, const std::string& letters);
  const c10::SymInt& size(char letter) const;
  void set_size(char letter, c10::SymInt size);

  // Requires an int64 tensor on the device of the tensors before it, with values in [0, size(values_below)). Values are
  // checked only on the CPU: elsewhere the check would wait for the device, and kernels check each index themselves.
  void index(const char* name, const Tensor& tensor, const std::string& letters, char values_below);

  // Requires finite values to be at most `limit` in magnitude, on the CPU only. NaN and infinities pass: ops propagate
  // them. `because` ends the expectation, as in "hold values of at most 1 in magnitude, <because>".
  void magnitude(const char* name, const Tensor& tensor, double limit, const std::string& because) const;

  [[noreturn]] void fail(const char* name, const std::string& must, const std::string& got) const;

 private:
  void device(const char* name, const Tensor& tensor) const;

  const char* op_;
  std::string first_name_;
  Tensor first_;
  std::vector<std::pair<char, c10::SymInt>> sizes_;
};

// The largest magnitude of values for which `type` can hold the sum of `rows` squared distances over `features`
// features.
double largest_value_to_square(at::ScalarType type, int64_t features, int64_t rows = 1);

// The largest magnitude of the finite values if it exceeds `limit`, else 0. For CPU tensors: on CUDA it would wait for
// the device.
double finite_beyond(const Tensor& values, double limit);

}  // namespace somvae
