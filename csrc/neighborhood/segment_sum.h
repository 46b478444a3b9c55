// Sums of the rows that each node won. Launchers for CPU and CUDA; no torch here.
//
// Rows are added in double, in an order that depends on the sizes and the index alone, not on the threads. The CPU
// either scatters the rows, in memory order, into sums that fit in its caches, or gathers the rows of one segment after
// another. CUDA always gathers.
#pragma once
#include <cstdint>

#include "device.h"
#include "dtypes.h"

namespace somvae {

// The rows are cut into `chunks` ranges of equal length. Each range is added in ascending order into its own sums, and
// these sums are added in ascending order.
template <class T>
struct SegmentScatterArgs {
  const T* x;            // [rows, dim]
  const int64_t* index;  // [rows]; a row whose index is out of range is left out
  double* chunk_sum;     // [chunks, segments, dim] scratch
  int64_t* chunk_count;  // [chunks, segments] scratch
  Compute<T>* sum;       // [segments, dim] out
  int64_t* count;        // [segments] out
  int64_t rows, segments, dim, chunks;
};

template <class T>
struct SegmentSumArgs {
  const T* x;              // [rows, dim]
  const int64_t* index;    // [rows]
  const int64_t* order;    // [rows] rows sorted by segment, ascending row within a segment
  const int64_t* offsets;  // [segments + 1] segment j owns order[offsets[j]] .. order[offsets[j + 1] - 1]
  double* partial;         // [2, tiles, dim] scratch, on CUDA only; tiles = segment_sum_tiles(rows)
  Compute<T>* sum;         // [segments, dim] out
  int64_t rows, segments, dim;
};

// On CUDA, one thread per feature adds kSegmentTileRows consecutive places of `order`.
constexpr int64_t kSegmentTileRows = 64;
SOMVAE_HOST_DEVICE inline int64_t segment_sum_tiles(int64_t rows) {
  return (rows + kSegmentTileRows - 1) / kSegmentTileRows;
}

// grad_x[n] = grad[index[n]].
template <class T>
struct SegmentSumBackwardArgs {
  const Compute<T>* grad;  // [segments, dim]
  const int64_t* index;    // [rows]; a row whose index is out of range gets zeros
  T* grad_x;               // [rows, dim] out
  int64_t rows, segments, dim;
};

// Fills chunk_sum for features [first_feature, last_feature) of one chunk, and chunk_count too if first_feature is 0.
template <class T>
void segment_scatter_cpu(const SegmentScatterArgs<T>& args, int64_t chunk, int64_t first_feature, int64_t last_feature);
// Adds the chunks after all of them are filled.
template <class T>
void segment_combine_cpu(const SegmentScatterArgs<T>& args, int64_t first_segment, int64_t last_segment);
template <class T>
void segment_sum_cpu(const SegmentSumArgs<T>& args, int64_t first_segment, int64_t last_segment);
template <class T>
void segment_sum_backward_cpu(const SegmentSumBackwardArgs<T>& args, int64_t first_row, int64_t last_row);

template <class T>
void segment_sum_cuda(const SegmentSumArgs<T>& args, void* stream);
template <class T>
void segment_sum_backward_cuda(const SegmentSumBackwardArgs<T>& args, void* stream);

}  // namespace somvae
