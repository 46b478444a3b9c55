// segment_sum: sums in double of the rows of each segment, and its backward, which is a gather.
#include <algorithm>

#include "backend.h"
#include "harness.h"
#include "neighborhood/segment_sum.h"
#include "oracle.h"

using namespace somvae;
using namespace somvae::test;

namespace {

#if defined(SOMVAE_SIMT)

template <class T>
void run(const SegmentSumArgs<T>& args) {
  segment_sum_cuda(args, nullptr);
}
template <class T>
void run(const SegmentSumBackwardArgs<T>& args) {
  segment_sum_backward_cuda(args, nullptr);
}

#else

template <class T>
void run(const SegmentSumArgs<T>& args) {
  in_two_ranges(args.segments, [&](int64_t a, int64_t b) { segment_sum_cpu(args, a, b); });
}
template <class T>
void run(const SegmentScatterArgs<T>& args) {
  for (int64_t chunk = 0; chunk < args.chunks; ++chunk) {
    in_two_ranges(args.dim, [&](int64_t a, int64_t b) { segment_scatter_cpu(args, chunk, a, b); });
  }
  in_two_ranges(args.segments, [&](int64_t a, int64_t b) { segment_combine_cpu(args, a, b); });
}
template <class T>
void run(const SegmentSumBackwardArgs<T>& args) {
  in_two_ranges(args.rows, [&](int64_t a, int64_t b) { segment_sum_backward_cpu(args, a, b); });
}

#endif

// sum[segment][d] over the rows that belong to the segment.
template <class T>
std::vector<Sum> expected_sums(const std::vector<T>& x, const std::vector<int64_t>& index, int64_t segments,
                               int64_t dim) {
  std::vector<Sum> want(segments * dim);
  for (size_t row = 0; row < index.size(); ++row) {
    if (index[row] < 0 || index[row] >= segments) continue;
    for (int64_t d = 0; d < dim; ++d) want[index[row] * dim + d].add(load(x[row * dim + d]), 0);
  }
  return want;
}

template <class C>
void require_sums(Report& report, const std::vector<C>& sum, const std::vector<Sum>& want, const std::string& what) {
  for (size_t i = 0; i < want.size(); ++i) {
    require_near(report, sum[i], want[i], unit_roundoff<double>(), what + ", sum[" + std::to_string(i) + "]");
  }
}

template <class T>
void check_gather(Report& report, const std::vector<T>& x, const std::vector<int64_t>& index, int64_t segments,
                  int64_t dim, const std::string& what) {
  const int64_t rows = index.size();
  const Groups groups = group_by(index, segments);
  auto sum = poisoned<Compute<T>>(segments * dim);
  auto partial = poisoned<double>(2 * segment_sum_tiles(rows) * dim);
  run(SegmentSumArgs<T>{x.data(), index.data(), groups.order.data(), groups.offsets.data(), partial.data(), sum.data(),
                        rows, segments, dim});
  require_sums(report, sum, expected_sums(x, index, segments, dim), what);
}

template <class T>
void check_backward(Report& report, Random& random, const std::vector<int64_t>& index, int64_t segments, int64_t dim,
                    const std::string& what) {
  const int64_t rows = index.size();
  const auto grad = random_values<Compute<T>>(random, segments * dim);
  auto grad_x = poisoned<T>(rows * dim);
  run(SegmentSumBackwardArgs<T>{grad.data(), index.data(), grad_x.data(), rows, segments, dim});
  for (int64_t row = 0; row < rows; ++row) {
    const bool valid = index[row] >= 0 && index[row] < segments;
    for (int64_t d = 0; d < dim; ++d) {
      const Real passed_back = valid ? Real(grad[index[row] * dim + d]) : 0;
      require_near(report, grad_x[row * dim + d], passed_back, 0, what + ", grad_x of row " + std::to_string(row));
    }
  }
}

#if !defined(SOMVAE_SIMT)
// Covers a last chunk with fewer rows than the others, and empty chunks.
template <class T>
void check_scatter(Report& report, const std::vector<T>& x, const std::vector<int64_t>& index, int64_t segments,
                   int64_t dim, const std::string& what) {
  const int64_t rows = index.size();
  const Groups groups = group_by(index, segments);
  const std::vector<Sum> want = expected_sums(x, index, segments, dim);
  for (const int64_t chunks : {1, 2, 7}) {
    const std::string which = what + ", chunks " + std::to_string(chunks);
    auto chunk_sum = poisoned<double>(chunks * segments * dim);
    auto chunk_count = poisoned<int64_t>(chunks * segments);
    auto sum = poisoned<Compute<T>>(segments * dim);
    auto count = poisoned<int64_t>(segments);
    run(SegmentScatterArgs<T>{x.data(), index.data(), chunk_sum.data(), chunk_count.data(), sum.data(), count.data(),
                              rows, segments, dim, chunks});
    require_sums(report, sum, want, which);
    for (int64_t segment = 0; segment < segments; ++segment) {
      const int64_t members = groups.offsets[segment + 1] - groups.offsets[segment];
      report.require(count[segment] == members, which + ", count[" + std::to_string(segment) + "]");
    }
  }
}
#endif

template <class T>
void check(Report& report, Random& random, const Shape& shape, bool invalid) {
  const auto [rows, segments, dim] = shape;
  const std::string what = describe(shape) + (invalid ? ", some rows in no segment" : "");
  const auto x = random_values<T>(random, rows * dim);
  const auto index = random_index(random, rows, segments, invalid);
  check_gather(report, x, index, segments, dim, what);
  check_backward<T>(report, random, index, segments, dim, what);
#if !defined(SOMVAE_SIMT)
  check_scatter(report, x, index, segments, dim, what);
#endif
}

// Segments of several tiles that begin and end at a tile's border, before it and after it, with empty ones between.
template <class T>
void check_large_segments(Report& report, Random& random) {
  constexpr int64_t tile = kSegmentTileRows, dim = 3;
  const std::vector<int64_t> members = {0, tile, 3 * tile, tile + 1, 0, 0, 4 * tile - 2, 1, 2, tile - 1, 5, 0};
  std::vector<int64_t> index;
  for (size_t segment = 0; segment < members.size(); ++segment) index.insert(index.end(), members[segment], segment);
  std::shuffle(index.begin(), index.end(), random);
  const auto x = random_values<T>(random, index.size() * dim);
  check_gather(report, x, index, members.size(), dim, "large segments");
}

// In float, the small terms would be lost beside the large ones.
void check_accumulates_in_double(Report& report) {
  const std::vector<float> x = {0x1p24f, 1, 1, -0x1p24f};
  const std::vector<int64_t> index(4, 0), order = {0, 1, 2, 3}, offsets = {0, 4};
  auto sum = poisoned<float>(1);
  auto partial = poisoned<double>(2);
  run(SegmentSumArgs<float>{x.data(), index.data(), order.data(), offsets.data(), partial.data(), sum.data(), 4, 1, 1});
  report.require(sum[0] == 2, "2^24 + 1 + 1 - 2^24 must be 2, got " + std::to_string(sum[0]));
}

}  // namespace

int main(int argc, char** argv) {
  const Size size = parse_size(argc, argv);
  Report report;
  Random random(2);
  for_each_dtype([&]<class T>() {
    report.group(kBackend + ", segment_sum, " + dtype_name<T>());
    for (const Shape& shape : shapes(size)) {
      check<T>(report, random, shape, false);
      check<T>(report, random, shape, true);
    }
    check_large_segments<T>(report, random);
  });
  report.group(kBackend + ", segment_sum, cancellation");
  check_accumulates_in_double(report);
  return report.finish(launched());
}
