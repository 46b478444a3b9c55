// The window of nodes near a node of a map, given by the offsets of Grid.window (somvae_ext/grid.py). Kernels thus need
// not know whether the grid is rectangular or hexagonal.
#pragma once
#include <cstdint>

#include "device.h"
#include "index_range.h"

namespace somvae {

struct NodeWindow {
  const int64_t* offsets;  // [2, slots, 2]: row and column offset of each slot, for nodes in even and in odd rows
  const int64_t* mirror;   // [slots]: the slot that leads back from the node in a slot
  int64_t slots, rows, cols;
  bool periodic;
};

// The node in a slot of the window of `node`, or -1 if the slot is absent. Offsets must not exceed the size of the map:
// a slot with a larger offset counts as absent, so kernels never read out of bounds.
SOMVAE_HOST_DEVICE inline int64_t window_node(const NodeWindow& window, int64_t node, int64_t slot) {
  int64_t row = node / window.cols, col = node % window.cols;
  const int64_t* offset = window.offsets + (row % 2 * window.slots + slot) * 2;
  row += offset[0];
  col += offset[1];
  if (window.periodic) {
    row += row < 0 ? window.rows : row >= window.rows ? -window.rows : 0;
    col += col < 0 ? window.cols : col >= window.cols ? -window.cols : 0;
  }
  return in_range(row, window.rows) && in_range(col, window.cols) ? row * window.cols + col : -1;
}

}  // namespace somvae
