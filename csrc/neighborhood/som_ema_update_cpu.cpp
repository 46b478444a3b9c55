#include <cmath>
#include <cstdint>
#include <type_traits>

#include "neighborhood/som_ema_update.h"

#define SIMD_KERNELS "neighborhood/som_ema_update_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class A, class T>
void moving_average_cpu(const MovingAverageArgs<A, T>& args, int64_t first_chunk, int64_t last_chunk) {
  SIMD_DISPATCH(moving_average, args, first_chunk, last_chunk);
}

void least_count_cpu(const LeastCountArgs& args) {
  double total = 0;
  for (int64_t chunk = 0; chunk < args.chunks; ++chunk) total += args.chunk_total[chunk];
  *args.least = args.share * (total / double(args.nodes));
}

template void moving_average_cpu(const MovingAverageArgs<float, float>&, int64_t, int64_t);
template void moving_average_cpu(const MovingAverageArgs<float, double>&, int64_t, int64_t);
template void moving_average_cpu(const MovingAverageArgs<double, float>&, int64_t, int64_t);
template void moving_average_cpu(const MovingAverageArgs<double, double>&, int64_t, int64_t);

}  // namespace somvae
