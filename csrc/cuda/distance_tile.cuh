// Computes squared distances of 64 rows to 64 codes in one block of 16 x 16 threads. Each thread keeps 4 x 4 of the
// distances in registers.
#pragma once
#include <cstdint>

#include "cuda/fused_multiply_add.cuh"
#include "device.h"
#include "dtypes.h"

namespace somvae {

constexpr int kTile = 64;       // rows and codes of a tile
constexpr int kTileDepth = 16;  // features loaded into shared memory at a time
constexpr int kTileThreads = 256;
constexpr int kTileSide = 16;  // threads along each side; thread (x, y) has rows y + 16 i and codes x + 16 j
constexpr int kPerThread = kTile / kTileSide;

template <class C>
struct DistanceTile {
  // One column more than the tile has, so that the transposing stores fall into different banks.
  C rows[kTileDepth][kTile + 1];
  C codes[kTileDepth][kTile + 1];
};

// Computes distance[i][j] = sum_d (z[row(i)][d] - codebook[code0 + x + 16 j][d])^2, where row(i) is
// order[place0 + y + 16 i], with one fused multiply-add per d in ascending order. Features past `dim` count as zero in
// both. Distances of places and codes past the end are undefined. Every thread of the block must call it.
template <class T>
__device__ inline void distance_tile(const T* __restrict__ z, const int64_t* __restrict__ order, int64_t places,
                                     int64_t place0, const T* __restrict__ codebook, int64_t codes, int64_t code0,
                                     int64_t dim, DistanceTile<Compute<T>>& tile,
                                     Compute<T> (&distance)[kPerThread][kPerThread]) {
  using C = Compute<T>;
  const int x = threadIdx.x % kTileSide, y = threadIdx.x / kTileSide;
  for (int i = 0; i < kPerThread; ++i) {
    for (int j = 0; j < kPerThread; ++j) distance[i][j] = 0;
  }
  for (int64_t d0 = 0; d0 < dim; d0 += kTileDepth) {
    for (int e = threadIdx.x; e < kTile * kTileDepth; e += kTileThreads) {
      const int item = e / kTileDepth, depth = e % kTileDepth;
      const int64_t d = d0 + depth;
      tile.rows[depth][item] = place0 + item < places && d < dim ? load(z[order[place0 + item] * dim + d]) : C(0);
      tile.codes[depth][item] = code0 + item < codes && d < dim ? load(codebook[(code0 + item) * dim + d]) : C(0);
    }
    __syncthreads();
    for (int depth = 0; depth < kTileDepth; ++depth) {
      C row[kPerThread], code[kPerThread];
      for (int i = 0; i < kPerThread; ++i) {
        row[i] = tile.rows[depth][y + kTileSide * i];
        code[i] = tile.codes[depth][x + kTileSide * i];
      }
      for (int i = 0; i < kPerThread; ++i) {
        for (int j = 0; j < kPerThread; ++j) {
          const C difference = row[i] - code[j];
          distance[i][j] = fused_multiply_add(difference, difference, distance[i][j]);
        }
      }
    }
    __syncthreads();
  }
}

}  // namespace somvae
