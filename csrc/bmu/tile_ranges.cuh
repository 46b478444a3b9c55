// Distributes the tiles of a matrix of rows and codes over the blocks of a grid, evenly to within one tile.
//
// The tiles form one sequence, in which those of the same rows follow each other, and each block takes a range of it.
// No last wave is half empty, whatever the number of rows. The results of a block for its first and last tile of rows
// may cover only some of the codes.
#pragma once
#include <cstdint>

#include "device.h"

namespace somvae {

struct TileRanges {
  int64_t row_tiles, code_tiles, blocks;  // blocks >= 1

  SOMVAE_HOST_DEVICE inline int64_t begin(int64_t block) const { return row_tiles * code_tiles * block / blocks; }

  // The block whose range holds this tile.
  SOMVAE_HOST_DEVICE inline int64_t block_of(int64_t tile) const {
    return ((tile + 1) * blocks - 1) / (row_tiles * code_tiles);
  }

  // Calls body(row_tile, first, last) for each piece of a block's range: tiles [first, last) of codes for one tile of
  // rows. (The number of tiles along one side fits into 32 bits, which saves registers.)
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
