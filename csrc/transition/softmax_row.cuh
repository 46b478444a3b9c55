// The softmax of one row of logits, by one block.
#pragma once
#include <cstdint>

#include "cuda/reduce.cuh"
#include "dtypes.h"

namespace somvae {

constexpr int kRowThreads = 128;  // per block, of kernels with one block per row of logits

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }

// Joins the sums of a block's threads, where a thread's `sum` is that of exp(logit - largest) over its logits: returns
// the logarithm of the total of sum * exp(largest) over all threads.
__device__ inline double join_softmax(double largest, double sum, double* scratch) {
  const double block_largest = block_reduce<Maximum, kRowThreads>(largest, scratch);
  if (block_largest == double(-INFINITY)) return block_reduce<Sum, kRowThreads>(sum, scratch) + block_largest;
  const double scale = sum == 0 ? 0 : exp(largest - block_largest);
  return block_largest + log(block_reduce<Sum, kRowThreads>(sum * scale, scratch));
}

// log sum_j exp(row[j]), in one pass with a running maximum and sum: finite for finite logits of any size, -inf if all
// are -inf, NaN if one is NaN or +inf. All threads of the block call it and get the result; `scratch` holds a value per
// warp.
template <class T>
__device__ inline double log_sum_exp(const T* __restrict__ row, int64_t nodes, double* scratch) {
  using C = Compute<T>;
  C largest = -INFINITY;
  double sum = 0;  // of exp(logit - largest)
  for (int64_t j = threadIdx.x; j < nodes; j += kRowThreads) {
    const C logit = load(row[j]);
    if (logit > largest) {
      if (largest != C(-INFINITY)) sum *= double(exponential(largest - logit));  // otherwise it is 0 or NaN
      largest = logit;
    }
    if (logit != C(-INFINITY)) sum += double(exponential(logit - largest));  // -inf adds 0, where -inf - -inf is NaN
  }
  return join_softmax(double(largest), sum, scratch);
}

template <class T>
__device__ inline Compute<T> probability(T logit, double log_normalizer) {
  return exponential(static_cast<Compute<T>>(double(load(logit)) - log_normalizer));
}

}  // namespace somvae
