// bmu: scores are defined operation by operation, so winners and distances must be right to the last bit with every
// kernel.
#include <cmath>

#include "bmu/bmu_policy.h"
#include "bmu/half_scale.h"
#include "bmu_search.h"
#include "harness.h"
#include "oracle.h"

#if defined(SOMVAE_SIMT)
#include "bmu/tile_ranges.cuh"
#endif

using namespace somvae;
using namespace somvae::test;

namespace {

// Besides the shapes for all ops: more than two tiles of 128 codes, two tiles of rows, MNIST's width, and more features
// than stay in shared memory while several tiles of codes pass by. Only an evenly spread quarter of the full sweep,
// because emulated tensor cores are slow.
std::vector<Shape> search_shapes(Size size) {
  if (size == Size::kSmall) {
    std::vector<Shape> few = shapes(size);
    few.push_back({2, 520, 2});
    return few;
  }
  std::vector<Shape> all = shapes(Size::kNormal);
  if (size == Size::kFull) {
    const std::vector<Shape> many = shapes(size);
    for (size_t i = 0; i < many.size(); i += 4) all.push_back(many[i]);
  }
  all.insert(all.end(), {{3, 700, 3}, {70, 520, 20}, {130, 1100, 4}, {2, 5, 784}, {20, 200, 300}});
  return all;
}

template <class T>
struct Problem {
  Shape shape;
  std::vector<T> z, codebook;
};

template <class T>
Problem<T> random_problem(Random& random, const Shape& shape) {
  return {shape, random_values<T>(random, shape.rows * shape.dim), random_values<T>(random, shape.codes * shape.dim)};
}

// The score as bmu.h defines it.
template <class T>
double promised_score(const T* z, const T* code, int64_t dim) {
  double score = 0;
  for (int64_t d = 0; d < dim; ++d) {
    const double difference = double(load(z[d])) - double(load(code[d]));
    score = score + difference * difference;
  }
  return score;
}

// The true distance. Besides the additions, each term has two roundings in the kernel: of the difference, and of its
// square.
template <class T>
Sum true_distance(const T* z, const T* code, int64_t dim) {
  const Real u = unit_roundoff<Compute<T>>();
  Sum sum;
  for (int64_t d = 0; d < dim; ++d) {
    const Real difference = Real(load(z[d])) - Real(load(code[d]));
    sum.add(difference * difference, 3 * u);
  }
  return sum;
}

template <class T>
void check_forward(Report& report, const Problem<T>& problem, int k, const std::string& what) {
  using C = Compute<T>;
  const auto [rows, codes, dim] = problem.shape;
  std::vector<C> distance;
  std::vector<int64_t> index;
  for (SearchWay way : search_ways()) {
    auto found_distance = poisoned<C>(rows * k);
    auto found_index = poisoned<int64_t>(rows * k);
    run(BmuArgs<T>{problem.z.data(), problem.codebook.data(), found_distance.data(), found_index.data(), rows, codes,
                   dim, k},
        way);
    if (distance.empty()) {
      distance = found_distance;
      index = found_index;
    }
    for (int64_t i = 0; i < rows * k; ++i) {
      const bool same = found_index[i] == index[i] && (found_distance[i] == distance[i] ||
                                                       (std::isnan(found_distance[i]) && std::isnan(distance[i])));
      report.require(same, what + ", row " + std::to_string(i / k) + ", winner " + std::to_string(i % k) + ": " +
                               way.name + " has code " + std::to_string(found_index[i]) + " at " +
                               std::to_string(found_distance[i]) + ", not " + std::to_string(index[i]) + " at " +
                               std::to_string(distance[i]));
    }
  }

  for (int64_t row = 0; row < rows; ++row) {
    const T* z = problem.z.data() + row * dim;
    std::vector<std::pair<double, int64_t>> scores;
    Real least = INFINITY;
    for (int64_t code = 0; code < codes; ++code) {
      const T* features = problem.codebook.data() + code * dim;
      const double score = promised_score(z, features, dim);
      if (std::isnan(score)) continue;
      scores.emplace_back(score, code);
      least = std::min(least, true_distance(z, features, dim).value());
    }
    std::sort(scores.begin(), scores.end());
    for (int n = 0; n < k; ++n) {
      const std::string where = what + ", row " + std::to_string(row) + ", winner " + std::to_string(n);
      const C got = distance[row * k + n];
      const int64_t winner = index[row * k + n];
      if (n >= static_cast<int>(scores.size())) {
        report.require(std::isnan(got) && winner == 0, where + ": expected distance NaN and index 0");
        continue;
      }
      report.require(winner == scores[n].second,
                     where + ": got code " + std::to_string(winner) + ", expected " + std::to_string(scores[n].second));
      const C expected = static_cast<C>(scores[n].first);
      report.require(got == expected,
                     where + ": got distance " + std::to_string(got) + ", expected " + std::to_string(expected));
      if (n > 0 || winner < 0 || winner >= codes || !std::isfinite(got)) continue;
      const Sum sum = true_distance(z, problem.codebook.data() + winner * dim, dim);
      const Real error = sum.error(unit_roundoff<C>());
      require_near(report, got, sum.value(), error, where + ", distance");
      report.require(sum.value() <= least + 2.02L * error, where + ": is not nearest within the bound");
    }
  }
}

template <class T>
void check_backward(Report& report, Random& random, const Problem<T>& problem, int k, const std::string& what) {
  using C = Compute<T>;
  const auto [rows, codes, dim] = problem.shape;
  const int64_t pairs = rows * k;
  const auto grad = random_values<C>(random, pairs);
  const auto index = random_index(random, pairs, codes);
  const Groups groups = group_by(index, codes);
  auto grad_z = poisoned<T>(rows * dim), grad_codebook = poisoned<T>(codes * dim);
  auto only_z = grad_z, only_codebook = grad_codebook;
  BmuBackwardArgs<T> args = {grad.data(),
                             problem.z.data(),
                             problem.codebook.data(),
                             index.data(),
                             groups.order.data(),
                             groups.offsets.data(),
                             grad_z.data(),
                             grad_codebook.data(),
                             rows,
                             codes,
                             dim,
                             k};
  run(args);
  args.grad_z = only_z.data();
  args.grad_codebook = nullptr;
  run(args);
  args.grad_z = nullptr;
  args.grad_codebook = only_codebook.data();
  run(args);

  const Real u = unit_roundoff<C>();
  std::vector<Sum> want_z(rows * dim), want_codebook(codes * dim);
  for (int64_t pair = 0; pair < pairs; ++pair) {
    for (int64_t d = 0; d < dim; ++d) {
      const int64_t at_z = pair / k * dim + d, at_code = index[pair] * dim + d;
      const Real term = 2 * Real(grad[pair]) * (Real(load(problem.z[at_z])) - Real(load(problem.codebook[at_code])));
      want_z[at_z].add(term, 2 * u);  // rounding of the difference and the product
      want_codebook[at_code].add(-term, 2 * u);
    }
  }
  for (size_t i = 0; i < want_z.size(); ++i) {
    require_near(report, grad_z[i], want_z[i], u, what + ", grad_z[" + std::to_string(i) + "]");
    report.require(load(only_z[i]) == load(grad_z[i]), what + ", grad_z alone differs from grad_z with grad_codebook");
  }
  for (size_t i = 0; i < want_codebook.size(); ++i) {
    require_near(report, grad_codebook[i], want_codebook[i], u, what + ", grad_codebook[" + std::to_string(i) + "]");
    report.require(load(only_codebook[i]) == load(grad_codebook[i]),
                   what + ", grad_codebook alone differs from grad_codebook with grad_z");
  }
}

// Data on which a careless search fails.
template <class T>
void check_special_data(Report& report, Random& random, const Shape& shape, int k) {
  const auto [rows, codes, dim] = shape;
  Problem<T> ties = random_problem<T>(random, shape);
  for (std::vector<T>* values : {&ties.z, &ties.codebook}) {
    for (T& value : *values) value = store<T>(static_cast<double>(random() % 2));
  }
  check_forward(report, ties, k, "codes of zeros and ones, with many ties");

  Problem<T> equal = random_problem<T>(random, shape);
  for (int64_t i = 0; i < codes * dim; ++i) equal.codebook[i] = equal.codebook[i % dim];
  check_forward(report, equal, k, "all codes equal");

  for (const double difference : {1e-7, 1e-6, 1e-5, 1e-4}) {  // near the resolution of rounding, and above it
    Problem<T> near = random_problem<T>(random, shape);
    const auto noise = random_values<double>(random, codes * dim, difference);
    for (int64_t i = 0; i < codes * dim; ++i) near.codebook[i] = store<T>(load(near.codebook[i % dim]) + noise[i]);
    check_forward(report, near, k, "codes that differ by " + std::to_string(difference));
  }

  for (const double difference : {1e-4, 1e-2}) {  // small beside the distance between the clusters
    Problem<T> clusters = random_problem<T>(random, shape);
    for (auto [values, count] : {std::pair{&clusters.z, rows}, std::pair{&clusters.codebook, codes}}) {
      const auto noise = random_values<double>(random, count * dim, difference);
      for (int64_t i = 0; i < count * dim; ++i) (*values)[i] = store<T>((i / dim % 2 ? 30 : -30) + noise[i]);
    }
    check_forward(report, clusters, k, "two clusters of size " + std::to_string(difference));
  }

  Problem<T> offset = random_problem<T>(random, shape);
  for (std::vector<T>* values : {&offset.z, &offset.codebook}) {
    for (T& value : *values) value = store<T>(load(value) + 1e4);
  }
  check_forward(report, offset, k, "data and codes near 10000");

  Problem<T> dwarfed = random_problem<T>(random, shape);
  for (int64_t i = dim - 1; i < codes * dim; i += dim) dwarfed.codebook[i] = store<T>(0);
  for (int64_t i = dim - 1; i < rows * dim; i += dim) dwarfed.z[i] = store<T>(3e4);
  check_forward(report, dwarfed, k, "a feature that dwarfs the others");

  Problem<T> outlier = random_problem<T>(random, shape);  // in the first code, which contributes to the center
  for (int64_t d = 0; d < dim; ++d) outlier.codebook[d] = store<T>(std::is_same_v<T, Float16> ? 6e4 : 1e6);
  check_forward(report, outlier, k, "a code far out");
  if constexpr (!std::is_same_v<T, Float16>) {
    for (int64_t i = 0; i < codes * dim; i += 3) outlier.codebook[i] = store<T>(i % 2 ? 3e38 : -3e38);
    check_forward(report, outlier, k, "features next to the largest number");
    Problem<T> mixed = random_problem<T>(random, shape);
    std::uniform_int_distribution<int> exponent(-140, 60);
    for (std::vector<T>* values : {&mixed.z, &mixed.codebook}) {
      for (T& value : *values) value = store<T>(std::ldexp(load(value), exponent(random)));
    }
    check_forward(report, mixed, k, "features of all sizes");
  }

  // Squares near the smallest float, near the largest, and beyond; magnitudes that the scale of halves cannot reach.
  for (const double scale : {1e-30, 1e-24, 1e-18, 1e-15, 1e18, 1e19}) {
    Problem<T> scaled = {shape, random_values<T>(random, rows * dim, scale),
                         random_values<T>(random, codes * dim, scale)};
    check_forward(report, scaled, k, "data of size " + std::to_string(scale));
  }

  for (const double special : {double(NAN), double(INFINITY), -double(INFINITY)}) {
    const std::string name = std::to_string(special);
    Problem<T> bad_row = random_problem<T>(random, shape);
    bad_row.z[(rows - 1) * dim + dim - 1] = store<T>(special);
    check_forward(report, bad_row, k, name + " in the last row");

    Problem<T> bad_code = random_problem<T>(random, shape);
    bad_code.codebook[0] = store<T>(special);
    check_forward(report, bad_code, k, name + " in code 0");

    Problem<T> bad_codes = random_problem<T>(random, shape);
    for (int64_t code = 0; code < codes; ++code) bad_codes.codebook[code * dim] = store<T>(special);
    check_forward(report, bad_codes, k, name + " in every code");

    for (int64_t d = 0; d < dim; ++d) bad_codes.codebook[(codes - 1) * dim + d] = store<T>(0.5);
    check_forward(report, bad_codes, k, name + " in every code but the last");
  }
}

// Matrices whose rows cannot be copied in large pieces for one reason alone: they are not aligned.
template <class T>
void check_odd_addresses(Report& report, Random& random, int k) {
  const Shape shape = {5, 9, 32};
  const auto [rows, codes, dim] = shape;
  const Problem<T> problem = random_problem<T>(random, shape);
  std::vector<T> z(rows * dim + 1), codebook(codes * dim + 1);
  std::copy(problem.z.begin(), problem.z.end(), z.begin() + 1);
  std::copy(problem.codebook.begin(), problem.codebook.end(), codebook.begin() + 1);
  for (SearchWay way : search_ways()) {
    std::vector<Compute<T>> distance(rows * k), moved_distance(rows * k);
    std::vector<int64_t> index(rows * k), moved_index(rows * k);
    run(BmuArgs<T>{problem.z.data(), problem.codebook.data(), distance.data(), index.data(), rows, codes, dim, k}, way);
    const T* const moved[][2] = {{z.data() + 1, codebook.data() + 1},
                                 {z.data() + 1, problem.codebook.data()},
                                 {problem.z.data(), codebook.data() + 1}};
    for (const auto& [some_z, some_codebook] : moved) {
      run(BmuArgs<T>{some_z, some_codebook, moved_distance.data(), moved_index.data(), rows, codes, dim, k}, way);
      report.require(distance == moved_distance && index == moved_index, way.name);
    }
  }
}

#if defined(SOMVAE_SIMT)

// The work left after the first pass: little for ordinary data, all of it for equal codes.
template <class T>
void check_what_is_scored_again(Report& report, Random& random, int k) {
  const Shape shape = {130, 300, 40};
  const auto [rows, codes, dim] = shape;
  const auto search = [&](const Problem<T>& problem, const char* kernel) {
    SearchWay way = {kernel, kernel, 4, 65536};
    std::vector<Compute<T>> distance(rows * k);
    std::vector<int64_t> index(rows * k);
    run(BmuArgs<T>{problem.z.data(), problem.codebook.data(), distance.data(), index.data(), rows, codes, dim, k}, way);
    return way;
  };
  const auto require_at_most = [&](const Problem<T>& problem, const char* kernel, double tiles,
                                   const std::string& what) {
    const SearchWay way = search(problem, kernel);
    report.require(way.rescored <= tiles * kRescoredCodes * rows && way.dense == 0,
                   what + ", " + kernel + ": " + std::to_string(way.rescored) + " pairs were scored again, and " +
                       std::to_string(way.dense) + " rows in float64");
  };
  Problem<T> problem = random_problem<T>(random, shape);
  const double tiles = k == 1 ? 1.05 : 2.3;  // the best two are mostly in two tiles
  require_at_most(problem, "tensor_core", tiles, "ordinary data");
  require_at_most(problem, "ffma", 0.1, "ordinary data");
  problem.codebook[7] = store<T>(NAN);
  require_at_most(problem, "tensor_core", tiles, "a NaN in a code");
  require_at_most(problem, "ffma", 0.1, "a NaN in a code");

  problem = random_problem<T>(random, shape);
  for (int64_t i = 0; i < codes * dim; ++i) problem.codebook[i] = problem.codebook[i % (codes / 3 * dim)];
  require_at_most(problem, "tensor_core", 5, "every code thrice");
  // Three codes of a row can win, in two or three tiles of 128.
  const int64_t rescored = search(problem, "ffma").rescored;
  report.require(rescored >= rows * 2 * kRescoredCodes && search(problem, "ffma").dense == 0,
                 "every code thrice: no row is certain, " + std::to_string(rescored) + " pairs");

  for (int64_t i = 0; i < codes * dim; ++i) problem.codebook[i] = problem.codebook[i % dim];
  for (const char* kernel : {"tensor_core", "ffma"}) {
    report.require(search(problem, kernel).dense == rows, "all codes equal: every code can win");
  }

  problem = random_problem<T>(random, shape);
  for (int64_t row = 0; row < rows; row += 2) problem.z[row * dim] = store<T>(NAN);
  require_at_most(problem, "tensor_core", tiles / 2, "a NaN in every other row");
  require_at_most(problem, "ffma", 0.1, "a NaN in every other row");

  problem = random_problem<T>(random, shape);
  for (int64_t d = 0; d < dim; ++d) problem.codebook[d] = store<T>(6e4);
  require_at_most(problem, "tensor_core", tiles + 1, "a code far out");

  if constexpr (std::is_same_v<T, float>) {
    for (int64_t d = 0; d < dim; ++d) problem.codebook[d] = store<T>(1e30);
    require_at_most(problem, "tensor_core", tiles + 1, "a code very far out");

    problem = random_problem<T>(random, shape);
    for (std::vector<T>* values : {&problem.z, &problem.codebook}) {
      for (T& value : *values) value += 1e4f;
    }
    require_at_most(problem, "tensor_core", tiles, "data near 10000");
    require_at_most(problem, "ffma", 0.1, "data near 10000");
  }
}

// A map: neighbors are close to each other, so many codes are nearly as good as the best. The codes lie on a curved
// surface in D features, and the rows near it.
template <class T>
void check_what_is_scored_again_on_a_map(Report& report, Random& random) {
  constexpr int64_t side = 32, rows = 100, dim = 20, codes = side * side;
  std::vector<double> frequency(2 * dim);
  for (double& f : frequency) f = std::normal_distribution<double>(0, 2)(random);
  const auto point = [&](double x, double y, int64_t d) {
    return std::sin(frequency[2 * d] * x + frequency[2 * d + 1] * y);
  };
  std::vector<T> codebook(codes * dim), z = random_values<T>(random, rows * dim, 0.3);
  for (int64_t code = 0; code < codes; ++code) {
    for (int64_t d = 0; d < dim; ++d) {
      codebook[code * dim + d] = store<T>(point(double(code / side) / side, double(code % side) / side, d));
    }
  }
  std::uniform_real_distribution<double> uniform;
  for (int64_t row = 0; row < rows; ++row) {
    const double x = uniform(random), y = uniform(random);
    for (int64_t d = 0; d < dim; ++d) z[row * dim + d] = store<T>(load(z[row * dim + d]) + point(x, y, d));
  }
  for (const int k : {1, 2}) {
    std::vector<Compute<T>> distance(rows * k);
    std::vector<int64_t> index(rows * k);
    for (const auto& [kernel, most] : {std::pair{"tensor_core", k == 1 ? 1.5 : 3.0}, std::pair{"ffma", 0.5}}) {
      SearchWay way = {kernel, kernel, 4, 65536};
      run(BmuArgs<T>{z.data(), codebook.data(), distance.data(), index.data(), rows, codes, dim, k}, way);
      const double tiles = double(way.rescored) / kRescoredCodes / rows;
      report.require(tiles <= most && way.dense == 0, std::string(kernel) + ", k = " + std::to_string(k) + ": " +
                                                          std::to_string(tiles) + " tiles a row were scored again");
    }
  }
}

#endif

#if defined(SOMVAE_SIMT)

void check_tile_ranges(Report& report) {
  report.group("bmu, tiles for blocks");
  for (const int64_t row_tiles : {1, 2, 7, 133, 1000}) {
    for (const int64_t code_tiles : {1, 3, 512}) {
      for (const int64_t blocks : {1, 2, 132, 396}) {
        const TileRanges ranges = {row_tiles, code_tiles, blocks};
        const int64_t tiles = row_tiles * code_tiles;
        report.require(ranges.begin(0) == 0 && ranges.begin(blocks) == tiles, "every tile has a block");
        for (int64_t block = 0; block < blocks; ++block) {
          const int64_t share = ranges.begin(block + 1) - ranges.begin(block);
          report.require(share == tiles / blocks || share == (tiles + blocks - 1) / blocks, "blocks have equal shares");
        }
        for (int64_t tile = 0; tile < tiles; tile += 1 + tiles / 50) {
          const int64_t block = ranges.block_of(tile);
          report.require(ranges.begin(block) <= tile && tile < ranges.begin(block + 1), "block_of finds the block");
        }
      }
    }
  }
}

// The launches that bmu_cuda.cu lists.
template <class T>
void check_launches(Report& report, Random& random) {
  const Shape shape = {100, 30, 20};
  const Problem<T> problem = random_problem<T>(random, shape);
  const auto [rows, codes, dim] = shape;
  std::vector<Compute<T>> distance(rows);
  std::vector<int64_t> index(rows);
  for (const std::string kernel : {"exact", "ffma", "tensor_core"}) {
    for (const int64_t block_rows : {100, 30}) {
      SearchWay way = {"", kernel.c_str(), 4, 65536, block_rows};
      const int64_t before = simt::launch_count(), blocks = (rows + block_rows - 1) / block_rows;
      run(BmuArgs<T>{problem.z.data(), problem.codebook.data(), distance.data(), index.data(), rows, codes, dim, 1},
          way);
      const int64_t once = std::is_same_v<T, float> ? 4 : 3;
      const bool exact = std::is_same_v<T, double> || kernel == "exact";
      const int64_t expected = exact ? 3 : kernel == "tensor_core" ? once + 8 * blocks : 1 + 7 * blocks;
      report.require(simt::launch_count() - before == expected,
                     std::to_string(simt::launch_count() - before) + " launches, not " + std::to_string(expected));
    }
  }
}

#endif

void check_scales_of_halves(Report& report) {
  report.group("bmu, scales of halves");
  for (const float largest : {0.0f, 0x1p-149f, 0x1p-126f, 0x1.8p-49f, 0x1p-48f, 1e-6f, 1.0f, 0x1.fffffep14f, 65504.0f,
                              0x1p64f, 0x1.fffffep127f}) {
    const float scale = half_scale(largest);
    const std::string where = std::to_string(largest);
    report.require(scale * reciprocal_of_power(scale) == 1, where + ": the scale times its reciprocal must be 1");
    report.require(largest * scale < 0x1p15f, where + " must be in the range of float16");
    report.require(largest * scale >= 0x1p14f || scale == 0x1p62f, where + " must be scaled up as far as possible");
  }
  for (const float scale : {half_scale(INFINITY), half_scale(NAN)}) report.require(scale == 1, "not finite");
  const float least = reciprocal_of_power(half_scale(0)) * reciprocal_of_power(half_scale(0));
  report.require(least >= 0x1p-126f, "the product of two reciprocals must be a normal number");
}

void check_policy(Report& report) {
  report.group("bmu, the choice of the CUDA kernel");
  const auto chosen = [](int64_t rows, int64_t codes, int64_t dim, BmuDtype dtype, int capability,
                         const char* requested = nullptr) {
    return choose_bmu_kernel({rows, codes, dim, dtype, 1}, {132, capability, 100 << 10}, requested);
  };
  const BmuKernel exact = BmuKernel::exact, ffma = BmuKernel::ffma, tensor_core = BmuKernel::tensor_core;
  for (const int capability : {75, 80, 86, 89, 90, 100, 103, 120}) {
    const std::string where = ", capability " + std::to_string(capability);
    const bool data_center = capability == 80 || capability == 90 || capability == 100 || capability == 103;
    const auto large = [&](BmuDtype dtype) { return chosen(1 << 16, 1 << 12, 64, dtype, capability); };
    report.require(large(BmuDtype::float32) == (data_center ? tensor_core : ffma), "float32" + where);
    report.require(large(BmuDtype::half) == (capability >= 80 ? tensor_core : ffma), "16-bit types" + where);
    report.require(large(BmuDtype::float64) == exact, "float64" + where);
    const BmuKernel small = chosen(256, 256, 64, BmuDtype::float32, capability);
    report.require(small == (data_center ? exact : ffma), "little work" + where);
    report.require(chosen(1, 16, 64, BmuDtype::float32, capability) == exact, "hardly any work" + where);
  }
  report.require(chosen(256, 512, 64, BmuDtype::half, 90) != tensor_core, "256 rows and 512 codes");
  report.require(chosen(256, 1 << 12, 64, BmuDtype::half, 90) == exact, "256 rows of 64 features and 4096 codes");
  report.require(chosen(1 << 16, 64, 64, BmuDtype::float32, 90) == ffma, "few codes");
  report.require(chosen(1 << 16, 1 << 12, 3, BmuDtype::float32, 90) == ffma, "few features");
  report.require(chosen(1 << 16, 1 << 12, 65537, BmuDtype::float32, 90) == ffma,
                 "more features than the bound holds for");
  report.require(chosen(0, 1 << 12, 64, BmuDtype::float32, 90) == exact, "no rows");
  report.require(chosen(1 << 16, 1 << 12, 64, BmuDtype::float32, 90, "ffma") == ffma, "ffma is requested");
  report.require(chosen(1 << 16, 1 << 12, 64, BmuDtype::float32, 90, "exact") == exact, "exact is requested");
  report.require(chosen(1, 1, 1, BmuDtype::float32, 120, "tensor_core") == tensor_core, "tensor_core is requested");
  report.require(chosen(1, 1, 1, BmuDtype::float64, 90, "tensor_core") == exact, "tensor_core for float64");
  report.require(chosen(1, 1, 1, BmuDtype::float32, 75, "tensor_core") == ffma, "tensor_core below capability 8.0");
  std::string message;
  try {
    chosen(1, 1, 1, BmuDtype::float32, 90, "fast");
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  report.require(message.find("must be exact, ffma or tensor_core, got 'fast'") != std::string::npos,
                 "a wrong request");

  report.group("bmu, rows of a block");
  for (const int64_t rows : {1, 33, 4096, 17000, 1 << 20, 10000000}) {
    for (const int64_t codes : {1, 64, 4096, 1 << 20}) {
      for (const BmuDtype dtype : {BmuDtype::float32, BmuDtype::float64, BmuDtype::half}) {
        const BmuProblem problem = {rows, codes, 64, dtype, 2};
        const BmuPlan plan = plan_bmu(problem, {132, 90, 228 << 10}, nullptr);
        const std::string where = std::to_string(rows) + " rows, " + std::to_string(codes) + " codes: ";
        const int64_t bytes = bmu_bytes_per_row(problem, plan.kernel) * plan.block_rows;
        report.require(plan.block_rows >= 1 && plan.block_rows <= rows, where + "a block has some of the rows");
        report.require(bytes <= kBlockBytes || plan.block_rows <= 1024, where + std::to_string(bytes) + " bytes");
        report.require(plan.chunk_rows >= 1024 && plan.chunk_rows <= 16384, where + "rows of a chunk");
      }
    }
  }

  report.group("bmu, blocks that fit into shared memory");
  const auto plan_for = [](int64_t dim, int capability, int64_t shared_bytes, const char* requested) {
    return plan_bmu({1 << 16, 1 << 12, dim, BmuDtype::float32, 1}, {100, capability, shared_bytes}, requested);
  };
  report.require(plan_for(64, 75, 64 << 10, "ffma").first_blocks == 100, "64 KiB have room for one block of 32 KiB");
  report.require(plan_for(64, 86, 100 << 10, "ffma").first_blocks == 300, "100 KiB have room for three");
  for (const int64_t shared_bytes : {100 << 10, 164 << 10, 228 << 10}) {
    for (const int64_t dim : {16, 48, 64, 112, 128, 129, 784}) {
      const BmuPlan plan = plan_for(dim, 90, shared_bytes, "tensor_core");
      const int64_t bytes = tensor_core_shared_bytes({1, 1, dim, BmuDtype::float32, 1}, plan.rows_stay) + 1024;
      report.require(bytes <= 99 << 10 && kTensorCoreBlocks * bytes <= shared_bytes, "two blocks fit");
    }
  }
  report.require(plan_for(64, 90, 228 << 10, "tensor_core").rows_stay, "rows of 64 features stay");
  report.require(!plan_for(784, 90, 228 << 10, "tensor_core").rows_stay, "rows of 784 features don't");
}

}  // namespace

int main(int argc, char** argv) {
  const Size size = parse_size(argc, argv);
  Report report;
  Random random(1);
  check_policy(report);
  check_scales_of_halves(report);
#if defined(SOMVAE_SIMT)
  check_tile_ranges(report);
#endif
  for_each_dtype([&]<class T>() {
    for (const int k : {1, 2}) {
      const std::string name = kBackend + ", bmu, " + dtype_name<T>() + ", k = " + std::to_string(k);
      report.group(name + ", random data");
      for (const Shape& shape : search_shapes(size)) {
        if (shape.codes < k) continue;
        const Problem<T> problem = random_problem<T>(random, shape);
        check_forward(report, problem, k, describe(shape));
        check_backward(report, random, problem, k, describe(shape));
      }
      report.group(name + ", special data");
      check_special_data<T>(report, random, {3, 5, 2}, k);
      if (size != Size::kSmall) {
        check_special_data<T>(report, random, {65, 67, 17}, k);
        if (std::is_same_v<T, float>) check_special_data<T>(report, random, {5, 530, 4}, k);  // slices of the codebook
      }
      report.group(name + ", odd addresses");
      check_odd_addresses<T>(report, random, k);
#if defined(SOMVAE_SIMT)
      if (size != Size::kSmall && !std::is_same_v<T, double>) {
        report.group(name + ", what is scored again");
        check_what_is_scored_again<T>(report, random, k);
      }
#endif
    }
#if defined(SOMVAE_SIMT)
    report.group(kBackend + ", bmu, " + dtype_name<T>() + ", launches");
    check_launches<T>(report, random);
    if (size != Size::kSmall && !std::is_same_v<T, double>) {
      report.group(kBackend + ", bmu, " + dtype_name<T>() + ", a map");
      check_what_is_scored_again_on_a_map<T>(report, random);
    }
#endif
  });
  return report.finish(launched());
}
