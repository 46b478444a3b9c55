// CUDA search: a block owns 64 rows and passes over all codes, tile by tile, keeping the best in registers.
#pragma once
#include "bmu/best_units.h"
#include "bmu/bmu.h"
#include "cuda/distance_tile.cuh"
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"
#include "index_range.h"

namespace somvae {

template <class T, int k>
__global__ void __launch_bounds__(kTileThreads) bmu_kernel(BmuArgs<T> args) {
  using C = Compute<T>;
  __shared__ DistanceTile<C> tile;
  const int x = threadIdx.x % kTileSide, y = threadIdx.x / kTileSide;
  const int64_t row0 = int64_t(blockIdx.x) * kTile;
  BestUnits<C, int, k> best[kPerThread];  // of rows y + 16 i, over codes x + 16 j
  for (int i = 0; i < kPerThread; ++i) best[i].reset();

  for (int64_t unit0 = 0; unit0 < args.units; unit0 += kTile) {
    C distance[kPerThread][kPerThread];
    distance_tile(args.z, args.rows, row0, args.codebook, args.units, unit0, args.dim, tile, distance);
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t unit = unit0 + x + kTileSide * j;
      if (unit >= args.units) continue;
      for (int i = 0; i < kPerThread; ++i) best[i].offer(distance[i][j], static_cast<int>(unit));
    }
  }

  // The 16 threads of a row are half a warp.
  for (int i = 0; i < kPerThread; ++i) {
    for (int offset = kTileSide / 2; offset > 0; offset /= 2) {
      BestUnits<C, int, k> other;
      for (int n = 0; n < k; ++n) {
        other.score[n] = __shfl_xor_sync(kFullWarp, best[i].score[n], offset);
        other.index[n] = __shfl_xor_sync(kFullWarp, best[i].index[n], offset);
      }
      for (int n = 0; n < k; ++n) best[i].offer(other.score[n], other.index[n]);
    }
    const int64_t row = row0 + y + kTileSide * i;
    if (x == 0 && row < args.rows) {
      for (int n = 0; n < k; ++n) {
        args.distance[row * k + n] = best[i].score[n];
        args.index[row * k + n] = best[i].index[n];
      }
    }
  }
}

// One thread per element of grad_z.
template <class T>
__global__ void bmu_backward_z_kernel(BmuBackwardArgs<T> args) {
  for (int64_t i = global_thread(); i < args.rows * args.dim; i += total_threads()) {
    const int64_t row = i / args.dim, d = i % args.dim;
    double sum = 0;
    for (int64_t pair = row * args.k; pair < (row + 1) * args.k; ++pair) {
      const int64_t unit = args.index[pair];
      const double code = in_range(unit, args.units) ? double(load(args.codebook[unit * args.dim + d])) : double(NAN);
      sum += 2 * double(args.grad[pair]) * (double(load(args.z[i])) - code);
    }
    args.grad_z[i] = store<T>(sum);
  }
}

// One thread per element of grad_codebook, over the pairs of its code in ascending order.
template <class T>
__global__ void bmu_backward_codebook_kernel(BmuBackwardArgs<T> args) {
  for (int64_t i = global_thread(); i < args.units * args.dim; i += total_threads()) {
    const int64_t unit = i / args.dim, d = i % args.dim;
    const double code = load(args.codebook[i]);
    double sum = 0;
    for (int64_t p = args.offsets[unit]; p < args.offsets[unit + 1]; ++p) {
      const int64_t pair = args.order[p];
      sum += 2 * double(args.grad[pair]) * (code - double(load(args.z[pair / args.k * args.dim + d])));
    }
    args.grad_codebook[i] = store<T>(sum);
  }
}

}  // namespace somvae
