#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "neighborhood/som_head.h"
#include "neighborhood/winners.h"

#define SIMD_KERNELS "neighborhood/som_head_cpu_kernel.h"
#include "cpu/foreach_level.h"

namespace somvae {

template <class T>
void som_head_cpu(const SomHeadArgs<T>& args, int64_t first_row, int64_t last_row) {
  SIMD_DISPATCH(som_head, args, first_row, last_row);
}

template <class T>
void som_head_backward_z_cpu(const SomHeadBackwardArgs<T>& args, int64_t first_row, int64_t last_row) {
  SIMD_DISPATCH(som_head_backward_z, args, first_row, last_row);
}

template <class T>
std::vector<int64_t> nodes_with_gradient(const SomHeadBackwardArgs<T>& args) {
  std::vector<char> seen(args.nodes);
  std::vector<int64_t> nodes;
  nodes.reserve(std::min(args.nodes, args.rows * (1 + args.moving_slots())));
  for (int64_t winner = 0; winner < args.nodes; ++winner) {
    if (args.offsets[winner + 1] == args.offsets[winner]) continue;
    for (int64_t slot = 0; slot <= args.moving_slots(); ++slot) {
      const int64_t node = node_in_slot(args.neighbors, winner, args.slots, args.nodes, slot);
      if (node < 0 || seen[node]) continue;
      seen[node] = true;
      nodes.push_back(node);
    }
  }
  return nodes;
}

template <class T>
void som_head_backward_codebook_cpu(const SomHeadBackwardArgs<T>& args, const int64_t* nodes, int64_t first,
                                    int64_t last) {
  SIMD_DISPATCH(som_head_backward_codebook, args, nodes, first, last);
}

#define INSTANTIATE(T)                                                                    \
  template void som_head_cpu(const SomHeadArgs<T>&, int64_t, int64_t);                    \
  template void som_head_backward_z_cpu(const SomHeadBackwardArgs<T>&, int64_t, int64_t); \
  template std::vector<int64_t> nodes_with_gradient(const SomHeadBackwardArgs<T>&);       \
  template void som_head_backward_codebook_cpu(const SomHeadBackwardArgs<T>&, const int64_t*, int64_t, int64_t);
SOMVAE_FOR_EACH_DTYPE(INSTANTIATE)
#undef INSTANTIATE

}  // namespace somvae
