// The head of a map: the losses of each row over its winner and the winner's neighbors, and the winner's code.
// Launchers for CPU and CUDA; no torch here. The ops som_head and som_losses both run these.
#pragma once
#include <cstdint>
#include <vector>

#include "dtypes.h"

namespace somvae {

// With w = index[n]:  quantized[n] = e_w
//                     commitment[n] = |z - e_w|^2
//                     som[n] = |z - e_w|^2 + sum over slots s of |z - e_neighbor|^2
// where an absent neighbor adds |z|^2, or nothing if mask_border. A row whose index is out of range gets NaN.
template <class T>
struct SomHeadArgs {
  const T* z;                // [rows, dim]
  const T* codebook;         // [nodes, dim]
  const int64_t* index;      // [rows]
  const int64_t* neighbors;  // [nodes, slots], -1: none
  T* quantized;              // [rows, dim] out, or null when not wanted
  Compute<T>* commitment;    // [rows] out
  Compute<T>* som;           // [rows] out
  int64_t rows, nodes, slots, dim;
  bool mask_border;
};

// gq, gc and gs are the incoming gradients. A null gradient counts as zero.
//   grad_z[n] = 2 gc (z - e_w), plus gq if straight_through: the SOM term does not move z.
//   grad_codebook[j] = sum over rows won by j of 2 (gc + gs) (e_j - z), plus gq unless straight_through,
//                      + sum over rows won by its neighbors of 2 gs (e_j - z)
// Requires a symmetric neighbor relation without repeats.
template <class T>
struct SomHeadBackwardArgs {
  const T* grad_quantized;            // [rows, dim] or null
  const Compute<T>* grad_commitment;  // [rows] or null
  const Compute<T>* grad_som;         // [rows] or null
  const T* z;                         // [rows, dim]
  const T* codebook;                  // [nodes, dim]
  const int64_t* index;               // [rows]
  const int64_t* neighbors;           // [nodes, slots]
  const int64_t* order;               // [rows] rows sorted by winner, ascending row within a winner
  const int64_t* offsets;             // [nodes + 1]
  T* grad_z;                          // [rows, dim] out, or null when not wanted
  T* grad_codebook;                   // [nodes, dim] out, or null when not wanted
  int64_t rows, nodes, slots, dim;
  bool straight_through;

  // The number of neighbor slots in which a row contributes to the codes' gradients, besides its winner's slot 0.
  SOMVAE_HOST_DEVICE int64_t moving_slots() const { return grad_som != nullptr ? slots : 0; }
  // The gradient of the code in a slot of the row is pull(row, slot) times (code - z).
  SOMVAE_HOST_DEVICE double pull(int64_t row, int64_t slot) const {
    const double commitment = slot == 0 && grad_commitment != nullptr ? double(grad_commitment[row]) : 0.0;
    return 2 * (commitment + (grad_som != nullptr ? double(grad_som[row]) : 0.0));
  }
  SOMVAE_HOST_DEVICE bool pulls() const { return grad_commitment != nullptr || grad_som != nullptr; }
  SOMVAE_HOST_DEVICE const T* grad_gathered() const { return straight_through ? nullptr : grad_quantized; }
  SOMVAE_HOST_DEVICE const T* grad_copied() const { return straight_through ? grad_quantized : nullptr; }
};

template <class T>
void som_head_cpu(const SomHeadArgs<T>& args, int64_t first_row, int64_t last_row);
template <class T>
void som_head_backward_z_cpu(const SomHeadBackwardArgs<T>& args, int64_t first_row, int64_t last_row);
// Returns the nodes whose codes have a gradient, in no particular order: those that won a row and, with grad_som, their
// neighbors. On a large map most nodes have none.
template <class T>
std::vector<int64_t> nodes_with_gradient(const SomHeadBackwardArgs<T>& args);
// Writes the gradients of nodes[first] .. nodes[last - 1] only. The caller zeroes those of other nodes.
template <class T>
void som_head_backward_codebook_cpu(const SomHeadBackwardArgs<T>& args, const int64_t* nodes, int64_t first,
                                    int64_t last);

template <class T>
void som_head_cuda(const SomHeadArgs<T>& args, void* stream);
template <class T>
void som_head_backward_cuda(const SomHeadBackwardArgs<T>& args, void* stream);

}  // namespace somvae
