// CUDA transition log-probabilities: one block per row of logits.
#pragma once
#include "index_range.h"
#include "transition/gradient_row.h"
#include "transition/softmax_row.cuh"
#include "transition/transition_log_prob.h"

namespace somvae {

template <class T>
__global__ void __launch_bounds__(kRowThreads) transition_log_prob_kernel(TransitionLogProbArgs<T> args) {
  __shared__ double scratch[kRowThreads / 32];
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const int64_t prev = args.prev[row], cur = args.cur[row];
    double log_normalizer = NAN, log_prob = NAN;
    if (in_range(prev, args.units)) {  // the same for the whole block
      const T* logits = args.logits + prev * args.units;
      log_normalizer = log_sum_exp(logits, args.units, scratch);
      if (in_range(cur, args.units)) log_prob = double(load(logits[cur])) - log_normalizer;
    }
    if (threadIdx.x == 0) {
      args.log_normalizer[row] = log_normalizer;
      args.log_prob[row] = static_cast<Compute<T>>(log_prob);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kRowThreads)
    transition_log_prob_backward_kernel(TransitionLogProbBackwardArgs<T> args) {
  const int64_t rows = gradient_rows(args);
  for (int64_t r = blockIdx.x; r < rows; r += gridDim.x) {
    const GradientRow group = gradient_row(args, r);
    const bool valid = in_range(group.unit, args.units);
    const double log_normalizer = group.count > 0 ? args.log_normalizer[group.member(0)] : 0;
    for (int64_t j = threadIdx.x; j < args.units; j += kRowThreads) {
      double sum = 0;
      if (group.count > 0) {
        const double p = valid ? double(probability(args.logits[group.unit * args.units + j], log_normalizer)) : NAN;
        for (int64_t i = 0; i < group.count; ++i) {
          const int64_t row = group.member(i);
          const double indicator = !in_range(args.cur[row], args.units) ? NAN : args.cur[row] == j ? 1 : 0;
          sum += double(args.grad[row]) * (indicator - p);
        }
      }
      args.grad_logits[r * args.units + j] = store<T>(sum);
    }
  }
}

}  // namespace somvae
