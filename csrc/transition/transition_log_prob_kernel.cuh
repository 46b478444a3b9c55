// CUDA transition log-probabilities: one block per row of logits.
#pragma once
#include "index_range.h"
#include "transition/softmax_row.cuh"
#include "transition/transition_log_prob.h"

namespace somvae {

template <class T>
__global__ void __launch_bounds__(kRowThreads) transition_log_prob_kernel(TransitionLogProbArgs<T> args) {
  __shared__ double scratch[kRowThreads / 32];
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const int64_t prev = args.prev[row], cur = args.cur[row];
    double log_normalizer = NAN, log_prob = NAN;
    if (in_range(prev, args.nodes)) {  // the same for the whole block
      const T* logits = args.logits + prev * args.nodes;
      log_normalizer = log_sum_exp(logits, args.nodes, scratch);
      if (in_range(cur, args.nodes)) log_prob = double(load(logits[cur])) - log_normalizer;
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
  const TouchedGroups& groups = args.groups;
  for (int64_t g = blockIdx.x; g < groups.count; g += gridDim.x) {
    const int64_t begin = groups.offsets[g], end = groups.offsets[g + 1];
    if (begin == end && !args.sparse) continue;
    const int64_t prev = begin < end ? args.prev[groups.order[begin]] : 0;
    const bool valid = in_range(prev, args.nodes);
    if (!valid && !args.sparse) continue;
    const double log_normalizer = begin < end ? args.log_normalizer[groups.order[begin]] : 0;
    T* const out = args.grad_logits + groups.gradient_row(g, args.sparse) * args.nodes;
    for (int64_t j = threadIdx.x; j < args.nodes; j += kRowThreads) {
      double sum = 0;
      if (begin < end) {
        const double p = valid ? double(probability(args.logits[prev * args.nodes + j], log_normalizer)) : NAN;
        for (int64_t place = begin; place < end; ++place) {
          const int64_t row = groups.order[place];
          const double indicator = !in_range(args.cur[row], args.nodes) ? NAN : args.cur[row] == j ? 1 : 0;
          sum += double(args.grad[row]) * (indicator - p);
        }
      }
      out[j] = store<T>(sum);
    }
  }
}

}  // namespace somvae
