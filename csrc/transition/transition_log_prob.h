// Log-probability of transitions under a row softmax of a table of logits. Launchers for both twins; no torch here.
#pragma once
#include <cstdint>

#include "dtypes.h"

namespace somvae {

// log_prob[n] = logits[prev, cur] - log_normalizer[n], log_normalizer[n] = logsumexp_j logits[prev, j].
// NaN where prev (both) or cur (log_prob) is out of range. The normalizer is double for all T: at logits of 1e4 a float
// one would cost the probabilities three digits.
template <class T>
struct TransitionLogProbArgs {
  const T* logits;         // [units, units]
  const int64_t* prev;     // [rows]
  const int64_t* cur;      // [rows]
  Compute<T>* log_prob;    // [rows] out
  double* log_normalizer;  // [rows] out
  int64_t rows, units;
};

// d loss / d logits[prev[n], j] = grad[n] ([j == cur[n]] - softmax_j), summed over the rows n that share prev.
// Dense: grad_logits is the [units, units] table (all of it is written); order and offsets group the rows by prev.
// A row n whose cur is out of range makes its row of the gradient NaN.
// Sparse: order and offsets are null and grad_logits is [rows, units], one row per n.
template <class T>
struct TransitionLogProbBackwardArgs {
  const Compute<T>* grad;        // [rows]
  const T* logits;               // [units, units]
  const int64_t* prev;           // [rows]
  const int64_t* cur;            // [rows]
  const double* log_normalizer;  // [rows]
  const int64_t* order;          // [rows] rows sorted by prev, ascending row within a group, or null
  const int64_t* offsets;        // [units + 1], or null
  T* grad_logits;                // [units, units] or [rows, units] out
  int64_t rows, units;
};

template <class T>
void transition_log_prob_cpu(const TransitionLogProbArgs<T>& args, int64_t first_row, int64_t last_row);
template <class T>  // rows of grad_logits
void transition_log_prob_backward_cpu(const TransitionLogProbBackwardArgs<T>& args, int64_t first, int64_t last);

template <class T>
void transition_log_prob_cuda(const TransitionLogProbArgs<T>& args, void* stream);
template <class T>
void transition_log_prob_backward_cuda(const TransitionLogProbBackwardArgs<T>& args, void* stream);

}  // namespace somvae
