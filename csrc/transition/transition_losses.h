// Log-probability of transitions, and expected squared distance to the codes under the same rows of logits. Launchers
// for CPU and CUDA; no torch here.
#pragma once
#include <cstdint>

#include "dtypes.h"
#include "transition/touched_groups.h"

namespace somvae {

// With p_nj = exp(logits[prev[n], j] - log_normalizer[n]) and d_nj = |z_n - e_j|^2:
//   log_prob[n] = log p_n,cur[n],  expectation[n] = sum_j p_nj d_nj
// in one pass over the logits, with a running maximum and sum; rows with the same prev are processed together. All
// outputs are NaN where prev is out of range, and log_prob also where cur is. The normalizer is double for all T: with
// logits of 1e4, a float would cost the probabilities three digits.
template <class T>
struct TransitionLossesArgs {
  const T* logits;          // [nodes, nodes]
  const int64_t* prev;      // [rows]
  const int64_t* cur;       // [rows]
  const T* z;               // [rows, dim]
  const T* codebook;        // [nodes, dim]
  const int64_t* order;     // [rows] rows sorted by prev
  Compute<T>* log_prob;     // [rows] out
  Compute<T>* expectation;  // [rows] out
  double* log_normalizer;   // [rows] out
  int64_t rows, nodes, dim;
};

// With gl, ge the gradients of log_prob and expectation, and sums over the rows n of the batch:
//   d/d logits[i, j] = sum over prev[n] = i of gl_n ([j == cur[n]] - p_nj) + ge_n p_nj (d_nj - expectation[n])
//   d/d z[n]         = 2 ge_n (z_n - sum_j p_nj e_j)
//   d/d codebook[j]  = 2 sum_n ge_n p_nj (e_j - z_n)
// The last two subtract the mean of the codes from codes and rows before they sum products, so a shared offset costs
// no digits. A row whose prev is out of range gives NaN in grad_z and in its row of a sparse gradient, and is left out
// of the other gradients. A row whose cur is out of range makes its row of the gradient of the logits NaN.
template <class T>
struct TransitionLossesBackwardArgs {
  const Compute<T>* grad_log_prob;     // [rows]
  const Compute<T>* grad_expectation;  // [rows]
  const T* logits;                     // [nodes, nodes]
  const int64_t* prev;                 // [rows]
  const int64_t* cur;                  // [rows]
  const T* z;                          // [rows, dim]
  const T* codebook;                   // [nodes, dim]
  const Compute<T>* expectation;       // [rows]
  const double* log_normalizer;        // [rows]
  TouchedGroups groups;
  T* grad_logits;    // [groups.count, nodes] out if sparse, else [nodes, nodes] in (zeros) and out; null: not wanted
  T* grad_z;         // [rows, dim] out, or null when not wanted
  T* grad_codebook;  // [nodes, dim] out, or null when not wanted
  int64_t rows, nodes, dim;
  bool sparse;
};

// packed is the codebook in panels (cpu/codebook_panels.h); first and last are places in `order`.
template <class T>
void transition_losses_cpu(const TransitionLossesArgs<T>& args, const Compute<T>* packed, int64_t first, int64_t last);

// The CPU's backward pass processes the codes in chunks, each of which sums its share of the mean code of every group.
// The number of chunks, and so the order of these sums, depends on the sizes and the number of groups, not on threads.
template <class C>
struct TransitionBackwardWorkspace {
  double* center;    // [dim] mean of the codes
  C* weighted_rows;  // [groups, pitch] sum over a group's rows of ge_n (z_n - center)
  double* weight;    // [groups] sum over a group's rows of ge_n
  double* mean;      // [chunks, groups, pitch] sum over a chunk's codes of p_gj (e_j - center)
  int64_t pitch;     // dim, rounded up to full vectors
  int64_t chunks;
};
constexpr int64_t kChunkStep = 256;  // chunks consist of blocks of this many codes

template <class T>  // step 1: center, weighted_rows and weight
void transition_losses_backward_prepare_cpu(const TransitionLossesBackwardArgs<T>& args,
                                            const TransitionBackwardWorkspace<Compute<T>>& workspace);
template <class T>  // step 2, by chunks: grad_logits, grad_codebook and the means
void transition_losses_backward_codes_cpu(const TransitionLossesBackwardArgs<T>& args,
                                          const TransitionBackwardWorkspace<Compute<T>>& workspace, int64_t first_chunk,
                                          int64_t last_chunk);
template <class T>  // step 3, by groups: grad_z
void transition_losses_backward_z_cpu(const TransitionLossesBackwardArgs<T>& args,
                                      const TransitionBackwardWorkspace<Compute<T>>& workspace, int64_t first_group,
                                      int64_t last_group);

template <class T>
int64_t transition_losses_cuda_workspace_bytes(const TransitionLossesArgs<T>& args);
template <class T>
void transition_losses_cuda(const TransitionLossesArgs<T>& args, void* workspace, void* stream);
template <class T>
int64_t transition_losses_backward_cuda_workspace_bytes(const TransitionLossesBackwardArgs<T>& args);
template <class T>
void transition_losses_backward_cuda(const TransitionLossesBackwardArgs<T>& args, void* workspace, void* stream);

}  // namespace somvae
