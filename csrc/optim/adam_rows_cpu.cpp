#include <cmath>
#include <cstdint>
#include <type_traits>

#include "index_range.h"
#include "optim/adam_rows.h"
#include "optim/adam_step.h"

#define SIMD_KERNELS "optim/adam_rows_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
void adam_rows_cpu(const AdamRowsArgs<T>& args, int64_t first, int64_t last) {
  SIMD_DISPATCH(adam_rows, args, adam_step(args), first, last);
}

#define INSTANTIATE(T) template void adam_rows_cpu(const AdamRowsArgs<T>&, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
