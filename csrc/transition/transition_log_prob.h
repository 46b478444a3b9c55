// Log-probability of transitions under a row softmax of a table of logits. Launchers for CPU and CUDA; no torch here.
#pragma once
#include <cstdint>

#include "dtypes.h"
#include "transition/touched_groups.h"

namespace somvae {

// log_prob[n] = logits[prev, cur] - log_normalizer[n], log_normalizer[n] = logsumexp_j logits[prev, j].
// Both are NaN where prev is out of range, and log_prob also where cur is. On the CPU, rows with the same prev share
// one pass over their logits.
template <class T>
struct TransitionLogProbArgs {
  const T* logits;         // [nodes, nodes]
  const int64_t* prev;     // [rows]
  const int64_t* cur;      // [rows]
  const int64_t* order;    // [rows] rows sorted by prev; used on the CPU only
  Compute<T>* log_prob;    // [rows] out
  double* log_normalizer;  // [rows] out
  int64_t rows, nodes;
};

// d loss / d logits[prev[n], j] = grad[n] ([j == cur[n]] - softmax_j), summed over the rows n that share prev. A row
// whose prev is out of range gives NaN in its row of a sparse gradient and is left out of a dense one. A row whose cur
// is out of range makes its row of the gradient NaN.
template <class T>
struct TransitionLogProbBackwardArgs {
  const Compute<T>* grad;        // [rows]
  const T* logits;               // [nodes, nodes]
  const int64_t* prev;           // [rows]
  const int64_t* cur;            // [rows]
  const double* log_normalizer;  // [rows]
  TouchedGroups groups;
  T* grad_logits;  // [groups.count, nodes] out if sparse, else [nodes, nodes] in (zeros) and out
  int64_t rows, nodes;
  bool sparse;
};

template <class T>  // first and last are places in `order`
void transition_log_prob_cpu(const TransitionLogProbArgs<T>& args, int64_t first, int64_t last);
template <class T>
void transition_log_prob_backward_cpu(const TransitionLogProbBackwardArgs<T>& args, int64_t first_group,
                                      int64_t last_group);

template <class T>
void transition_log_prob_cuda(const TransitionLogProbArgs<T>& args, void* stream);
template <class T>
void transition_log_prob_backward_cuda(const TransitionLogProbBackwardArgs<T>& args, void* stream);

}  // namespace somvae
