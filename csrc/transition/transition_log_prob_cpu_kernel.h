// CPU transition log-probabilities. Compiled once per instruction level by transition_log_prob_cpu.cpp.

#include "cpu/vector.h"
//
#include "cpu/exponential.h"
//
#include "transition/softmax_row_cpu.h"

template <class T>
void transition_log_prob(const TransitionLogProbArgs<T>& args, int64_t first_row, int64_t last_row) {
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t prev = args.prev[row], cur = args.cur[row];
    args.log_normalizer[row] = args.log_prob[row] = NAN;
    if (!in_range(prev, args.units)) continue;
    const T* logits = args.logits + prev * args.units;
    args.log_normalizer[row] = log_sum_exp(logits, args.units);
    if (!in_range(cur, args.units)) continue;
    args.log_prob[row] = static_cast<Compute<T>>(double(load(logits[cur])) - args.log_normalizer[row]);
  }
}

template <class T>
void transition_log_prob_backward(const TransitionLogProbBackwardArgs<T>& args, int64_t first, int64_t last) {
  for_each_gradient_row<T>(args, first, last, [&](const GradientRow& group, const T* logits, double* sum) {
    double total = 0;
    for (int64_t i = 0; i < group.count; ++i) {
      const int64_t row = group.member(i);
      total += in_range(args.cur[row], args.units) ? double(args.grad[row]) : NAN;
    }
    const double log_normalizer = args.log_normalizer[group.member(0)];
    for (int64_t unit = 0; unit < args.units; unit += kLanes) {
      Compute<T> p[kLanes];
      probabilities(logits, unit, args.units, log_normalizer, p);
      const int64_t lanes = args.units - unit < kLanes ? args.units - unit : kLanes;
      for (int64_t l = 0; l < lanes; ++l) sum[unit + l] = -total * double(p[l]);
    }
    for (int64_t i = 0; i < group.count; ++i) {
      const int64_t row = group.member(i);
      if (in_range(args.cur[row], args.units)) sum[args.cur[row]] += double(args.grad[row]);
    }
  });
}
