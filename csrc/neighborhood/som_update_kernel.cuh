// CUDA weighted sums of rows, in double. A block of 16 x 16 threads computes 64 targets x 64 columns, 4 x 4 in the
// registers of each thread, over sources that are loaded to shared memory a few at a time. No atomics: each sum belongs
// to one thread.
#pragma once
#include "cuda/launch.cuh"
#include "neighborhood/som_update.h"

namespace somvae {

constexpr int kSumTile = 64;   // targets and columns of a tile
constexpr int kSumDepth = 16;  // sources at a time
constexpr int kSumSide = 16;   // threads along each side; thread (x, y) has targets y + 16 i and columns x + 16 j
constexpr int kSumPerThread = kSumTile / kSumSide;
constexpr int kSumThreads = kSumSide * kSumSide;

// The matrices of one batch of sums: weights [targets, sources] and values [sources, width], rows `pitch` apart.
template <class T>
struct WeightedRows {
  const double* weights;
  int64_t weight_pitch;
  const T* values;
  int64_t value_pitch;
  int64_t targets;
};

template <class B>
__device__ inline void finish_feature(const SomUpdateFinish<B>& finish, int64_t node, int64_t d, double num) {
  const int64_t at = node * finish.dim + d;
  if (finish.codebook == nullptr) {
    finish.out[at] = store<B>(num);
  } else {
    finish.out[at] = finish(num, finish.den_of(node, d), finish.codebook[at]);
  }
}

// The only pass over a full matrix of weights.
template <class T, class B>
struct FullPass {
  SomUpdateArgs<T, B> args;
  int64_t batches, targets, sources, width;

  __device__ WeightedRows<T> rows_of(int64_t) const {
    return {args.weights, args.sources, args.values, args.dim, args.targets};
  }
  __device__ void write(int64_t, int64_t target, int64_t column, double sum) const {
    finish_feature(args.finish, target, column, sum);
  }
};

// The first pass, along the columns of the grid: one batch per source row and phase of a target row. Reads `width`
// features of [rows, columns, dim], the first of them at `values`, and writes partial [phases, rows, columns, width].
template <class T>
struct ColumnPass {
  const T* values;
  int64_t dim;
  GridAxes axes;
  double* partial;
  int64_t batches, targets, sources, width;

  __device__ WeightedRows<T> rows_of(int64_t batch) const {
    const int64_t phase = batch / axes.rows, row = batch % axes.rows, columns = axes.columns;
    const double* weights = axes.column_weights + (row % axes.phases * axes.phases + phase) * columns * columns;
    return {weights, columns, values + row * columns * dim, dim, columns};
  }
  __device__ void write(int64_t batch, int64_t target, int64_t column, double sum) const {
    partial[(batch * axes.columns + target) * width + column] = sum;
  }
};

// The second pass, along the rows of the grid: one batch per phase, with the values partial [rows, columns * features].
template <class B>
struct RowPass {
  const double* partial;
  GridAxes axes;
  SomUpdateFinish<B> finish;
  int64_t first_feature, features;
  int64_t batches, targets, sources, width;

  __device__ WeightedRows<double> rows_of(int64_t phase) const {
    return {axes.row_weights + phase * axes.rows, axes.phases * axes.rows, partial + phase * axes.rows * width, width,
            axes.rows_of_phase(phase)};
  }
  __device__ void write(int64_t phase, int64_t target, int64_t column, double sum) const {
    const int64_t row = phase + target * axes.phases;
    finish_feature(finish, row * axes.columns + column / features, first_feature + column % features, sum);
  }
};

// Budget: 128 registers.
template <class Pass>
__global__ void __launch_bounds__(kSumThreads, 2) weighted_sum_kernel(Pass pass) {
  __shared__ double weights[kSumDepth][kSumTile + 1];  // padded: transposing stores hit different banks
  __shared__ double values[kSumDepth][kSumTile];
  const int x = threadIdx.x % kSumSide, y = threadIdx.x / kSumSide;
  const int64_t target_tiles = (pass.targets + kSumTile - 1) / kSumTile;
  const int64_t column_tiles = (pass.width + kSumTile - 1) / kSumTile;
  for (int64_t tile = blockIdx.x; tile < pass.batches * target_tiles * column_tiles; tile += gridDim.x) {
    const int64_t column0 = tile % column_tiles * kSumTile;
    const int64_t target0 = tile / column_tiles % target_tiles * kSumTile;
    const int64_t batch = tile / column_tiles / target_tiles;
    const auto rows = pass.rows_of(batch);
    double sum[kSumPerThread][kSumPerThread] = {};
    for (int64_t source0 = 0; source0 < pass.sources; source0 += kSumDepth) {
      bool any_weight = false;
      for (int e = threadIdx.x; e < kSumTile * kSumDepth; e += kSumThreads) {
        const int64_t target = target0 + e / kSumDepth, source = source0 + e % kSumDepth;
        const bool inside = target < rows.targets && source < pass.sources;
        const double weight = inside ? rows.weights[target * rows.weight_pitch + source] : 0;
        weights[e % kSumDepth][e / kSumDepth] = weight;
        any_weight = any_weight || weight != 0;
      }
      if (!__syncthreads_or(any_weight)) continue;  // and no thread still reads what the next step overwrites
      for (int e = threadIdx.x; e < kSumTile * kSumDepth; e += kSumThreads) {
        const int64_t source = source0 + e / kSumTile, column = column0 + e % kSumTile;
        const bool inside = source < pass.sources && column < pass.width;
        values[e / kSumTile][e % kSumTile] = inside ? double(rows.values[source * rows.value_pitch + column]) : 0;
      }
      __syncthreads();
      for (int depth = 0; depth < kSumDepth; ++depth) {
        double value[kSumPerThread];
        for (int j = 0; j < kSumPerThread; ++j) value[j] = values[depth][x + kSumSide * j];
        for (int i = 0; i < kSumPerThread; ++i) {
          const double weight = weights[depth][y + kSumSide * i];
          if (weight == 0) continue;
          for (int j = 0; j < kSumPerThread; ++j) sum[i][j] = fma(weight, value[j], sum[i][j]);
        }
      }
      __syncthreads();
    }
#pragma unroll  // keeps the sums in registers, however long `write` is
    for (int i = 0; i < kSumPerThread; ++i) {
#pragma unroll
      for (int j = 0; j < kSumPerThread; ++j) {
        const int64_t target = target0 + y + kSumSide * i, column = column0 + x + kSumSide * j;
        if (target < rows.targets && column < pass.width) pass.write(batch, target, column, sum[i][j]);
      }
    }
  }
}

}  // namespace somvae
