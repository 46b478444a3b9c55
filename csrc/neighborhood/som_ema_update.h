// Exponential moving averages of what the nodes of a map win. Launchers for both twins; no torch here. The codes follow
// by the weighted sums of som_update.h.
#pragma once
#include <cmath>
#include <cstdint>

#include "device.h"
#include "dtypes.h"

namespace somvae {

// For each node u:
//   ema_count[u] = decay ema_count[u] + (1 - decay) count[u]
//   ema_sum[u]   = decay ema_sum[u] + (1 - decay) sum[u]
// where a node of which any of these statistics is not finite in the averages' type has won nothing: 0 and zeros.
template <class A, class T>  // float or double each
struct MovingAverageArgs {
  A* ema_count;         // [nodes] in, out
  A* ema_sum;           // [nodes, dim] in, out
  const double* count;  // [nodes]
  const T* sum;         // [nodes, dim]
  double* chunk_total;  // [moving_average_chunks(nodes)] out: the averaged counts of a chunk's nodes, added up in order
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
  A kept, fresh;  // which are 1 together, rounded as they are

  SOMVAE_HOST_DEVICE explicit MovingAverage(double decay) : kept(A(decay)), fresh(A(1) - A(decay)) {}
  // Not old + fresh * (value - old): the difference of two large values may overflow, and an average keeps an infinity.
  SOMVAE_HOST_DEVICE A operator()(A old, A value) const { return kept * old + fresh * value; }
};

template <class A, class T>
void moving_average_cpu(const MovingAverageArgs<A, T>& args, int64_t first_chunk, int64_t last_chunk);
void least_count_cpu(const LeastCountArgs& args);

template <class A, class T>
void moving_average_cuda(const MovingAverageArgs<A, T>& args, void* stream);
void least_count_cuda(const LeastCountArgs& args, void* stream);

}  // namespace somvae
