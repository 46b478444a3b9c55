// A winner and its slots: slot 0 is the winner itself, slot 1 + s its neighbor in slot s of the grid.
#pragma once
#include <cstdint>

#include "index_range.h"

namespace somvae {

// The node in a slot of `winner`, or -1 where there is none. `winner` is in range.
SOMVAE_HOST_DEVICE inline int64_t node_in_slot(const int64_t* neighbors, int64_t winner, int64_t slots, int64_t nodes,
                                               int64_t slot) {
  if (slot == 0) return winner;
  const int64_t node = neighbors[winner * slots + slot - 1];
  return in_range(node, nodes) ? node : -1;
}

// The slot in which `winner` has its neighbor `node`, or 0 if `node` is not one.
SOMVAE_HOST_DEVICE inline int64_t slot_of_node(const int64_t* neighbors, int64_t winner, int64_t slots, int64_t node) {
  for (int64_t slot = 0; slot < slots; ++slot) {
    if (neighbors[winner * slots + slot] == node) return slot + 1;
  }
  return 0;
}

}  // namespace somvae
