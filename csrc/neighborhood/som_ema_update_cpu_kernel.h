// CPU moving averages: one pass over the sums and their averages, a node at a time. Compiled once per instruction level
// by som_ema_update_cpu.cpp.

#include "cpu/vector.h"

// Loads a vector of a row from feature d on, in the averages' type, with zeros past the end.
template <class A, class T>
SOMVAE_ALWAYS_INLINE typename Simd<A>::Vector load_features(const T* row, int64_t d, int64_t dim) {
  constexpr int lanes = Simd<A>::lanes;
  typedef T Values __attribute__((vector_size(lanes * sizeof(T))));
  Values values = {};
  if (d + lanes <= dim) {
    __builtin_memcpy(&values, row + d, sizeof values);
  } else {
    for (int64_t i = 0; d + i < dim; ++i) values[i] = row[d + i];
  }
  return __builtin_convertvector(values, typename Simd<A>::Vector);
}

// x - x is zero for finite x, else NaN.
template <class A, class T>
bool finite_row(const T* row, int64_t dim) {
  typename Simd<A>::Vector check = {};
  for (int64_t d = 0; d < dim; d += Simd<A>::lanes) {
    const auto values = load_features<A>(row, d, dim);
    check += values - values;
  }
  for (int i = 0; i < Simd<A>::lanes; ++i) {
    if (check[i] != 0) return false;
  }
  return true;
}

template <class A, class T>
void moving_average(const MovingAverageArgs<A, T>& args, int64_t first_chunk, int64_t last_chunk) {
  constexpr int lanes = Simd<A>::lanes;
  const MovingAverage<A> average(args.decay);
  const int64_t dim = args.dim;
  for (int64_t chunk = first_chunk; chunk < last_chunk; ++chunk) {
    const int64_t begin = chunk * kMovingAverageChunk, left = args.nodes - begin;
    double total = 0;
    for (int64_t node = begin; node < begin + (left < kMovingAverageChunk ? left : kMovingAverageChunk); ++node) {
      const T* const sum = args.sum + node * dim;
      A* const ema_sum = args.ema_sum + node * dim;
      const A count = A(args.count[node]);
      const bool finite = count - count == 0 && finite_row<A>(sum, dim);
      args.ema_count[node] = average(args.ema_count[node], finite ? count : A(0));
      total += double(args.ema_count[node]);
      for (int64_t d = 0; d < dim; d += lanes) {
        auto mean = average.decay * load_features<A>(ema_sum, d, dim);
        if (finite) mean += average.share * load_features<A>(sum, d, dim);
        if (d + lanes <= dim) {
          __builtin_memcpy(ema_sum + d, &mean, sizeof mean);
        } else {
          for (int64_t i = 0; d + i < dim; ++i) ema_sum[d + i] = mean[i];
        }
      }
    }
    args.chunk_total[chunk] = total;
  }
}
