// som_update: weighted sums of the rows of total, with full weights and along the axes of a grid, and the codes that
// follow from them.
#include "backend.h"
#include "harness.h"
#include "neighborhood/som_update.h"
#include "oracle.h"

using namespace somvae;
using namespace somvae::test;

namespace {

#if defined(SOMVAE_SIMT)

template <class T, class B>
void run(const SomUpdateArgs<T, B>& args) {
  som_update_cuda(args, nullptr);
}
// Processes the features in two shares; the scratch memory holds one.
template <class T, class B>
void run(const SomUpdateAxesArgs<T, B>& args) {
  const int64_t share = (args.dim + 1) / 2;
  std::vector<double> partial(args.axes.phases * args.axes.rows * args.axes.columns * share, NAN);
  for (int64_t first = 0; first < args.dim; first += share) {
    som_update_axes_cuda(args, partial.data(), first, std::min(share, args.dim - first), nullptr);
  }
}

#else

template <class T, class B>
void run(const SomUpdateArgs<T, B>& args) {
  constexpr int64_t targets = 32, features = kSomUpdatePanels * kSomUpdateFeatures;
  const int64_t items = (args.targets + targets - 1) / targets * ((args.dim + features - 1) / features);
  in_two_ranges(items, [&](int64_t a, int64_t b) { som_update_cpu(args, targets, a, b); });
}
template <class T, class B>
void run(const SomUpdateAxesArgs<T, B>& args) {
  constexpr int64_t features = 16;
  in_two_ranges((args.dim + features - 1) / features,
                [&](int64_t a, int64_t b) { som_update_axes_cpu(args, features, a, b); });
}

#endif

// Nonzero values are large enough that no quotient leaves the range of float16.
double away_from_zero(double value) { return 0.125 + std::fabs(value); }

// Positive weights, with zeros at the ends of rows and within them, and some rows of zeros.
std::vector<double> random_weights(Random& random, int64_t targets, int64_t sources) {
  auto weights = random_values<double>(random, targets * sources);
  for (int64_t t = 0; t < targets; ++t) {
    const int64_t first = random() % (sources + 1), last = first + random() % (sources + 1);
    for (int64_t s = 0; s < sources; ++s) {
      double& weight = weights[t * sources + s];
      weight = s < first || s >= last || random() % 4 == 0 ? 0 : away_from_zero(weight);
    }
  }
  return weights;
}

struct Counts {
  int64_t width;  // 1, or as many as there are features
  bool by_rate;
  bool in_place;  // overwrites the codes whose counts are above the first one
};
constexpr Counts kCounts[] = {{1, false, false}, {1, true, false}, {0, false, false},
                              {0, true, false},  {1, false, true}, {0, false, true}};

std::string describe(const Counts& counts) {
  return std::string(counts.by_rate ? ", by rate" : "") + (counts.width == 1 ? "" : ", counts of each feature") +
         (counts.in_place ? ", in place" : "");
}
constexpr double kRate = 0.03;

// Checks a problem with full weights [targets, sources]; `kernel` computes the new codes in one of the forms.
template <class T, class B, class Kernel>
void check(Report& report, Random& random, const std::vector<double>& weights, int64_t targets, int64_t sources,
           int64_t dim, Counts counts, bool spoiled, const std::string& what, Kernel kernel) {
  const int64_t width = counts.width == 1 ? 1 : dim;
  auto total = random_values<T>(random, sources * dim);
  if (spoiled) total[random() % total.size()] = NAN;
  auto count = random_values<double>(random, sources * width);
  for (double& n : count) n = random() % 3 == 0 ? 0 : away_from_zero(n);
  const auto codebook = random_values<B>(random, targets * dim);

  const auto weighted = [&](const auto& values, int64_t columns, int64_t target, int64_t column) {
    Sum sum;
    for (int64_t s = 0; s < sources; ++s) {
      const double weight = weights[target * sources + s];
      if (weight != 0) sum.add(Real(weight) * Real(values[s * columns + column]), 2 * unit_roundoff<double>());
    }
    return sum;
  };

  auto den = poisoned<double>(targets * width);
  kernel(count.data(), SomUpdateFinish<double>{nullptr, nullptr, den.data(), width, 1, false, 0}, width);
  for (int64_t i = 0; i < targets * width; ++i) {
    require_near(report, den[i], weighted(count, width, i / width, i % width), unit_roundoff<double>(), what + ", den");
  }

  auto out = counts.in_place ? codebook : poisoned<B>(targets * dim);
  const B* const codes = counts.in_place ? out.data() : codebook.data();
  const double* const threshold = counts.in_place ? den.data() : nullptr;
  kernel(total.data(), SomUpdateFinish<B>{codes, den.data(), out.data(), dim, width, counts.by_rate, kRate, threshold},
         dim);
  for (int64_t i = 0; i < targets * dim; ++i) {
    const Real n = den[i / dim * width + (width == 1 ? 0 : i % dim)], code = load(codebook[i]);
    const Sum num = weighted(total, dim, i / dim, i % dim);
    const Real error = num.error(unit_roundoff<double>()), u = unit_roundoff<double>();
    // A 16-bit value passes through float.
    const Real through_float = sizeof(B) == 2 ? unit_roundoff<float>() : 0;
    const std::string where = what + ", new code " + std::to_string(i);
    if (counts.by_rate) {
      const Real value = code + kRate * (num.value() - n * code);
      const Real terms = std::fabs(code) + kRate * (std::fabs(num.value()) + n * std::fabs(code));
      require_near(report, out[i], value, kRate * error + (4 * u + through_float) * terms, where);
    } else if (n > (counts.in_place ? Real(den[0]) : 0)) {
      require_near(report, out[i], num.value() / n, error / n + (u + through_float) * std::fabs(num.value() / n),
                   where);
    } else {
      require_near(report, out[i], code, 0, where);
    }
  }
}

template <class T, class B>
void check_full(Report& report, Random& random, const Shape& shape) {
  const auto [targets, sources, dim] = shape;
  const auto weights = random_weights(random, targets, sources);
  for (const Counts& counts : kCounts) {
    for (const bool spoiled : {false, true}) {
      const std::string what = describe(shape) + describe(counts) + (spoiled ? ", a NaN" : "");
      check<T, B>(report, random, weights, targets, sources, dim, counts, spoiled, what,
                  [&]<class V, class O>(const V* values, const SomUpdateFinish<O>& finish, int64_t width) {
                    run(SomUpdateArgs<V, O>{values, weights.data(), finish, targets, sources, width});
                  });
    }
  }
}

// A narrow neighborhood: nodes more than one step away have weight zero. Steps may wrap around a periodic grid.
std::vector<double> band(Random& random, int64_t targets, int64_t sources, bool periodic) {
  auto weights = random_weights(random, targets, sources);
  for (int64_t t = 0; t < targets; ++t) {
    for (int64_t s = 0; s < sources; ++s) {
      const int64_t distance = std::abs(t % sources - s);
      const bool near = distance <= 1 || (periodic && distance == sources - 1);
      weights[t * sources + s] = near ? 0.125 + weights[t * sources + s] : 0;
    }
  }
  return weights;
}

enum class Weights { kAny, kBand, kPeriodicBand };

struct Map {
  int64_t rows, columns, phases, dim;
  Weights weights = Weights::kAny;
};

template <class T, class B>
void check_axes(Report& report, Random& random, const Map& map) {
  const auto [rows, columns, phases, dim, kind] = map;
  const auto weights_of = [&](int64_t targets, int64_t sources) {
    return kind == Weights::kAny ? random_weights(random, targets, sources)
                                 : band(random, targets, sources, kind == Weights::kPeriodicBand);
  };
  const auto row_weights = weights_of(rows, rows), column_weights = weights_of(phases * phases * columns, columns);
  const int64_t nodes = rows * columns;
  std::vector<double> weights(nodes * nodes);
  for (int64_t m = 0; m < nodes; ++m) {
    for (int64_t k = 0; k < nodes; ++k) {
      const int64_t r = m / columns, s = k / columns, pair = s % phases * phases + r % phases;
      weights[m * nodes + k] =
          row_weights[r * rows + s] * column_weights[(pair * columns + m % columns) * columns + k % columns];
    }
  }
  const GridAxes axes{row_weights.data(), column_weights.data(), rows, columns, phases};
  for (const Counts& counts : kCounts) {
    for (const bool spoiled : {false, true}) {
      const std::string what = std::to_string(rows) + "x" + std::to_string(columns) + " map of " +
                               std::to_string(phases) + " phases, dim " + std::to_string(dim) + describe(counts) +
                               (spoiled ? ", a NaN" : "");
      check<T, B>(report, random, weights, nodes, nodes, dim, counts, spoiled, what,
                  [&]<class V, class O>(const V* values, const SomUpdateFinish<O>& finish, int64_t width) {
                    run(SomUpdateAxesArgs<V, O>{values, axes, finish, width});
                  });
    }
  }
}

std::vector<Map> maps(Size size) {
  std::vector<Map> all = {{1, 1, 1, 1}, {1, 5, 2, 3}, {5, 1, 1, 2}, {3, 4, 2, 17}};
  if (size == Size::kSmall) return all;
  all.insert(all.end(), {{9, 17, 1, 24}, {8, 8, 2, 25}, {17, 3, 2, 50}, {1, 70, 1, 7}, {66, 2, 2, 5}});
  all.insert(all.end(), {{120, 3, 1, 9}, {130, 2, 2, 26}});
  for (const Weights weights : {Weights::kBand, Weights::kPeriodicBand}) {
    all.insert(all.end(), {{30, 11, 1, 9, weights}, {23, 9, 2, 1, weights}, {40, 5, 2, 3, weights}});
  }
  if (size == Size::kNormal) return all;
  for (const int64_t rows : {2, 7, 20}) {
    for (const int64_t columns : {1, 16, 33}) {
      for (const int64_t dim : {1, 8, 23, 65}) all.push_back({rows, columns, 1 + rows % 2, dim});
    }
  }
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  const Size size = parse_size(argc, argv);
  Report report;
  Random random(7);
  for_each_dtype([&]<class B>() {
    report.group(kBackend + ", som_update, " + dtype_name<B>());
    for (const Shape& shape : shapes(size)) {
      if (shape.rows == 0) continue;
      check_full<float, B>(report, random, shape);
      check_full<double, B>(report, random, shape);
    }
    report.group(kBackend + ", som_update along the axes, " + dtype_name<B>());
    for (const Map& map : maps(size)) {
      check_axes<float, B>(report, random, map);
      check_axes<double, B>(report, random, map);
    }
  });
#if defined(SOMVAE_SIMT)
  report.group(kBackend + ", som_update on a small grid");
  simt::device().largest_grid = 1;
  check_full<float, float>(report, random, {70, 40, 70});
  check_axes<float, float>(report, random, {9, 17, 2, 24});
#endif
  return report.finish(launched());
}
