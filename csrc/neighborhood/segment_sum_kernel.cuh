// CUDA segment sums, in double, without atomics. A first kernel runs one thread per feature of each tile of
// kSegmentTileRows consecutive places of `order`. A second runs one thread per feature of each segment, which adds the
// segment's partial sums. So one segment with all the rows occupies as many threads as many short segments do, and the
// order of additions is fixed.
//
// A tile has three kinds of segments. Those that lie wholly in it are written to `sum`. At most one began in an earlier
// tile: its partial sum goes to `partial[0]`. At most one continues in the next tile: its partial sum goes to
// `partial[1]`.
#pragma once
#include "cuda/launch.cuh"
#include "index_range.h"
#include "neighborhood/segment_sum.h"

namespace somvae {

template <class T>
__global__ void segment_sum_tiles_kernel(SegmentSumArgs<T> args) {
  const int64_t tiles = segment_sum_tiles(args.rows);
  // Rows whose index is out of range were sorted before the first segment or after the last.
  const int64_t first_place = args.offsets[0], last_place = args.offsets[args.segments];
  for (int64_t i = global_thread(); i < tiles * args.dim; i += total_threads()) {
    const int64_t tile = i / args.dim, d = i % args.dim;
    const int64_t tile_begin = tile * kSegmentTileRows, tile_end = tile_begin + kSegmentTileRows;
    const int64_t end = min(tile_end, last_place);
    int64_t place = max(tile_begin, first_place);
    while (place < end) {
      const int64_t segment = args.index[args.order[place]];
      const int64_t segment_end = args.offsets[segment + 1], stop = min(end, segment_end);
      double sum = 0;
      for (; place < stop; ++place) sum += double(load(args.x[args.order[place] * args.dim + d]));
      if (args.offsets[segment] < tile_begin) {
        args.partial[i] = sum;
      } else if (segment_end > tile_end) {
        args.partial[tiles * args.dim + i] = sum;
      } else {
        args.sum[segment * args.dim + d] = store<Compute<T>>(sum);
      }
    }
  }
}

template <class T>
__global__ void segment_sum_combine_kernel(SegmentSumArgs<T> args) {
  const int64_t tiles = segment_sum_tiles(args.rows);
  for (int64_t i = global_thread(); i < args.segments * args.dim; i += total_threads()) {
    const int64_t segment = i / args.dim, d = i % args.dim;
    const int64_t begin = args.offsets[segment], end = args.offsets[segment + 1];
    const int64_t first_tile = begin / kSegmentTileRows, last_tile = (end - 1) / kSegmentTileRows;
    if (begin == end) {
      args.sum[i] = 0;
    } else if (first_tile < last_tile) {
      double sum = args.partial[(tiles + first_tile) * args.dim + d];
      for (int64_t tile = first_tile + 1; tile <= last_tile; ++tile) sum += args.partial[tile * args.dim + d];
      args.sum[i] = store<Compute<T>>(sum);
    }
  }
}

template <class T>
__global__ void segment_sum_backward_kernel(SegmentSumBackwardArgs<T> args) {
  for (int64_t i = global_thread(); i < args.rows * args.dim; i += total_threads()) {
    const int64_t segment = args.index[i / args.dim], d = i % args.dim;
    const bool valid = in_range(segment, args.segments);
    args.grad_x[i] = store<T>(valid ? double(args.grad[segment * args.dim + d]) : 0.0);
  }
}

}  // namespace somvae
