// Log-probability and expected squared distance under rows of a local transition table. A row has a logit for each node
// in a window and one more, the remainder, which all nodes outside the window share. Launchers for CPU and CUDA; no
// torch here.
#pragma once
#include <cstdint>

#include "dtypes.h"
#include "transition/codebook_moments.h"
#include "transition/node_window.h"
#include "transition/touched_groups.h"

namespace somvae {

// Inputs of both passes. With the window W of i = prev[n] and K - |W| nodes outside,
//
//   p_j = exp(logits[i, slot of j] - log_normalizer[n])                       for j in W
//   q   = exp(logits[i, slots] - log_normalizer[n]) / (K - |W|)               for any j outside; 0 if W has all nodes
//
// where log_normalizer[n] = logsumexp over the slots that are present and, if any node is outside, the remainder. It is
// double for all T: with logits of 1e4, a float would cost the probabilities three digits.
//
// Samples with the same prev form a group, which shares the softmax of its row.
template <class T>
struct LocalTransition {
  const T* logits;        // [nodes, slots + 1]
  const int64_t* prev;    // [samples]
  const int64_t* cur;     // [samples]
  const T* z;             // [samples, dim]
  const T* codebook;      // [nodes, dim]
  const double* moments;  // [2 dim + 1], see codebook_moments.h
  TouchedGroups groups;
  NodeWindow window;
  int64_t samples, nodes, dim;
};

// log_prob[n]    = log p_cur or log q
// expectation[n] = sum_{j in W} p_j d_j + q sum_{j outside} d_j with d_j = |z_n - e_j|^2; the sum over the nodes
//                  outside is the sum over all nodes, in closed form, minus the sum over W.
// All outputs are NaN where prev is out of range, and log_prob also where cur is.
template <class T>
struct LocalTransitionLossesArgs {
  LocalTransition<T> in;
  Compute<T>* log_prob;     // [samples] out
  Compute<T>* expectation;  // [samples] out
  double* log_normalizer;   // [samples] out
  double* outside;          // [samples] out: q
};

// With u and v the gradients of log_prob and expectation:
//
// d/d logits[i, slot of j] = sum over n with prev[n] = i of  u ([cur = j] - p_j) + v p_j (d_j - expectation)
// d/d logits[i, slots]     = sum over those n of  u ([cur outside] - r) + v (q sum_{j outside} d_j - r expectation)
//                            with r = (K - |W|) q; absent slots have no gradient
// d/d z[n]                 = 2 v (sum_{j in W} (p_j - q) (z_n - e_j) + q sum_j (z_n - e_j)), sum_j in closed form
// d/d codebook[j]          = 2 sum_n v (q_n + [j in W_n] (p_nj - q_n)) (e_j - z_n)
//
// A cur out of range makes its row of the logits' gradient NaN. A sample whose prev is out of range gives NaN in grad_z
// and in a sparse gradient, and is left out of the other gradients.
template <class T>
struct LocalTransitionLossesBackwardArgs {
  LocalTransition<T> in;
  const Compute<T>* grad_log_prob;     // [samples]: u
  const Compute<T>* grad_expectation;  // [samples]: v
  const Compute<T>* expectation;       // [samples]
  const double* log_normalizer;        // [samples]
  const double* outside;               // [samples]
  T* grad_logits;    // [nodes, slots + 1] in (zeros) and out or, if sparse, [groups, slots + 1] out; null: not wanted
  T* grad_z;         // [samples, dim] out, or null
  T* grad_codebook;  // [nodes, dim] out, or null
  bool sparse;
  // Scratch for grad_codebook, else null: sum_n 2 v (z_n - center) and sum_n 2 v of each group. The last row is the sum
  // of the groups' rows, each weighted by its q.
  double* group_sums;  // [groups + 1, dim + 1]
};

// ---- CPU: every prev and cur is in range

template <class T>
void codebook_center_cpu(const CodebookMomentsArgs<T>& args);
template <class T>
void codebook_moments_cpu(const CodebookMomentsArgs<T>& args, int64_t first_chunk, int64_t last_chunk);
template <class T>
void codebook_moments_join_cpu(const CodebookMomentsArgs<T>& args);

template <class T>
void local_transition_losses_cpu(const LocalTransitionLossesArgs<T>& args, int64_t first_group, int64_t last_group);

// The codes that each group of samples pulls toward itself, and by how much more than it pulls every code.
template <class T>
struct WindowPull {
  int64_t* node;         // [groups, slots]: the node in each slot of each group's window, -1 if absent
  Compute<T>* weight;    // [groups, slots]: p - q there
  const int64_t* order;  // [groups * slots]: places in `node` sorted by node, ascending within a node
  const int64_t* begin;  // [nodes + 1]: node j has the places order[begin[j]] .. order[begin[j + 1] - 1]
};

// Computes grad_logits and grad_z and, if grad_codebook is wanted, pull.node, pull.weight and all group_sums but the
// last.
template <class T>
void local_transition_losses_backward_groups_cpu(const LocalTransitionLossesBackwardArgs<T>& args,
                                                 const WindowPull<T>& pull, int64_t first_group, int64_t last_group);
template <class T>  // computes the last of group_sums
void local_transition_losses_backward_join_cpu(const LocalTransitionLossesBackwardArgs<T>& args);
template <class T>
void local_transition_losses_backward_codebook_cpu(const LocalTransitionLossesBackwardArgs<T>& args,
                                                   const WindowPull<T>& pull, int64_t first_node, int64_t last_node);

// ---- CUDA

template <class T>
void codebook_moments_cuda(const CodebookMomentsArgs<T>& args, void* stream);
template <class T>
void local_transition_losses_cuda(const LocalTransitionLossesArgs<T>& args, void* stream);
template <class T>  // group_of [nodes] is scratch for grad_codebook, initially -1
void local_transition_losses_backward_cuda(const LocalTransitionLossesBackwardArgs<T>& args, int64_t* group_of,
                                           void* stream);

}  // namespace somvae
