// Tiles of rows by tiles of codes, shared out among the blocks of a grid to within one.
//
// They stand in one line, all tiles of codes of a tile of rows together, and each block takes as many in a row. So no
// last wave is half empty, however many rows there are; but what a block finds for its first and its last tile of rows
// may be a part of what there is.
#pragma once
#include <cstdint>

#include "device.h"

namespace somvae {

struct TileRanges {
  int64_t row_tiles, code_tiles, blocks;  // blocks >= 1

  SOMVAE_HOST_DEVICE inline int64_t begin(int64_t block) const { return row_tiles * code_tiles * block / blocks; }

  // The block that has this tile.
  SOMVAE_HOST_DEVICE inline int64_t block_of(int64_t tile) const {
    return ((tile + 1) * blocks - 1) / (row_tiles * code_tiles);
  }

  // A piece of a block's range: tiles [first, last) of codes for one tile of rows. (Numbers of tiles along one side fit
  // into 32 bits, and kernels are short of registers.)
  template <class Body>
  __device__ inline void for_each_piece(int64_t block, Body body) const {
    int64_t left = begin(block + 1) - begin(block);
    int row_tile = static_cast<int>(begin(block) / code_tiles), first = static_cast<int>(begin(block) % code_tiles);
    for (; left > 0; ++row_tile, first = 0) {
      const int last = code_tiles < first + left ? static_cast<int>(code_tiles) : first + static_cast<int>(left);
      body(row_tile, first, last);
      left -= last - first;
    }
  }
};

SOMVAE_HOST_DEVICE inline int64_t tiles_of(int64_t items, int64_t per_tile) {
  return (items + per_tile - 1) / per_tile;
}

}  // namespace somvae
