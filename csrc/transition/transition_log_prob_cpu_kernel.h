// CPU transition log-probabilities. Compiled once per instruction level by transition_log_prob_cpu.cpp.

#include "transition/softmax_row_cpu.h"

template <class T>
void transition_log_prob(const TransitionLogProbArgs<T>& args, int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t prev = args.prev[row], cur = args.cur[row];
    if (!in_range(prev, args.units) || !in_range(cur, args.units)) {
      args.log_prob[row] = args.log_normalizer[row] = NAN;
      continue;
    }
    const T* logits = args.logits + prev * args.units;
    args.log_normalizer[row] = log_sum_exp(logits, args.units);
    args.log_prob[row] = static_cast<Compute<T>>(double(load(logits[cur])) - args.log_normalizer[row]);
  }
}

template <class T>
void transition_log_prob_backward(const TransitionLogProbBackwardArgs<T>& args, int64_t first, int64_t last) {
  double* sum = new double[args.units];
  for (int64_t r = first; r < last; ++r) {
    const GradientRow group = gradient_row(args, r);
    T* out = args.grad_logits + r * args.units;
    if (group.count == 0 || !in_range(group.unit, args.units)) {
      for (int64_t j = 0; j < args.units; ++j) out[j] = store<T>(group.count == 0 ? 0.0 : NAN);
      continue;
    }
    double total = 0;
    for (int64_t i = 0; i < group.count; ++i) total += double(args.grad[group.member(i)]);
    const T* logits = args.logits + group.unit * args.units;
    const double log_normalizer = args.log_normalizer[group.member(0)];
    for (int64_t j = 0; j < args.units; ++j) sum[j] = -total * double(probability(logits[j], log_normalizer));
    for (int64_t i = 0; i < group.count; ++i) {
      const int64_t row = group.member(i);
      if (in_range(args.cur[row], args.units)) sum[args.cur[row]] += double(args.grad[row]);
    }
    for (int64_t j = 0; j < args.units; ++j) out[j] = store<T>(sum[j]);
  }
  delete[] sum;
}
