// Pruned search on the CPU: the same bits as the search over all codes, for any index whose bounds hold.
//
// The index is built here in extended precision, with looser bounds than those of somvae_ext/ops/_bmu_index.py: any
// orthonormal basis will do, and tiles are simply 16 consecutive codes.
#include <cmath>
#include <initializer_list>
#include <limits>

#include "bmu/pruned/map_index.h"
#include "bmu_search.h"
#include "harness.h"
#include "oracle.h"

using namespace somvae;
using namespace somvae::test;

namespace {

struct MapShape {
  int64_t rows, codes, dim, rank;
};

std::string describe(const MapShape& shape) {
  return somvae::test::describe(Shape{shape.rows, shape.codes, shape.dim}) + " rank " + std::to_string(shape.rank);
}

// Few codes, full and partial tiles and groups (256 codes), more groups than a panel holds (16) and than are compared
// one by one (64); ranks of one panel and more, up to the largest; more features than a block of the kernels (256).
std::vector<MapShape> map_shapes(Size size) {
  std::vector<MapShape> all = {{0, 5, 3, 3}, {1, 1, 1, 1}, {3, 2, 2, 2}, {19, 40, 5, 3}, {40, 600, 17, 16}};
  if (size == Size::kSmall) return all;
  all.insert(all.end(), {{1, 16, 4, 4},
                         {15, 17, 16, 16},
                         {16, 255, 1, 1},
                         {17, 256, 33, 17},
                         {130, 257, 18, 2},
                         {65, 700, 130, 32},
                         {31, 300, 300, 64},
                         {33, 4500, 9, 5},
                         {30, 17000, 3, 2}});
  if (size == Size::kNormal) return all;
  for (const int64_t rows : {1, 7, 64, 333}) {
    for (const int64_t codes : {2, 31, 65, 1000, 5000}) {
      for (const int64_t dim : {1, 16, 65, 257}) all.push_back({rows, codes, dim, std::min<int64_t>(dim, 24)});
    }
  }
  all.push_back({3000, 2000, 20, 16});  // more rows than a batch
  return all;
}

// The tensors of a MapIndex, each of exact size, so a sanitizer sees every access out of bounds.
template <class C>
struct BuiltIndex {
  std::vector<int32_t> tiles, tile_of;
  std::vector<C> packed, mean, basis, projections, tile_boxes, group_boxes, tile_centers, group_centers;
  double basis_error = 0, code_error = 0;
  int64_t codes, dim, rank, tile_count;

  MapIndex<C> view() const {
    return {tiles.data(),
            tile_of.data(),
            packed.data(),
            mean.data(),
            basis.data(),
            projections.data(),
            tile_boxes.data(),
            group_boxes.data(),
            tile_centers.data(),
            group_centers.data(),
            basis_error,
            code_error,
            double(std::numeric_limits<C>::max()) / 64,
            codes,
            dim,
            rank,
            tile_count};
  }
};

// The first columns of a random reflection, rounded to C: [dim, rank].
template <class C>
std::vector<C> reflection_columns(Random& random, int64_t dim, int64_t rank) {
  const auto normal = random_values<double>(random, dim);
  Real norm = 0;
  for (const double value : normal) norm += Real(value) * value;
  std::vector<C> columns(dim * rank);
  for (int64_t d = 0; d < dim; ++d) {
    for (int64_t j = 0; j < rank; ++j) {
      columns[d * rank + j] = static_cast<C>((d == j) - 2 * Real(normal[d]) * normal[j] / norm);
    }
  }
  return columns;
}

// Fills in the boxes and centers of `count` sets of codes, 16 sets per panel. box_of(set) returns lo and hi of q, then
// of each direction. Empty sets stay NaN.
template <class C, class BoxOf>
void fill_panels(int64_t count, int64_t rank, std::vector<C>* boxes, std::vector<C>* centers, BoxOf box_of) {
  const int64_t panels = panel_count(count), features = 2 + 2 * rank;
  boxes->assign(panels * features * kPanelCodes, C(NAN));
  centers->assign(panels * rank * kPanelCodes, C(NAN));
  for (int64_t set = 0; set < count; ++set) {
    const std::vector<C> box = box_of(set);
    if (!(box[0] <= box[1])) continue;
    const int64_t panel = set / kPanelCodes, lane = set % kPanelCodes;
    for (int64_t f = 0; f < features; ++f) (*boxes)[(panel * features + f) * kPanelCodes + lane] = box[f];
    for (int64_t j = 0; j < rank; ++j) {
      (*centers)[(panel * rank + j) * kPanelCodes + lane] = box[2 + 2 * j] / 2 + box[3 + 2 * j] / 2;
    }
  }
}

template <class T>
BuiltIndex<Compute<T>> build(Random& random, const std::vector<T>& codebook, const MapShape& shape) {
  using C = Compute<T>;
  const auto [rows, codes, dim, rank] = shape;
  const Real u = unit_roundoff<C>();
  BuiltIndex<C> index;
  index.codes = codes;
  index.dim = dim;
  index.rank = rank;
  const int64_t group_codes = kTileCodes * kGroupTiles, groups = (codes + group_codes - 1) / group_codes;
  index.tile_count = groups * kGroupTiles;
  index.tiles.assign(index.tile_count * kTileCodes, -1);
  for (int64_t code = 0; code < codes; ++code) {
    index.tiles[code] = int32_t(code);
    index.tile_of.push_back(int32_t(code / kTileCodes));
  }

  for (int64_t d = 0; d < dim; ++d) {
    Real sum = 0;
    for (int64_t code = 0; code < codes; ++code) sum += load(codebook[code * dim + d]);
    index.mean.push_back(static_cast<C>(sum / codes));
  }
  const std::vector<C> columns = reflection_columns<C>(random, dim, rank);
  Real defect = 0;
  for (int64_t i = 0; i < rank; ++i) {
    for (int64_t j = 0; j < rank; ++j) {
      Real product = -Real(i == j);
      for (int64_t d = 0; d < dim; ++d) product += Real(columns[d * rank + i]) * columns[d * rank + j];
      defect += product * product;
    }
  }
  index.basis_error = double(std::sqrt(defect)) * (1 + 1e-6) + 1e-17;
  index.basis.assign(panel_count(rank) * kPanelCodes * dim, C(0));
  for (int64_t j = 0; j < rank; ++j) {
    for (int64_t d = 0; d < dim; ++d) {
      index.basis[(j / kPanelCodes * dim + d) * kPanelCodes + j % kPanelCodes] = columns[d * rank + j];
    }
  }

  const int64_t features = 2 + rank;
  index.packed.assign(index.tile_count * dim * kTileCodes, C(NAN));
  index.projections.assign(index.tile_count * features * kTileCodes, C(NAN));
  std::vector<Real> y(dim), p(rank);
  for (int64_t code = 0; code < codes; ++code) {
    const int64_t tile = code / kTileCodes, lane = code % kTileCodes;
    C* const projection = index.projections.data() + tile * features * kTileCodes + lane;
    Real norm = 0, rest = 0, rounded = 0;
    for (int64_t d = 0; d < dim; ++d) {
      const C feature = load(codebook[code * dim + d]);
      index.packed[(tile * dim + d) * kTileCodes + lane] = feature;
      y[d] = Real(feature) - Real(index.mean[d]);
      norm += y[d] * y[d];
    }
    for (int64_t j = 0; j < rank; ++j) {
      p[j] = 0;
      for (int64_t d = 0; d < dim; ++d) p[j] += columns[d * rank + j] * y[d];
      const C stored = static_cast<C>(p[j]);
      projection[(2 + j) * kTileCodes] = stored;
      rounded += (p[j] - stored) * (p[j] - stored);
    }
    for (int64_t d = 0; d < dim; ++d) {
      for (int64_t j = 0; j < rank; ++j) y[d] -= columns[d * rank + j] * p[j];
      rest += y[d] * y[d];
    }
    const Real own_error = 4 * u * std::sqrt(norm);  // much more than the error of extended precision
    projection[0] = static_cast<C>(std::max(Real(0), std::sqrt(rest) - own_error) * (1 - 2 * u));
    projection[kTileCodes] = static_cast<C>((std::sqrt(rest) + own_error) * (1 + 2 * u));
    index.code_error = std::max(index.code_error, double(std::sqrt(rounded) + own_error));
  }

  const auto box_of_codes = [&](int64_t first, int64_t last) {
    constexpr C infinite = std::numeric_limits<C>::infinity();
    std::vector<C> box(2 + 2 * rank);
    for (int64_t f = 0; f <= rank; ++f) {
      C lo = infinite, hi = -infinite;
      for (int64_t code = first; code < std::min(last, codes); ++code) {
        const C* const values =
            index.projections.data() + code / kTileCodes * features * kTileCodes + code % kTileCodes;
        lo = std::min(lo, values[(f == 0 ? 0 : f + 1) * kTileCodes]);
        hi = std::max(hi, values[(f + 1) * kTileCodes]);
      }
      box[2 * f] = lo;
      box[2 * f + 1] = hi;
    }
    return box;
  };
  fill_panels(index.tile_count, rank, &index.tile_boxes, &index.tile_centers,
              [&](int64_t tile) { return box_of_codes(tile * kTileCodes, (tile + 1) * kTileCodes); });
  fill_panels(groups, rank, &index.group_boxes, &index.group_centers,
              [&](int64_t group) { return box_of_codes(group * group_codes, (group + 1) * group_codes); });
  return index;
}

template <class T>
struct Problem {
  MapShape shape;
  std::vector<T> z, codebook;
};

// Codes along a curve, so that consecutive codes are close, and rows near some of them.
template <class T>
Problem<T> smooth_problem(Random& random, const MapShape& shape, double scale = 1, double offset = 0) {
  const auto [rows, codes, dim, rank] = shape;
  Problem<T> problem = {shape, std::vector<T>(rows * dim), std::vector<T>(codes * dim)};
  const auto pace = random_values<double>(random, dim), phase = random_values<double>(random, dim);
  const auto noise = random_values<double>(random, rows * dim, 0.05);
  const auto near = random_index(random, rows, codes);
  const auto curve = [&](int64_t code, int64_t d) {
    return std::sin(phase[d] + 4 * pace[d] * double(code) / double(codes));
  };
  for (int64_t i = 0; i < codes * dim; ++i) {
    problem.codebook[i] = store<T>(scale * curve(i / dim, i % dim) + offset);
  }
  for (int64_t i = 0; i < rows * dim; ++i) {
    problem.z[i] = store<T>(scale * (curve(near[i / dim], i % dim) + noise[i]) + offset);
  }
  return problem;
}

template <class T>
Problem<T> random_problem(Random& random, const MapShape& shape) {
  return {shape, random_values<T>(random, shape.rows * shape.dim), random_values<T>(random, shape.codes * shape.dim)};
}

// Returns the multiply-adds that a search without a hint spends on scores, as a share of those for all codes.
template <class T>
double check(Report& report, Random& random, const Problem<T>& problem, int k, const std::string& what) {
  using C = Compute<T>;
  const auto [rows, codes, dim, rank] = problem.shape;
  auto distance = poisoned<C>(rows * k);
  auto winner = poisoned<int64_t>(rows * k);
  run(BmuArgs<T>{problem.z.data(), problem.codebook.data(), distance.data(), winner.data(), rows, codes, dim, k});

  const BuiltIndex<C> index = build(random, problem.codebook, problem.shape);
  std::vector<int64_t> right(rows);
  for (int64_t row = 0; row < rows; ++row) right[row] = winner[row * k];
  const auto wrong = random_index(random, rows, codes);
  SearchWork work;
  for (const int64_t* hint : std::initializer_list<const int64_t*>{wrong.data(), right.data(), nullptr}) {
    auto found_distance = poisoned<C>(rows * k);
    auto found = poisoned<int64_t>(rows * k);
    const PrunedSearchArgs<T> args = {
        index.view(), problem.codebook.data(), problem.z.data(), hint, found_distance.data(), found.data(), rows, k, 2};
    work = {};
    in_two_ranges(rows,
                  [&](int64_t first, int64_t last) { work.scored += pruned_search_cpu(args, first, last).scored; });
    for (int64_t i = 0; i < rows * k; ++i) {
      const bool same = found[i] == winner[i] && memcmp(&found_distance[i], &distance[i], sizeof(C)) == 0;
      const bool no_winner = found[i] == winner[i] && std::isnan(found_distance[i]) && std::isnan(distance[i]);
      report.require(same || no_winner, what +
                                            (hint == nullptr        ? ""
                                             : hint == right.data() ? ", right hint"
                                                                    : ", wrong hint") +
                                            ", row " + std::to_string(i / k) + ", winner " + std::to_string(i % k) +
                                            ": code " + std::to_string(found[i]) + " at " +
                                            std::to_string(found_distance[i]) + ", not " + std::to_string(winner[i]) +
                                            " at " + std::to_string(distance[i]));
    }
  }
  return double(work.scored) / (double(rows) * double(codes) * double(dim));
}

// Data on which a careless search fails.
template <class T>
void check_special_data(Report& report, Random& random, const MapShape& shape, int k) {
  using C = Compute<T>;
  const auto [rows, codes, dim, rank] = shape;
  Problem<T> ties = random_problem<T>(random, shape);
  for (std::vector<T>* values : {&ties.z, &ties.codebook}) {
    for (T& value : *values) value = store<T>(static_cast<double>(random() % 2));
  }
  check(report, random, ties, k, "codes of zeros and ones, with many ties");

  Problem<T> equal = smooth_problem<T>(random, shape);
  for (int64_t i = 0; i < codes * dim; ++i) equal.codebook[i] = equal.codebook[i % dim];
  check(report, random, equal, k, "all codes equal");

  Problem<T> thrice = smooth_problem<T>(random, shape);
  for (int64_t i = 0; i < codes * dim; ++i) thrice.codebook[i] = thrice.codebook[i % ((codes / 3 + 1) * dim)];
  check(report, random, thrice, k, "every code thrice");

  // A sphere of codes around each row, whose radii differ by a few units in the last place.
  Problem<T> sphere = random_problem<T>(random, shape);
  const double ulp = double(2 * unit_roundoff<T>());
  const auto radius = random_values<double>(random, codes, 4 * ulp);
  for (int64_t code = 0; code < codes; ++code) {
    double norm = 0;
    for (int64_t d = 0; d < dim; ++d) norm += std::pow(load(sphere.codebook[code * dim + d]), 2);
    for (int64_t d = 0; d < dim; ++d) {
      T& value = sphere.codebook[code * dim + d];
      value = store<T>(0.3 + (1 + radius[code]) * load(value) / std::sqrt(norm));
    }
  }
  for (T& value : sphere.z) value = store<T>(0.3 + 4 * ulp * load(value));
  check(report, random, sphere, k, "codes at nearly the same distance");

  Problem<T> coincident = smooth_problem<T>(random, shape);
  for (int64_t i = 0; i < rows * dim; ++i) coincident.z[i] = coincident.codebook[i % (codes * dim)];
  check(report, random, coincident, k, "rows equal to codes");

  check(report, random, smooth_problem<T>(random, shape, 1, 1e4), k, "data and codes near 10000");
  Problem<T> dwarfed = smooth_problem<T>(random, shape);
  for (int64_t i = 0; i < codes * dim; i += dim) dwarfed.codebook[i] = store<T>(0);
  for (int64_t i = 0; i < rows * dim; i += dim) dwarfed.z[i] = store<T>(3e4);
  check(report, random, dwarfed, k, "a feature that dwarfs the others");
  for (const double scale : {1e-25, 1e-20, 1e15}) {
    if (std::is_same_v<T, Float16> && scale > 1) continue;  // infinite codes are not pruned
    check(report, random, smooth_problem<T>(random, shape, scale), k, "data of size " + std::to_string(scale));
  }

  Problem<T> bad = smooth_problem<T>(random, shape);
  const double values[] = {NAN, INFINITY, -INFINITY, 1e30, std::sqrt(double(std::numeric_limits<C>::max()))};
  for (int64_t row = 0; row < rows; row += 3) bad.z[row * dim + row % dim] = store<T>(values[row / 3 % 5]);
  check(report, random, bad, k, "rows that are not finite or very large");
}

}  // namespace

int main(int argc, char** argv) {
  const Size size = parse_size(argc, argv);
  Report report;
  Random random(1);
  for_each_dtype([&]<class T>() {
    for (const int k : {1, 2}) {
      const std::string name = "cpu, pruned search, " + std::string(dtype_name<T>()) + ", k = " + std::to_string(k);
      report.group(name + ", smooth and random maps");
      for (const MapShape& shape : map_shapes(size)) {
        if (shape.codes < k) continue;
        check(report, random, smooth_problem<T>(random, shape), k, "smooth, " + describe(shape));
        check(report, random, random_problem<T>(random, shape), k, "random, " + describe(shape));
      }
      report.group(name + ", special data");
      check_special_data<T>(report, random, {17, 40, 3, 3}, k);
      if (size != Size::kSmall) check_special_data<T>(report, random, {70, 530, 20, 7}, k);

      report.group(name + ", pruning");
      const double share = check(report, random, smooth_problem<T>(random, {50, 2000, 20, 16}), k, "a smooth map");
      report.require(share < 0.3, std::to_string(share) + " of all codes of a smooth map are scored");
    }
  });
  return report.finish();
}
