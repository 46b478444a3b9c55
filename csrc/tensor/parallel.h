// Loops on torch's CPU threads, cut by an estimate of the time that their items take.
#pragma once
#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace somvae {

// Estimates in nanoseconds, from which the callers of `parallel` compute the time of an item.
constexpr double kTiledPair = 0.02;     // a pair of features in a distance that is computed in register tiles
constexpr double kStreamedPair = 0.25;  // a pair of features in a distance or sum that streams from the cache
constexpr double kPackedFeature = 0.1;  // a feature of a code that is packed into a panel
constexpr double kExponential = 5;

// The least work, in nanoseconds, that is worth a thread, and that is worth a range if there are several threads.
constexpr double kLeastThreadWork = 200e3, kLeastRangeWork = 400e3;

// Calls `run(first, last)` for ranges that cover [0, items), on torch's CPU threads. `nanoseconds` is a rough estimate
// of the time that an item takes. Little work stays on one thread: if other processes compete for the cores, waking a
// second thread may take longer than the work. For the same reason, much work is cut into more ranges than threads, and
// each thread takes one range after another.
template <class Run>
void parallel(int64_t items, double nanoseconds, const Run& run) {
  const double work = double(items) * nanoseconds;
  const int64_t max_threads = at::in_parallel_region() ? 1 : std::min<int64_t>(at::get_num_threads(), items);
  const int64_t threads = std::min<int64_t>(max_threads, static_cast<int64_t>(work / kLeastThreadWork));
  if (threads <= 1) {
    if (items > 0) run(int64_t(0), items);
    return;
  }
  const int64_t turns = std::clamp<int64_t>(static_cast<int64_t>(work / double(threads) / kLeastRangeWork), 1, 4);
  const int64_t ranges = std::min(threads * turns, items);
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    for (int64_t range = next++; range < ranges; range = next++) {
      run(range * items / ranges, (range + 1) * items / ranges);
    }
  });
}

}  // namespace somvae
