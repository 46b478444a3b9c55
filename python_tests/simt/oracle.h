// Shared parts of the references: data, sums with bounds on the rounding of kernels, groups, neighbor tables.
//
// References compute in extended precision from the values as stored. A result may differ from them by the error
// of its own arithmetic, derived from the unit roundoff, the number of operations and the size of the terms.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "backend.h"
#include "dtypes.h"
#include "harness.h"

namespace somvae::test {

using Real = long double;

// Largest relative error of rounding to T, and the spacing of its subnormal numbers.
template <class T>
constexpr Real unit_roundoff();
template <>
constexpr Real unit_roundoff<float>() {
  return 0x1p-24L;
}
template <>
constexpr Real unit_roundoff<double>() {
  return 0x1p-53L;
}
template <>
constexpr Real unit_roundoff<Float16>() {
  return 0x1p-11L;
}
template <>
constexpr Real unit_roundoff<BFloat16>() {
  return 0x1p-8L;
}
template <class T>
constexpr Real subnormal_spacing();
template <>
constexpr Real subnormal_spacing<float>() {
  return 0x1p-149L;
}
template <>
constexpr Real subnormal_spacing<double>() {
  return 0x1p-1074L;
}
template <>
constexpr Real subnormal_spacing<Float16>() {
  return 0x1p-24L;
}
template <>
constexpr Real subnormal_spacing<BFloat16>() {
  return 0x1p-133L;
}

template <class T>
constexpr Real smallest_normal();
template <>
constexpr Real smallest_normal<float>() {
  return 0x1p-126L;
}
template <>
constexpr Real smallest_normal<double>() {
  return 0x1p-1022L;
}

// The most that a number in the type that kernels of T compute in loses if it is flushed to zero.
template <class T>
constexpr Real flushed() {
  return kFlushesSubnormals ? smallest_normal<Compute<T>>() : 0;
}

// A sum with the error that its terms may carry.
class Sum {
 public:
  // A term whose own relative error is at most `error`.
  void add(Real term, Real error) {
    value_ += term;
    magnitude_ += std::fabs(term);
    error_ += std::fabs(term) * error;
    ++terms_;
  }
  void add_uncertain(Real value, Real absolute_error) {
    value_ += value;
    magnitude_ += std::fabs(value);
    error_ += absolute_error;
    ++terms_;
  }

  Real value() const { return value_; }
  // The error of the sum if its additions, in any order, round with `roundoff` and each loses at most `underflow`.
  Real error(Real roundoff, Real underflow = 0) const { return error_ + terms_ * (roundoff * magnitude_ + underflow); }

 private:
  Real value_ = 0, magnitude_ = 0, error_ = 0;
  int64_t terms_ = 0;
};

// Claims that `got` is `value` up to `error`, rounded to T. NaN and infinities must match exactly.
template <class T>
void require_near(Report& report, T got, Real value, Real error, const std::string& what) {
  const Real actual = load(got);
  bool satisfied;
  if (std::isnan(value) || std::isinf(value)) {
    satisfied = std::isnan(value) ? std::isnan(actual) : actual == value;
  } else {
    constexpr Real kSecondOrder = 1.01L;
    error = kSecondOrder * (error + unit_roundoff<T>() * std::fabs(value)) + subnormal_spacing<T>() + flushed<T>();
    satisfied = std::fabs(actual - value) <= error;
  }
  if (satisfied) return report.require(true, {});
  char text[160];
  std::snprintf(text, sizeof text, ": got %.17Lg, expected %.17Lg within %.3Lg", actual, value, error);
  report.require(false, what + text);
}

template <class T>
void require_near(Report& report, T got, const Sum& sum, Real roundoff, const std::string& what) {
  require_near(report, got, sum.value(), sum.error(roundoff, flushed<T>()), what);
}

// Initial values for outputs, which reveal the elements that a kernel does not write.
template <class T>
std::vector<T> poisoned(int64_t elements) {
  std::vector<T> values(elements);
  if (elements > 0) memset(static_cast<void*>(values.data()), 0xfb, elements * sizeof(T));
  return values;
}

using Random = std::mt19937_64;

template <class T>
std::vector<T> random_values(Random& random, int64_t elements, double scale = 1) {
  std::normal_distribution<double> normal(0, scale);
  std::vector<T> values(elements);
  for (T& value : values) value = store<T>(normal(random));
  return values;
}

// Random nodes. If `invalid`, some are out of range: -1, `nodes`, or far above.
inline std::vector<int64_t> random_index(Random& random, int64_t elements, int64_t nodes, bool invalid = false) {
  std::uniform_int_distribution<int64_t> inside(0, nodes - 1);
  std::vector<int64_t> index(elements);
  for (int64_t i = 0; i < elements; ++i) {
    index[i] = inside(random);
    if (invalid && i % 5 == 1) index[i] = i % 3 == 0 ? -1 : i % 3 == 1 ? nodes : int64_t{1} << 40;
  }
  return index;
}

// Positions sorted by index, ascending within a node; `offsets` bound the nodes' groups.
struct Groups {
  std::vector<int64_t> order, offsets;
};

inline Groups group_by(const std::vector<int64_t>& index, int64_t nodes) {
  Groups groups;
  groups.order.resize(index.size());
  std::iota(groups.order.begin(), groups.order.end(), 0);
  std::stable_sort(groups.order.begin(), groups.order.end(), [&](int64_t a, int64_t b) { return index[a] < index[b]; });
  for (int64_t node = 0; node <= nodes; ++node) {
    groups.offsets.push_back(std::count_if(index.begin(), index.end(), [&](int64_t i) { return i < node; }));
  }
  return groups;
}

// The neighbors of the nodes of a grid, -1 where there is none.
struct Neighbors {
  std::string name;
  int64_t slots, nodes;
  std::vector<int64_t> table;
};

// rows x columns nodes. Rectangular: 4 slots; hexagonal: 6, odd rows shifted right by half a column. On a periodic grid
// a neighbor that an earlier slot already names counts once.
inline Neighbors make_neighbors(int64_t rows, int64_t columns, bool hexagonal, bool periodic) {
  Neighbors neighbors;
  neighbors.name = std::to_string(rows) + "x" + std::to_string(columns) + (hexagonal ? " hexagonal" : " rectangular") +
                   (periodic ? " periodic" : "");
  neighbors.slots = hexagonal ? 6 : 4;
  neighbors.nodes = rows * columns;
  for (int64_t node = 0; node < neighbors.nodes; ++node) {
    const int64_t row = node / columns, column = node % columns;
    const int64_t left = row % 2 == 0 ? -1 : 0, right = left + 1;  // of the rows above and below, hexagonal
    std::vector<std::pair<int64_t, int64_t>> steps = {{1, 0}, {-1, 0}, {0, 1}, {0, -1}};
    if (hexagonal) steps = {{1, left}, {1, right}, {-1, left}, {-1, right}, {0, 1}, {0, -1}};
    std::vector<int64_t> listed;
    for (const auto& [down, along] : steps) {
      int64_t r = row + down, c = column + along;
      if (periodic) {
        r = (r + rows) % rows;
        c = (c + columns) % columns;
      }
      int64_t other = r < 0 || r >= rows || c < 0 || c >= columns ? -1 : r * columns + c;
      if (other == node || std::count(listed.begin(), listed.end(), other) > 0) other = -1;
      listed.push_back(other);
    }
    neighbors.table.insert(neighbors.table.end(), listed.begin(), listed.end());
  }
  return neighbors;
}

inline std::vector<Neighbors> grids(Size size) {
  std::vector<Neighbors> all = {make_neighbors(1, 1, false, false), make_neighbors(3, 4, false, false),
                                make_neighbors(3, 4, true, false)};
  if (size == Size::kSmall) return all;
  all.insert(all.end(),
             {make_neighbors(1, 2, false, true), make_neighbors(1, 5, false, false), make_neighbors(5, 13, false, true),
              make_neighbors(4, 5, true, true), make_neighbors(2, 2, true, true)});
  return all;
}

// Batches over those grids.
struct Batch {
  int64_t rows, dim;
};

inline std::vector<Batch> batches(Size size) {
  if (size == Size::kSmall) return {{0, 1}, {1, 1}, {9, 3}, {35, 17}};
  if (size == Size::kNormal) return {{0, 3}, {1, 1}, {2, 16}, {9, 2}, {65, 17}, {130, 33}, {13, 65}};
  std::vector<Batch> all;
  for (const int64_t rows : {0, 1, 2, 9, 64, 65, 130, 300}) {
    for (const int64_t dim : {1, 2, 3, 16, 17, 31, 32, 33, 64, 65, 130, 260}) all.push_back({rows, dim});
  }
  return all;
}

}  // namespace somvae::test
