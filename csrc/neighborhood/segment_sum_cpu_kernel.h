// CPU segment sums. Compiled once per instruction level by segment_sum_cpu.cpp.

#include "cpu/feature_block.h"

template <class T>
void segment_sum(const SegmentSumArgs<T>& args, int64_t first_segment, int64_t last_segment) {
  for (int64_t segment = first_segment; segment < last_segment; ++segment) {
    for_each_feature_block(args.dim, [&](int64_t d, auto n) {
      FeatureSum sum;
      for (int64_t i = args.offsets[segment]; i < args.offsets[segment + 1]; ++i) {
        sum.add(args.x + args.order[i] * args.dim + d, n);
      }
      sum.write(args.sum + segment * args.dim + d, n);
    });
  }
}

template <class T>
void segment_sum_backward(const SegmentSumBackwardArgs<T>& args, int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t segment = args.index[row];
    const bool valid = in_range(segment, args.segments);
    T* out = args.grad_x + row * args.dim;
    for (int64_t d = 0; d < args.dim; ++d) out[d] = store<T>(valid ? double(args.grad[segment * args.dim + d]) : 0.0);
  }
}
