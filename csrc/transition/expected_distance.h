// Expected squared distance to the codes under a transition row. Launchers for both twins; no torch here.
#pragma once
#include <cstdint>

#include "dtypes.h"

namespace somvae {

// expectation[n] = sum_j p_nj d_nj with p_nj = exp(logits[prev[n], j] - log_normalizer[n]), d_nj = |z_n - e_j|^2.
// NaN where prev is out of range.
template <class T>
struct ExpectedDistanceArgs {
  const T* logits;          // [units, units]
  const int64_t* prev;      // [rows]
  const T* z;               // [rows, dim]
  const T* codebook;        // [units, dim]
  Compute<T>* expectation;  // [rows] out
  double* log_normalizer;   // [rows] out
  int64_t rows, units, dim;
};

// d/d logits[prev[n], j] = grad[n] p_nj (d_nj - expectation[n]), dense or sparse as in transition_log_prob.h
// d/d z[n]               = 2 grad[n] sum_j p_nj (z_n - e_j)
// d/d codebook[j]        = 2 sum_n grad[n] p_nj (e_j - z_n)
// Rows whose prev is out of range give NaN in grad_z and in a sparse gradient, and are left out of the others.
template <class T>
struct ExpectedDistanceBackwardArgs {
  const Compute<T>* grad;         // [rows]
  const T* logits;                // [units, units]
  const int64_t* prev;            // [rows]
  const T* z;                     // [rows, dim]
  const T* codebook;              // [units, dim]
  const Compute<T>* expectation;  // [rows]
  const double* log_normalizer;   // [rows]
  const int64_t* order;           // [rows] rows sorted by prev, ascending row within a group, or null
  const int64_t* offsets;         // [units + 1], or null
  T* grad_logits;                 // [units, units] or [rows, units] out, or null when not wanted
  T* grad_z;                      // [rows, dim] out, or null when not wanted
  T* grad_codebook;               // [units, dim] out, or null when not wanted
  int64_t rows, units, dim;
};

template <class T>  // packed is the codebook in panels (cpu/codebook_panels.h)
void expected_distance_cpu(const ExpectedDistanceArgs<T>& args, const Compute<T>* packed, int64_t first_row,
                           int64_t last_row);
template <class T>  // rows of grad_logits; packed as above
void expected_distance_backward_logits_cpu(const ExpectedDistanceBackwardArgs<T>& args, const Compute<T>* packed,
                                           int64_t first, int64_t last);
template <class T>
void expected_distance_backward_z_cpu(const ExpectedDistanceBackwardArgs<T>& args, int64_t first_row, int64_t last_row);
template <class T>
void expected_distance_backward_codebook_cpu(const ExpectedDistanceBackwardArgs<T>& args, int64_t first_unit,
                                             int64_t last_unit);

template <class T>
void expected_distance_cuda(const ExpectedDistanceArgs<T>& args, void* stream);
template <class T>
void expected_distance_backward_cuda(const ExpectedDistanceBackwardArgs<T>& args, void* stream);

}  // namespace somvae
