// CPU Adam on rows: one pass over parameter and both moments. Compiled once per instruction level by adam_rows_cpu.cpp.

#include "cpu/vector.h"

// Loads the first `count` lanes of a vector and sets the others to zero.
template <class T, class Vector>
SOMVAE_ALWAYS_INLINE void load_lanes(const T* from, int64_t count, Vector& to) {
  constexpr int lanes = Simd<Compute<T>>::lanes;
  Compute<T> values[lanes] = {};
  for (int l = 0; l < (count < lanes ? count : lanes); ++l) values[l] = load(from[l]);
  __builtin_memcpy(&to, values, sizeof to);
}

template <class T, class Vector>
SOMVAE_ALWAYS_INLINE void store_lanes(const Vector& from, int64_t count, T* to) {
  constexpr int lanes = Simd<Compute<T>>::lanes;
  for (int l = 0; l < (count < lanes ? count : lanes); ++l) to[l] = store<T>(from[l]);
}

// Updates a vector of values, or part of one at the end of a row, with the same operations on every value.
template <class G, class T>
SOMVAE_ALWAYS_INLINE void adam_lanes(const AdamStep<Compute<T>>& step, const G* gradient, int64_t count, T* param,
                                     Compute<T>* exp_avg, Compute<T>* exp_avg_sq) {
  typename Simd<Compute<T>>::Vector g, mean, square, value;
  load_lanes(gradient, count, g);
  load_lanes(exp_avg, count, mean);
  load_lanes(exp_avg_sq, count, square);
  load_lanes(param, count, value);
  mean += step.one_minus_beta1 * (g - mean);
  square = step.beta2 * square + step.one_minus_beta2 * g * g;
  value -= step.rate * mean / (square_roots(square) * step.correction + step.eps);
  store_lanes(mean, count, exp_avg);
  store_lanes(square, count, exp_avg_sq);
  store_lanes(value, count, param);
}

template <class G, class T>
void adam_piece(const AdamStep<Compute<T>>& step, const G* gradient, int64_t count, T* param, Compute<T>* exp_avg,
                Compute<T>* exp_avg_sq) {
  constexpr int lanes = Simd<Compute<T>>::lanes;
  int64_t j = 0;
  for (; j + lanes <= count; j += lanes) {
    adam_lanes(step, gradient + j, lanes, param + j, exp_avg + j, exp_avg_sq + j);
  }
  if (j < count) adam_lanes(step, gradient + j, count - j, param + j, exp_avg + j, exp_avg_sq + j);
}

template <class T>
void adam_rows(const AdamRowsArgs<T>& args, const AdamStep<Compute<T>>& step, int64_t first, int64_t last) {
  const int64_t pieces = adam_pieces(args.width);
  Compute<T> sum[kAdamPiece];  // of the gradients of a row that occurs more than once
  for (int64_t i = first; i < last; ++i) {
    const int64_t group = i / pieces, begin = i % pieces * kAdamPiece;
    const int64_t* member = args.order + args.offsets[group];
    const int64_t* const end = args.order + args.offsets[group + 1];
    if (member == end || !in_range(args.index[*member], args.rows)) continue;
    const int64_t count = args.width - begin < kAdamPiece ? args.width - begin : kAdamPiece;
    const int64_t at = args.index[*member] * args.width + begin;
    const T* const gradient = args.grad + *member * args.width + begin;
    if (++member == end) {
      adam_piece(step, gradient, count, args.param + at, args.exp_avg + at, args.exp_avg_sq + at);
      continue;
    }
    for (int64_t j = 0; j < count; ++j) sum[j] = load(gradient[j]);
    for (; member != end; ++member) {
      const T* const next = args.grad + *member * args.width + begin;
      for (int64_t j = 0; j < count; ++j) sum[j] += load(next[j]);
    }
    adam_piece(step, sum, count, args.param + at, args.exp_avg + at, args.exp_avg_sq + at);
  }
}
