// Exponential moving averages of the counts and sums of the rows that each node won. Launchers for CPU and CUDA; no
// torch here. The codes follow from these averages by the weighted sums of som_update.h.
#pragma once
#include <cmath>
#include <cstdint>

#include "device.h"
#include "dtypes.h"

namespace somvae {

// For each node u:
//   ema_count[u] = decay ema_count[u] + (1 - decay) count[u]
//   ema_sum[u]   = decay ema_sum[u] + (1 - decay) sum[u]
// A node with a statistic that is not finite in the averages' type is treated as having won no rows.
template <class A, class T>  // float or double each
struct MovingAverageArgs {
  A* ema_count;         // [nodes] in, out
  A* ema_sum;           // [nodes, dim] in, out
  const double* count;  // [nodes]
  const T* sum;         // [nodes, dim]
  double* chunk_total;  // [moving_average_chunks(nodes)] out: sum of the averaged counts of a chunk's nodes, in order
  double decay;
  int64_t nodes, dim;
};

constexpr int64_t kMovingAverageChunk = 8;  // nodes
SOMVAE_HOST_DEVICE inline int64_t moving_average_chunks(int64_t nodes) {
  return (nodes + kMovingAverageChunk - 1) / kMovingAverageChunk;
}

// least = share * the mean of the averaged counts
struct LeastCountArgs {
  const double* chunk_total;  // [chunks]
  double* least;              // one number, out
  double share;
  int64_t nodes, chunks;
};

template <class A>
struct MovingAverage {
  A decay, share;  // their sum is exactly 1, after rounding

  SOMVAE_HOST_DEVICE explicit MovingAverage(double decay) : decay(A(decay)), share(A(1) - A(decay)) {}
  // Not old + share * (value - old): the difference of two large values may overflow, and an average that has become
  // infinite stays so.
  SOMVAE_HOST_DEVICE A operator()(A old, A value) const { return decay * old + share * value; }
};

template <class A, class T>
void moving_average_cpu(const MovingAverageArgs<A, T>& args, int64_t first_chunk, int64_t last_chunk);
void least_count_cpu(const LeastCountArgs& args);

template <class A, class T>
void moving_average_cuda(const MovingAverageArgs<A, T>& args, void* stream);
void least_count_cuda(const LeastCountArgs& args, void* stream);

}  // namespace somvae
