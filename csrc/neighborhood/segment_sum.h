// Sums of the rows that each unit won. Launchers for both twins; no torch here.
#pragma once
#include <cstdint>

#include "dtypes.h"

namespace somvae {

// Rows of a segment are added in ascending order, in double, whatever the threads.
template <class T>
struct SegmentSumArgs {
  const T* x;              // [rows, dim]
  const int64_t* order;    // [rows] rows sorted by segment, ascending row within a segment
  const int64_t* offsets;  // [segments + 1] segment j owns order[offsets[j]] .. order[offsets[j + 1] - 1]
  Compute<T>* sum;         // [segments, dim] out
  int64_t rows, segments, dim;
};

// grad_x[n] = grad[index[n]].
template <class T>
struct SegmentSumBackwardArgs {
  const Compute<T>* grad;  // [segments, dim]
  const int64_t* index;    // [rows]; a row whose index is out of range gets zeros
  T* grad_x;               // [rows, dim] out
  int64_t rows, segments, dim;
};

template <class T>
void segment_sum_cpu(const SegmentSumArgs<T>& args, int64_t first_segment, int64_t last_segment);
template <class T>
void segment_sum_backward_cpu(const SegmentSumBackwardArgs<T>& args, int64_t first_row, int64_t last_row);

template <class T>
void segment_sum_cuda(const SegmentSumArgs<T>& args, void* stream);
template <class T>
void segment_sum_backward_cuda(const SegmentSumBackwardArgs<T>& args, void* stream);

}  // namespace somvae
