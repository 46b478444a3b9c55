// Adam on the rows of a table that a gradient touches. Launchers for CPU and CUDA; no torch here.
#pragma once
#include <cstdint>

#include "dtypes.h"

namespace somvae {

// For each touched row r, with g the sum of grad[n] over the n with index[n] = r, in ascending order:
//   exp_avg[r]    += (1 - beta1) (g - exp_avg[r])
//   exp_avg_sq[r]  = beta2 exp_avg_sq[r] + (1 - beta2) g^2
//   param[r]      -= lr / (1 - beta1^step) exp_avg[r] / (sqrt(exp_avg_sq[r] / (1 - beta2^step)) + eps)
// Other rows do not change. An index out of range touches nothing.
template <class T>
struct AdamRowsArgs {
  T* param;                // [rows, width] in, out
  Compute<T>* exp_avg;     // [rows, width] in, out
  Compute<T>* exp_avg_sq;  // [rows, width] in, out
  const T* grad;           // [members, width]
  const int64_t* index;    // [members]
  const int64_t* order;    // [members] members sorted by row, ascending within a row
  const int64_t* offsets;  // [groups + 1]: group t owns order[offsets[t]] .. order[offsets[t + 1] - 1]; may be empty
  const int64_t* step;     // one number, from 1 on; by address, so the host need not wait for CUDA
  const double* lr_value;  // the learning rate, likewise by address; if null, it is lr
  double lr, beta1, beta2, eps;
  int64_t groups, rows, width;
};

// Rows are cut into pieces, so a few long rows keep all threads busy.
constexpr int64_t kAdamPiece = 1024;

inline int64_t adam_pieces(int64_t width) { return (width + kAdamPiece - 1) / kAdamPiece; }

template <class T>  // pieces [first, last) of groups * adam_pieces(width)
void adam_rows_cpu(const AdamRowsArgs<T>& args, int64_t first, int64_t last);

template <class T>
void adam_rows_cuda(const AdamRowsArgs<T>& args, void* stream);

}  // namespace somvae
