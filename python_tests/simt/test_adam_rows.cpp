// adam_rows: one step on the touched rows follows the definition; all other rows keep their bits.
#include <algorithm>

#include "backend.h"
#include "harness.h"
#include "optim/adam_rows.h"
#include "oracle.h"

using namespace somvae;
using namespace somvae::test;

namespace {

#if defined(SOMVAE_SIMT)

template <class T>
void run(const AdamRowsArgs<T>& args) {
  adam_rows_cuda(args, nullptr);
}

#else

template <class T>
void run(const AdamRowsArgs<T>& args) {
  in_two_ranges(args.groups * adam_pieces(args.width), [&](int64_t a, int64_t b) { adam_rows_cpu(args, a, b); });
}

#endif

constexpr double kLr = 0.125, kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-8;

// Groups members by index, valid or not; the last groups have no members.
Groups group_by_value(const std::vector<int64_t>& index) {
  Groups groups;
  groups.order.resize(index.size());
  std::iota(groups.order.begin(), groups.order.end(), 0);
  std::stable_sort(groups.order.begin(), groups.order.end(), [&](int64_t a, int64_t b) { return index[a] < index[b]; });
  for (size_t i = 0; i < index.size(); ++i) {
    if (i == 0 || index[groups.order[i]] != index[groups.order[i - 1]]) groups.offsets.push_back(i);
  }
  groups.offsets.resize(index.size() + 1, index.size());
  return groups;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b, int64_t first, int64_t count) {
  return count == 0 || memcmp(a.data() + first, b.data() + first, count * sizeof(T)) == 0;
}

template <class T>
void check(Report& report, Random& random, int64_t members, int64_t rows, int64_t width, int64_t step,
           bool lr_by_address, bool invalid) {
  using C = Compute<T>;
  const std::string what = std::to_string(members) + " members, " + std::to_string(rows) + " rows of " +
                           std::to_string(width) + ", step " + std::to_string(step) +
                           (lr_by_address ? ", lr by address" : "") + (invalid ? ", some invalid" : "");
  const auto index = random_index(random, members, rows, invalid);
  const auto grad = random_values<T>(random, members * width);
  const auto param = random_values<T>(random, rows * width);
  const auto mean = random_values<C>(random, rows * width);
  auto square = random_values<C>(random, rows * width);
  for (C& value : square) value = std::fabs(value) + C(0.125);  // keeps roots well-conditioned
  const Groups groups = group_by_value(index);

  auto new_param = param;
  auto new_mean = mean, new_square = square;
  AdamRowsArgs<T> args = {};
  args.param = new_param.data();
  args.exp_avg = new_mean.data();
  args.exp_avg_sq = new_square.data();
  args.grad = grad.data();
  args.index = index.data();
  args.order = groups.order.data();
  args.offsets = groups.offsets.data();
  args.step = &step;
  args.lr_value = lr_by_address ? &kLr : nullptr;
  args.lr = lr_by_address ? NAN : kLr;
  args.beta1 = kBeta1;
  args.beta2 = kBeta2;
  args.eps = kEps;
  args.groups = members;
  args.rows = rows;
  args.width = width;
  run(args);

  const Real u = unit_roundoff<C>();
  const Real fresh = 1 - Real(kBeta1), fresh_square = 1 - Real(kBeta2);
  const Real power1 = std::pow(Real(kBeta1), step), power2 = std::pow(Real(kBeta2), step);
  const Real rate = kLr / (1 - power1), bias = 1 - power2;
  // An n-th power by squaring has the error of n roundings. 1 - power keeps the absolute error, and a root halves it.
  const Real bias_error = unit_roundoff<double>() * step * (power1 / (1 - power1) + power2 / bias / 2);
  for (int64_t row = 0; row < rows; ++row) {
    const std::string where = what + ", row " + std::to_string(row);
    if (std::count(index.begin(), index.end(), row) == 0) {
      report.require(same_bits(new_param, param, row * width, width) && same_bits(new_mean, mean, row * width, width) &&
                         same_bits(new_square, square, row * width, width),
                     where + ": expected no change");
      continue;
    }
    for (int64_t i = row * width; i < (row + 1) * width; ++i) {
      Sum sum;
      for (int64_t n = 0; n < members; ++n) {
        if (index[n] == row) sum.add(load(grad[n * width + i % width]), 0);
      }
      const Real g = sum.value(), g_error = sum.error(u);
      // The betas and the factors computed from them are rounded once each; then come a few operations per term.
      const Real m = mean[i] + fresh * (g - mean[i]);
      const Real m_error = fresh * g_error + 6 * u * (2 * std::fabs(Real(mean[i])) + fresh * std::fabs(g));
      const Real v = kBeta2 * Real(square[i]) + fresh_square * g * g;
      const Real v_error = fresh_square * g_error * (2 * std::fabs(g) + g_error) + 6 * u * v;
      const Real root = std::sqrt(v / bias), scale = root + kEps;
      const Real scale_error = v_error / (2 * v) * root + 6 * u * scale;
      const Real change = rate * m / scale;
      const Real change_error = rate * m_error / scale + std::fabs(change) * (scale_error / scale + 6 * u + bias_error);
      require_near(report, new_mean[i], m, m_error, where + ", exp_avg");
      require_near(report, new_square[i], v, v_error, where + ", exp_avg_sq");
      require_near(report, new_param[i], load(param[i]) - change,
                   change_error + u * (std::fabs(Real(load(param[i]))) + std::fabs(change)), where + ", param");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Size size = parse_size(argc, argv);
  Report report;
  Random random(6);
  struct Case {
    int64_t members, rows, width;
  };
  std::vector<Case> cases = {{0, 3, 5}, {1, 1, 1}, {5, 3, 17}, {3, 2, 1030}};
  if (size != Size::kSmall) {
    cases.insert(cases.end(),
                 {{7, 4, 0}, {1, 5, 64}, {40, 30, 1}, {9, 70, 33}, {2, 9, 1024}, {6, 2, 2100}, {300, 5, 7}});
  }
  if (size == Size::kFull) {
    for (const int64_t members : {1, 8, 65}) {
      for (const int64_t width : {1, 2, 15, 16, 31, 255, 257, 1023, 1025, 3000}) cases.push_back({members, 20, width});
    }
  }
  for_each_dtype([&]<class T>() {
    report.group(kBackend + ", adam_rows, " + dtype_name<T>());
    for (const auto& [members, rows, width] : cases) {
      for (const bool invalid : {false, true}) {
        check<T>(report, random, members, rows, width, 1, false, invalid);
        check<T>(report, random, members, rows, width, 1000, true, invalid);
      }
    }
  });
  return report.finish(launched());
}
