// Codes of the winner and its grid neighbors. Launchers for CPU and CUDA; no torch here.
#pragma once
#include <cstdint>

#include "dtypes.h"

namespace somvae {

// out[n, 0] = codebook[index[n]], out[n, 1 + s] = codebook[neighbors[index[n], s]], or zeros where the neighbor is -1.
// A row whose index is out of range gets NaN.
template <class T>
struct SomGatherArgs {
  const T* codebook;         // [nodes, dim]
  const int64_t* index;      // [rows]
  const int64_t* neighbors;  // [nodes, slots], -1: none
  T* out;                    // [rows, 1 + slots, dim] out
  int64_t rows, nodes, slots, dim;
};

// grad_codebook[j] = sum of the matching slot of grad over the rows that j won and those that its neighbors won.
// Requires a symmetric neighbor relation (j in neighbors[w] if and only if w in neighbors[j]) without repeats.
template <class T>
struct SomGatherBackwardArgs {
  const T* grad;             // [rows, 1 + slots, dim]
  const int64_t* neighbors;  // [nodes, slots]
  const int64_t* order;      // [rows] rows sorted by winner, ascending row within a winner
  const int64_t* offsets;    // [nodes + 1]
  T* grad_codebook;          // [nodes, dim] out
  int64_t rows, nodes, slots, dim;
};

template <class T>
void som_gather_cpu(const SomGatherArgs<T>& args, int64_t first_row, int64_t last_row);
template <class T>
void som_gather_backward_cpu(const SomGatherBackwardArgs<T>& args, int64_t first_node, int64_t last_node);

template <class T>
void som_gather_cuda(const SomGatherArgs<T>& args, void* stream);
template <class T>
void som_gather_backward_cuda(const SomGatherBackwardArgs<T>& args, void* stream);

}  // namespace somvae
