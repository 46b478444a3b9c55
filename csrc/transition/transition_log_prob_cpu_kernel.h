// CPU transition log-probabilities. Compiled once per instruction level by transition_log_prob_cpu.cpp.

#include "cpu/vector.h"

#include "cpu/exponential.h"
#include "cpu/scratch.h"

#include "transition/softmax_row_cpu.h"

template <class T>
void transition_log_prob(const TransitionLogProbArgs<T>& args, int64_t first, int64_t last) {
  double log_normalizer = NAN;
  for (int64_t place = first; place < last; ++place) {
    const int64_t row = args.order[place], prev = args.prev[row], cur = args.cur[row];
    const bool valid = in_range(prev, args.nodes);
    const T* logits = args.logits + (valid ? prev : 0) * args.nodes;
    if (place == first || args.prev[args.order[place - 1]] != prev) {
      log_normalizer = valid ? log_sum_exp(logits, args.nodes) : NAN;
    }
    args.log_normalizer[row] = log_normalizer;
    args.log_prob[row] =
        valid && in_range(cur, args.nodes) ? static_cast<Compute<T>>(double(load(logits[cur])) - log_normalizer) : NAN;
  }
}

template <class T>
void transition_log_prob_backward(const TransitionLogProbBackwardArgs<T>& args, int64_t first_group,
                                  int64_t last_group) {
  const TouchedGroups& groups = args.groups;
  const Scratch<double> sum(args.nodes);
  for (int64_t g = first_group; g < last_group; ++g) {
    const int64_t begin = groups.offsets[g], end = groups.offsets[g + 1];
    if (begin == end) continue;
    const int64_t prev = args.prev[groups.order[begin]];
    T* out = args.grad_logits + groups.gradient_row(g, args.sparse) * args.nodes;
    if (!in_range(prev, args.nodes)) {
      for (int64_t j = 0; args.sparse && j < args.nodes; ++j) out[j] = store<T>(NAN);
      continue;
    }
    double total = 0;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = groups.order[i];
      total += in_range(args.cur[row], args.nodes) ? double(args.grad[row]) : NAN;
    }
    for (int64_t node = 0; node < args.nodes; node += kLanes) {
      Compute<T> p[kLanes];
      probabilities(args.logits + prev * args.nodes, node, args.nodes, args.log_normalizer[groups.order[begin]], p);
      const int64_t lanes = std::min<int64_t>(kLanes, args.nodes - node);
      for (int64_t l = 0; l < lanes; ++l) sum[node + l] = -total * double(p[l]);
    }
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = groups.order[i];
      if (in_range(args.cur[row], args.nodes)) sum[args.cur[row]] += double(args.grad[row]);
    }
    for (int64_t j = 0; j < args.nodes; ++j) out[j] = store<T>(sum[j]);
  }
}
