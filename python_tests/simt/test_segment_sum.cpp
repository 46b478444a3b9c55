// segment_sum: sums in double of the rows of each segment, and the gather that is its backward.
#include "harness.h"
#include "oracle.h"
#include "twins.h"

using namespace somvae;
using namespace somvae::test;

namespace {

template <class T>
void check(Report& report, Random& random, const Shape& shape, bool invalid) {
  using C = Compute<T>;
  const auto [rows, segments, dim] = shape;
  const std::string what = describe(shape) + (invalid ? ", some rows in no segment" : "");
  const auto x = random_values<T>(random, rows * dim);
  const auto grad = random_values<C>(random, segments * dim);
  const auto index = random_index(random, rows, segments, invalid);
  const Groups groups = group_by(index, segments);
  auto sum = poisoned<C>(segments * dim);
  auto grad_x = poisoned<T>(rows * dim);
  run(SegmentSumArgs<T>{x.data(), groups.order.data(), groups.offsets.data(), sum.data(), rows, segments, dim});
  run(SegmentSumBackwardArgs<T>{grad.data(), index.data(), grad_x.data(), rows, segments, dim});

  std::vector<Sum> want(segments * dim);
  for (int64_t row = 0; row < rows; ++row) {
    const bool valid = index[row] >= 0 && index[row] < segments;
    for (int64_t d = 0; d < dim; ++d) {
      if (valid) want[index[row] * dim + d].add(load(x[row * dim + d]), 0);
      const Real passed_back = valid ? Real(grad[index[row] * dim + d]) : 0;
      require_near(report, grad_x[row * dim + d], passed_back, 0, what + ", grad_x of row " + std::to_string(row));
    }
  }
  for (size_t i = 0; i < want.size(); ++i) {
    require_near(report, sum[i], want[i], unit_roundoff<double>(), what + ", sum[" + std::to_string(i) + "]");
  }
}

// In float the small terms would vanish beside the large ones.
void check_accumulates_in_double(Report& report) {
  const std::vector<float> x = {0x1p24f, 1, 1, -0x1p24f};
  const std::vector<int64_t> order = {0, 1, 2, 3}, offsets = {0, 4};
  auto sum = poisoned<float>(1);
  run(SegmentSumArgs<float>{x.data(), order.data(), offsets.data(), sum.data(), 4, 1, 1});
  report.require(sum[0] == 2, "2^24 + 1 + 1 - 2^24 must be 2, got " + std::to_string(sum[0]));
}

}  // namespace

int main(int argc, char** argv) {
  const Size size = parse_size(argc, argv);
  Report report;
  Random random(2);
  for_each_dtype([&]<class T>() {
    report.group(kTwin + ", segment_sum, " + dtype_name<T>());
    for (const Shape& shape : shapes(size)) {
      check<T>(report, random, shape, false);
      check<T>(report, random, shape, true);
    }
  });
  report.group(kTwin + ", segment_sum, cancellation");
  check_accumulates_in_double(report);
  return report.finish(launched());
}
