// som_ema_update: moving averages of each node's count and sum, and the count above which a code moves. The codes
// themselves are weighted sums, see test_som_update.cpp.
#include "backend.h"
#include "harness.h"
#include "neighborhood/som_ema_update.h"
#include "oracle.h"

using namespace somvae;
using namespace somvae::test;

namespace {

#if defined(SOMVAE_SIMT)

template <class A, class T>
void run(const MovingAverageArgs<A, T>& args) {
  moving_average_cuda(args, nullptr);
}
inline void run(const LeastCountArgs& args) { least_count_cuda(args, nullptr); }

#else

template <class A, class T>
void run(const MovingAverageArgs<A, T>& args) {
  in_two_ranges(moving_average_chunks(args.nodes), [&](int64_t a, int64_t b) { moving_average_cpu(args, a, b); });
}
inline void run(const LeastCountArgs& args) { least_count_cpu(args); }

#endif

constexpr double kShare = 1e-3;

// If `spoiled`, the statistics of some nodes are not finite: a count, or one value of a sum.
template <class A, class T>
void check(Report& report, Random& random, int64_t nodes, int64_t dim, double decay, bool spoiled) {
  const std::string what = std::to_string(nodes) + " nodes, dim " + std::to_string(dim) + ", decay " +
                           std::to_string(decay) + (spoiled ? ", some not finite" : "");
  auto count = random_values<double>(random, nodes);
  auto sum = random_values<T>(random, nodes * dim);
  std::vector<bool> left_out(nodes, false);
  for (int64_t node = 0; spoiled && node < nodes; ++node) {
    const double value = random() % 2 == 0 ? NAN : -INFINITY;
    const int64_t kind = random() % 4;
    if (kind == 0) count[node] = value;
    if (kind == 1 && dim > 0) sum[node * dim + random() % dim] = T(value);
    left_out[node] = kind == 0 || (kind == 1 && dim > 0);
  }
  const auto ema_count = random_values<A>(random, nodes);
  const auto ema_sum = random_values<A>(random, nodes * dim);

  auto new_count = ema_count;
  auto new_sum = ema_sum;
  const int64_t chunks = moving_average_chunks(nodes);
  auto chunk_total = poisoned<double>(chunks);
  auto least = poisoned<double>(1);
  run(MovingAverageArgs<A, T>{new_count.data(), new_sum.data(), count.data(), sum.data(), chunk_total.data(), decay,
                              nodes, dim});
  run(LeastCountArgs{chunk_total.data(), least.data(), kShare, nodes, chunks});

  // A value is rounded to the averages' type, and so is decay; 1 - decay is exact. Then come two products and their
  // sum.
  const Real u = unit_roundoff<A>();
  const auto require_average = [&](A actual, Real old, Real value, const std::string& where) {
    const Real expected = decay * old + (1 - decay) * value;
    require_near(report, actual, expected, 3 * u * (std::fabs(old) + std::fabs(value)), where);
  };
  Sum total;
  for (int64_t node = 0; node < nodes; ++node) {
    const std::string where = what + ", node " + std::to_string(node);
    require_average(new_count[node], ema_count[node], left_out[node] ? 0 : count[node], where + ", count");
    total.add(new_count[node], 0);
    for (int64_t i = node * dim; i < (node + 1) * dim; ++i) {
      require_average(new_sum[i], ema_sum[i], left_out[node] ? 0 : sum[i], where + ", sum");
    }
  }
  const Real v = unit_roundoff<double>(), mean = total.value() / nodes;
  require_near(report, least[0], kShare * mean, kShare * (total.error(v) / nodes + 3 * v * std::fabs(mean)),
               what + ", least count");
}

}  // namespace

int main(int argc, char** argv) {
  const Size size = parse_size(argc, argv);
  Report report;
  Random random(8);
  struct Case {
    int64_t nodes, dim;
  };
  std::vector<Case> cases = {{1, 1}, {9, 0}, {5, 3}, {17, 33}};
  if (size != Size::kSmall) cases.insert(cases.end(), {{8, 64}, {300, 2}, {2100, 7}, {3, 500}});
  if (size == Size::kFull) {
    for (const int64_t nodes : {2, 7, 16, 65}) {
      for (const int64_t dim : {1, 4, 8, 15, 31, 32, 100}) cases.push_back({nodes, dim});
    }
  }
  const auto check_all = [&]<class A, class T>(const std::string& types) {
    report.group(kBackend + ", som_ema_update, " + types);
    for (const auto& [nodes, dim] : cases) {
      for (const double decay : {0.0, 0.99}) {
        for (const bool spoiled : {false, true}) check<A, T>(report, random, nodes, dim, decay, spoiled);
      }
    }
  };
  check_all.operator()<float, float>("float averages of float");
  check_all.operator()<float, double>("float averages of double");
  check_all.operator()<double, float>("double averages of float");
  check_all.operator()<double, double>("double averages of double");
#if defined(SOMVAE_SIMT)
  report.group(kBackend + ", som_ema_update on a small grid");
  simt::device().largest_grid = 1;
  check<float, float>(report, random, 40, 70, 0.5, true);
#endif
  return report.finish(launched());
}
