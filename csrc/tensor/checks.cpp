#include "tensor/checks.h"

#include <ATen/ops/abs.h>
#include <ATen/ops/aminmax.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/max.h>
#include <ATen/ops/where.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>

namespace somvae {

namespace {

template <class V>
std::string text(const V& value) {
  std::ostringstream stream;
  stream << value;
  return stream.str();
}

// The name of a dtype in Python.
std::string dtype_name(at::ScalarType type) { return std::string(c10::getDtypeNames(type).first); }

}  // namespace

void ArgumentChecks::fail(const char* name, const std::string& must, const std::string& got) const {
  C10_THROW_ERROR(ValueError, std::string(op_) + ": " + name + " must " + must + ", got " + got);
}

void ArgumentChecks::device(const char* name, const Tensor& tensor) const {
  if (tensor.device() != first_.device()) {
    fail(name, "be on the device of " + first_name_ + ", " + text(first_.device()), text(tensor.device()));
  }
}

void ArgumentChecks::floating(const char* name, const Tensor& tensor) {
  const at::ScalarType type = tensor.scalar_type();
  if (type != at::kFloat && type != at::kDouble && type != at::kHalf && type != at::kBFloat16) {
    fail(name, "be of dtype float32, float64, float16 or bfloat16", dtype_name(type));
  }
  // An index sets the device but not the dtype.
  const bool sets_dtype = !first_.defined() || first_.scalar_type() == at::kLong;
  if (!sets_dtype && type != first_.scalar_type()) {
    fail(name, "have the dtype of " + first_name_ + ", " + dtype_name(first_.scalar_type()),
         dtype_name(type) + "; cast one of them");
  }
  if (first_.defined()) device(name, tensor);
  if (sets_dtype) {
    first_ = tensor;
    first_name_ = name;
  }
}

void ArgumentChecks::dtype(const char* name, const Tensor& tensor, at::ArrayRef<at::ScalarType> expected) const {
  if (std::find(expected.begin(), expected.end(), tensor.scalar_type()) == expected.end()) {
    std::string names;
    for (const at::ScalarType& type : expected) {
      const bool last = &type + 1 == expected.end();
      names += (names.empty() ? "" : last ? " or " : ", ") + dtype_name(type);
    }
    fail(name, "be of dtype " + names, dtype_name(tensor.scalar_type()));
  }
  if (first_.defined()) device(name, tensor);
}

void ArgumentChecks::shape(const char* name, const Tensor& tensor, const std::string& letters) {
  const size_t known_count = sizes_.size();
  bool fits = tensor.dim() == static_cast<int64_t>(letters.size());
  for (size_t i = 0; fits && i < letters.size(); ++i) {
    const c10::SymInt& actual = tensor.sym_size(static_cast<int64_t>(i));
    bool seen = false;
    for (const auto& [letter, expected] : sizes_) {
      if (letter == letters[i]) {
        seen = true;
        fits = expected == actual;
      }
    }
    if (!seen) sizes_.emplace_back(letters[i], actual);
  }
  if (fits) return;
  std::string expected = "[", known_sizes;
  for (size_t i = 0; i < letters.size(); ++i) {
    expected += (i > 0 ? ", " : "") + std::string(1, letters[i]);
    for (size_t j = 0; j < known_count; ++j) {
      if (sizes_[j].first == letters[i] && letters.find(letters[i]) == i) {
        known_sizes +=
            (known_sizes.empty() ? " with " : ", ") + std::string(1, letters[i]) + " = " + text(sizes_[j].second);
      }
    }
  }
  fail(name, "have shape " + expected + "]" + known_sizes, text(tensor.sym_sizes()));
}

const c10::SymInt& ArgumentChecks::size(char letter) const {
  for (const auto& [known, size] : sizes_) {
    if (known == letter) return size;
  }
  TORCH_INTERNAL_ASSERT(false, "no size ", letter);
}

void ArgumentChecks::set_size(char letter, c10::SymInt size) { sizes_.emplace_back(letter, std::move(size)); }

void ArgumentChecks::index(const char* name, const Tensor& tensor, const std::string& letters, char values_below) {
  shape(name, tensor, letters);
  if (!first_.defined()) {
    first_ = tensor;
    first_name_ = name;
  }
  device(name, tensor);
  if (tensor.scalar_type() != at::kLong) fail(name, "be of dtype int64", dtype_name(tensor.scalar_type()));
  if (!tensor.device().is_cpu() || tensor.numel() == 0) return;
  const auto [low, high] = at::aminmax(tensor);
  const int64_t smallest = low.item<int64_t>(), largest = high.item<int64_t>();
  const int64_t last = size(values_below).expect_int() - 1;
  if (smallest < 0 || largest > last) {
    fail(name, "hold values from 0 to " + text(last), text(smallest < 0 ? smallest : largest));
  }
}

void ArgumentChecks::magnitude(const char* name, const Tensor& tensor, double limit, const std::string& because) const {
  const double beyond = tensor.device().is_cpu() ? finite_beyond(tensor, limit) : 0;
  if (beyond > 0) fail(name, "hold values of at most " + text(limit) + " in magnitude, " + because, text(beyond));
}

double largest_value_to_square(at::ScalarType type, int64_t features, int64_t rows) {
  const double largest = type == at::kDouble ? std::numeric_limits<double>::max() : std::numeric_limits<float>::max();
  // The difference of two values may be twice as large as either; another factor of 2 covers the rounding of the sum.
  return std::sqrt(largest / 8 / double(std::max<int64_t>(1, features)) / double(std::max<int64_t>(1, rows)));
}

double finite_beyond(const Tensor& values, double limit) {
  if (values.numel() == 0 || (values.scalar_type() == at::kHalf && limit > 65504)) return 0;
  const auto [low, high] = at::aminmax(values);  // both NaN if any value is
  if (low.item<double>() >= -limit && high.item<double>() <= limit) return 0;
  const double largest = at::where(at::isfinite(values), at::abs(values), 0).max().item<double>();
  return largest > limit ? largest : 0;
}

}  // namespace somvae
