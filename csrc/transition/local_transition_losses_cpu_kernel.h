// CPU local transitions. Compiled once per instruction level by local_transition_losses_cpu.cpp.

#include "cpu/vector.h"

#include "cpu/exponential.h"
#include "cpu/feature_block.h"
#include "cpu/scratch.h"

#include "transition/softmax_row_cpu.h"

// |z - code|^2 in double: sixteen partial sums over d mod 16, added in a tree.
template <class T>
inline double distance_in_double(const double* z, const T* code, int64_t dim) {
  constexpr int lanes = 16;
  double sum[lanes] = {};
  int64_t d = 0;
  for (; d + lanes <= dim; d += lanes) {
    for (int l = 0; l < lanes; ++l) {
      const double difference = z[d + l] - double(load(code[d + l]));
      sum[l] += difference * difference;
    }
  }
  for (int l = 0; d + l < dim; ++l) {
    const double difference = z[d + l] - double(load(code[d + l]));
    sum[l] += difference * difference;
  }
  for (int half = lanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) sum[l] += sum[l + half];
  }
  return sum[0];
}

// The sum of squared distances of z to all codes.
template <class T>
inline double distance_to_all(const LocalTransition<T>& in, const double* z) {
  const CodebookMoments moments(in.moments, in.dim);
  double square = 0, product = 0;
  for (int64_t d = 0; d < in.dim; ++d) {
    const double centered = z[d] - moments.center[d];
    square += centered * centered;
    product += centered * moments.residual[d];
  }
  return double(in.nodes) * square - 2 * product + *moments.spread;
}

// The nodes in the window of one row, without absent slots, and the logits of its softmax.
template <class T>
struct WindowRow {
  using C = Compute<T>;
  Scratch<int64_t> node, slot;  // [present]
  Scratch<C> logit;             // [entries]: of those nodes, then the remainder if it takes part
  Scratch<C> probability;       // [present], padded to whole vectors
  int64_t present = 0, entries = 0, outside = 0;

  explicit WindowRow(const NodeWindow& window)
      : node(window.slots), slot(window.slots), logit(window.slots + 1), probability(window.slots + kLanes) {}

  void read(const LocalTransition<T>& in, int64_t prev) {
    const T* row = in.logits + prev * (in.window.slots + 1);
    present = 0;
    for (int64_t s = 0; s < in.window.slots; ++s) {
      const int64_t near = window_node(in.window, prev, s);
      if (near < 0) continue;
      node[present] = near;
      slot[present] = s;
      logit[present++] = load(row[s]);
    }
    outside = in.nodes - present;
    logit[present] = load(row[in.window.slots]);
    entries = present + (outside > 0 ? 1 : 0);
  }

  double remainder() const { return double(logit[present]); }

  void compute_probabilities(double log_normalizer) const {
    for (int64_t k = 0; k < present; k += kLanes) {
      C values[kLanes];
      probabilities(logit.data, k, present, log_normalizer, values);
      __builtin_memcpy(probability.data + k, values, sizeof values);
    }
  }

  // The place of node `target` among the nodes that are present, or -1.
  int64_t find(int64_t target) const {
    for (int64_t k = 0; k < present; ++k) {
      if (node[k] == target) return k;
    }
    return -1;
  }
};

// The encoding of one sample, in double.
struct Encoding {
  Scratch<double> value;
  int64_t dim;
  explicit Encoding(int64_t dim) : value(dim), dim(dim) {}

  template <class T>
  void read(const T* z) const {
    for (int64_t d = 0; d < dim; ++d) value[d] = double(load(z[d]));
  }
};

// ---- moments of the codebook

template <class T>
void codebook_center(const CodebookMomentsArgs<T>& args) {
  const int64_t stride = center_stride(args.codes), count = center_count(args.codes);
  for_each_feature_block(args.dim, [&](int64_t d, auto n) {
    FeatureSum sum;
    for (int64_t i = 0; i < count; ++i) sum.add(args.codebook + i * stride * args.dim + d, n);
    for (int k = 0; k < n; ++k) args.moments[d + k] = count > 0 ? sum.value[k] / double(count) : 0;
  });
}

template <class T>
void codebook_moments(const CodebookMomentsArgs<T>& args, int64_t first_chunk, int64_t last_chunk) {
  for (int64_t chunk = first_chunk; chunk < last_chunk; ++chunk) {
    const int64_t first = chunk * kMomentCodes;
    const int64_t last = first + kMomentCodes < args.codes ? first + kMomentCodes : args.codes;
    double* partial = args.partial + chunk * 2 * args.dim;
    for_each_feature_block(args.dim, [&](int64_t d, auto n) {
      double center[kFeatureBlock], residual[kFeatureBlock] = {}, square[kFeatureBlock] = {};
      for (int k = 0; k < n; ++k) center[k] = args.moments[d + k];
      for (int64_t j = first; j < last; ++j) {
        const T* code = args.codebook + j * args.dim + d;
        for (int k = 0; k < n; ++k) {
          const double difference = double(load(code[k])) - center[k];
          residual[k] += difference;
          square[k] += difference * difference;
        }
      }
      for (int k = 0; k < n; ++k) {
        partial[d + k] = residual[k];
        partial[args.dim + d + k] = square[k];
      }
    });
  }
}

template <class T>
void codebook_moments_join(const CodebookMomentsArgs<T>& args) {
  double* residual = args.moments + args.dim;
  double spread = 0;
  for (int64_t d = 0; d < args.dim; ++d) residual[d] = 0;
  for (int64_t chunk = 0; chunk < moment_chunks(args.codes); ++chunk) {
    const double* partial = args.partial + chunk * 2 * args.dim;
    for (int64_t d = 0; d < args.dim; ++d) residual[d] += partial[d];
    for (int64_t d = 0; d < args.dim; ++d) spread += partial[args.dim + d];
  }
  args.moments[2 * args.dim] = spread;
}

// ---- forward

template <class T>
void local_transition_losses(const LocalTransitionLossesArgs<T>& args, int64_t first_group, int64_t last_group) {
  using C = Compute<T>;
  const LocalTransition<T>& in = args.in;
  WindowRow<T> row(in.window);
  const Encoding z(in.dim);
  for (int64_t group = first_group; group < last_group; ++group) {
    const int64_t begin = in.groups.offsets[group], end = in.groups.offsets[group + 1];
    if (begin == end) continue;
    const int64_t prev = in.prev[in.groups.order[begin]];
    if (!in_range(prev, in.nodes)) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t sample = in.groups.order[i];
        args.log_prob[sample] = args.expectation[sample] = NAN;
        args.log_normalizer[sample] = args.outside[sample] = NAN;
      }
      continue;
    }
    row.read(in, prev);
    const double log_normalizer = log_sum_exp(row.logit.data, row.entries);
    const double nodes_outside = double(row.outside);
    const double q = row.outside > 0 ? std::exp(row.remainder() - log_normalizer) / nodes_outside : 0;
    row.compute_probabilities(log_normalizer);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t sample = in.groups.order[i], cur = in.cur[sample], hit = row.find(cur);
      args.log_normalizer[sample] = log_normalizer;
      args.outside[sample] = q;
      const double logit = hit >= 0                  ? double(row.logit[hit])
                           : in_range(cur, in.nodes) ? row.remainder() - std::log(nodes_outside)
                                                     : NAN;
      args.log_prob[sample] = static_cast<C>(logit - log_normalizer);
      z.read(in.z + sample * in.dim);
      double expectation = q > 0 ? q * distance_to_all(in, z.value.data) : 0;
      for (int64_t k = 0; k < row.present; ++k) {
        const double distance = distance_in_double(z.value.data, in.codebook + row.node[k] * in.dim, in.dim);
        expectation += (double(row.probability[k]) - q) * distance;
      }
      args.expectation[sample] = static_cast<C>(expectation);
    }
  }
}

// ---- backward

// Computes the gradient of a group's row of logits, the gradients of its samples' encodings, and its group_sums: each
// only if it is wanted.
template <class T>
void backward_group(const LocalTransitionLossesBackwardArgs<T>& args, int64_t group, const WindowRow<T>& row,
                    const Encoding& z, double* grad_present, double* grad_remainder) {
  const LocalTransition<T>& in = args.in;
  const CodebookMoments moments(in.moments, in.dim);
  for (int64_t k = 0; k < row.present; ++k) grad_present[k] = 0;
  *grad_remainder = 0;
  double sum_log_prob = 0;
  for (int64_t i = in.groups.offsets[group]; i < in.groups.offsets[group + 1]; ++i) {
    const int64_t sample = in.groups.order[i];
    const double u = in_range(in.cur[sample], in.nodes) ? double(args.grad_log_prob[sample]) : NAN;
    const double v = double(args.grad_expectation[sample]);
    const double q = args.outside[sample], expectation = double(args.expectation[sample]);
    z.read(in.z + sample * in.dim);

    if (args.grad_logits != nullptr) {
      sum_log_prob += u;
      double near = 0;  // the sum of the distances to the window's codes
      for (int64_t k = 0; k < row.present; ++k) {
        const double distance = distance_in_double(z.value.data, in.codebook + row.node[k] * in.dim, in.dim);
        near += distance;
        grad_present[k] += v * double(row.probability[k]) * (distance - expectation);
      }
      const int64_t hit = row.find(in.cur[sample]);
      *(hit >= 0 ? grad_present + hit : grad_remainder) += u;
      if (q > 0) {
        const double far = distance_to_all(in, z.value.data) - near;
        *grad_remainder += v * q * (far - double(row.outside) * expectation) - u * q * double(row.outside);
      }
    }

    if (args.grad_z != nullptr) {
      for_each_feature_block(in.dim, [&](int64_t d, auto n) {
        double sum[kFeatureBlock];
        for (int l = 0; l < n; ++l) {
          sum[l] = q * (double(in.nodes) * (z.value[d + l] - moments.center[d + l]) - moments.residual[d + l]);
        }
        for (int64_t k = 0; k < row.present; ++k) {
          const double weight = double(row.probability[k]) - q;
          const T* code = in.codebook + row.node[k] * in.dim + d;
          for (int l = 0; l < n; ++l) sum[l] += weight * (z.value[d + l] - double(load(code[l])));
        }
        T* out = args.grad_z + sample * in.dim + d;
        for (int l = 0; l < n; ++l) out[l] = store<T>(2 * v * sum[l]);
      });
    }

    if (args.group_sums != nullptr) {
      double* sums = args.group_sums + group * (in.dim + 1);
      for (int64_t d = 0; d < in.dim; ++d) sums[d] += 2 * v * (z.value[d] - moments.center[d]);
      sums[in.dim] += 2 * v;
    }
  }
  if (args.grad_logits == nullptr) return;
  for (int64_t k = 0; k < row.present; ++k) grad_present[k] -= sum_log_prob * double(row.probability[k]);
}

template <class T>
void local_transition_losses_backward_groups(const LocalTransitionLossesBackwardArgs<T>& args,
                                             const WindowPull<T>& pull, int64_t first_group, int64_t last_group) {
  const LocalTransition<T>& in = args.in;
  const int64_t slots = in.window.slots;
  WindowRow<T> row(in.window);
  const Encoding z(in.dim);
  const Scratch<double> grad(slots + 1);
  for (int64_t group = first_group; group < last_group; ++group) {
    double* sums = args.group_sums == nullptr ? nullptr : args.group_sums + group * (in.dim + 1);
    if (sums != nullptr) {
      for (int64_t d = 0; d <= in.dim; ++d) sums[d] = 0;
      for (int64_t s = 0; s < slots; ++s) pull.node[group * slots + s] = -1;
    }
    const int64_t begin = in.groups.offsets[group], end = in.groups.offsets[group + 1];
    if (begin == end) continue;
    T* out = args.grad_logits == nullptr ? nullptr
                                         : args.grad_logits + in.groups.gradient_row(group, args.sparse) * (slots + 1);
    const int64_t sample = in.groups.order[begin], prev = in.prev[sample];
    if (!in_range(prev, in.nodes)) {
      for (int64_t s = 0; out != nullptr && args.sparse && s <= slots; ++s) out[s] = store<T>(NAN);
      for (int64_t i = begin; i < end; ++i) {
        T* grad_z = args.grad_z == nullptr ? nullptr : args.grad_z + in.groups.order[i] * in.dim;
        for (int64_t d = 0; grad_z != nullptr && d < in.dim; ++d) grad_z[d] = store<T>(NAN);
      }
      continue;
    }
    row.read(in, prev);
    row.compute_probabilities(args.log_normalizer[sample]);
    backward_group(args, group, row, z, grad.data, grad.data + slots);
    if (out != nullptr) {
      for (int64_t s = 0; s <= slots; ++s) out[s] = store<T>(0);
      for (int64_t k = 0; k < row.present; ++k) out[row.slot[k]] = store<T>(grad[k]);
      if (row.outside > 0) out[slots] = store<T>(grad[slots]);
    }
    if (sums != nullptr) {
      for (int64_t k = 0; k < row.present; ++k) {
        const int64_t place = group * slots + row.slot[k];
        pull.node[place] = row.node[k];
        pull.weight[place] = static_cast<Compute<T>>(double(row.probability[k]) - args.outside[sample]);
      }
    }
  }
}

template <class T>
void local_transition_losses_backward_join(const LocalTransitionLossesBackwardArgs<T>& args) {
  const LocalTransition<T>& in = args.in;
  double* total = args.group_sums + in.groups.count * (in.dim + 1);
  for (int64_t d = 0; d <= in.dim; ++d) total[d] = 0;
  for (int64_t group = 0; group < in.groups.count; ++group) {
    const int64_t begin = in.groups.offsets[group];
    if (begin == in.groups.offsets[group + 1]) continue;
    const double q = args.outside[in.groups.order[begin]];
    if (q != q) continue;  // prev is out of range
    const double* sums = args.group_sums + group * (in.dim + 1);
    for (int64_t d = 0; d <= in.dim; ++d) total[d] += q * sums[d];
  }
}

template <class T>
void local_transition_losses_backward_codebook(const LocalTransitionLossesBackwardArgs<T>& args,
                                               const WindowPull<T>& pull, int64_t first_node, int64_t last_node) {
  const LocalTransition<T>& in = args.in;
  const double* center = CodebookMoments(in.moments, in.dim).center;
  const double* total = args.group_sums + in.groups.count * (in.dim + 1);
  for (int64_t node = first_node; node < last_node; ++node) {
    for_each_feature_block(in.dim, [&](int64_t d, auto n) {
      // sum_n w_n (e - z_n) = (sum_n w_n) (e - center) - sum_n w_n (z_n - center)
      double weight = total[in.dim], sum[kFeatureBlock];
      for (int l = 0; l < n; ++l) sum[l] = total[d + l];
      for (int64_t i = pull.begin[node]; i < pull.begin[node + 1]; ++i) {
        const double share = double(pull.weight[pull.order[i]]);
        const double* sums = args.group_sums + pull.order[i] / in.window.slots * (in.dim + 1);
        weight += share * sums[in.dim];
        for (int l = 0; l < n; ++l) sum[l] += share * sums[d + l];
      }
      const T* code = in.codebook + node * in.dim + d;
      T* out = args.grad_codebook + node * in.dim + d;
      for (int l = 0; l < n; ++l) out[l] = store<T>(weight * (double(load(code[l])) - center[d + l]) - sum[l]);
    });
  }
}
