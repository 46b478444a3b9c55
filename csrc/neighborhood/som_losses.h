// Commitment and SOM loss of each row over its winner and the winner's neighbours. Launchers for both twins; no torch.
#pragma once
#include <cstdint>

#include "dtypes.h"

namespace somvae {

// With w = index[n]:  commitment[n] = |z - e_w|^2
//                     som[n] = |z - e_w|^2 + sum over slots s of |z - e_neighbor|^2
// where an absent neighbour adds |z|^2, or nothing if mask_border. A row whose index is out of range gets NaN.
template <class T>
struct SomLossesArgs {
  const T* z;                // [rows, dim]
  const T* codebook;         // [units, dim]
  const int64_t* index;      // [rows]
  const int64_t* neighbors;  // [units, slots], -1: none
  Compute<T>* commitment;    // [rows] out
  Compute<T>* som;           // [rows] out
  int64_t rows, units, slots, dim;
  bool mask_border;
};

// grad_z[n] = 2 gc (z - e_w): the SOM term does not move z.
// grad_codebook[j] = sum over rows won by j of 2 (gc + gs) (e_j - z) + sum over rows won by its neighbours of 2 gs (e_j
// - z). Needs a symmetric neighbour relation without repeats.
template <class T>
struct SomLossesBackwardArgs {
  const Compute<T>* grad_commitment;  // [rows]
  const Compute<T>* grad_som;         // [rows]
  const T* z;                         // [rows, dim]
  const T* codebook;                  // [units, dim]
  const int64_t* index;               // [rows]
  const int64_t* neighbors;           // [units, slots]
  const int64_t* order;               // [rows] rows sorted by winner, ascending row within a winner
  const int64_t* offsets;             // [units + 1]
  T* grad_z;                          // [rows, dim] out, or null when not wanted
  T* grad_codebook;                   // [units, dim] out, or null when not wanted
  int64_t rows, units, slots, dim;
};

template <class T>
void som_losses_cpu(const SomLossesArgs<T>& args, int64_t first_row, int64_t last_row);
template <class T>
void som_losses_backward_z_cpu(const SomLossesBackwardArgs<T>& args, int64_t first_row, int64_t last_row);
template <class T>
void som_losses_backward_codebook_cpu(const SomLossesBackwardArgs<T>& args, int64_t first_unit, int64_t last_unit);

template <class T>
void som_losses_cuda(const SomLossesArgs<T>& args, void* stream);
template <class T>
void som_losses_backward_cuda(const SomLossesBackwardArgs<T>& args, void* stream);

}  // namespace somvae
