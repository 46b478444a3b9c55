// The smallest scores of a row in one thread, and their reduction over the threads of a tile (score_tiles.cuh).
#pragma once
#include <cstdint>
#include <type_traits>

#include "bmu/score_tiles.cuh"
#include "cuda/reduce.cuh"

namespace somvae {

// A score's bits as an unsigned number. Scores are >= 0, so the bits are ordered like the scores, with every NaN beyond
// infinity: one comparison of bits also handles NaN.
template <class S>
using ScoreBits = std::conditional_t<std::is_same_v<S, double>, uint64_t, uint32_t>;

__device__ inline uint32_t score_bits(float score) { return __float_as_uint(score); }
__device__ inline uint64_t score_bits(double score) { return static_cast<uint64_t>(__double_as_longlong(score)); }
__device__ inline float score_of(uint32_t bits) { return __uint_as_float(bits); }
__device__ inline double score_of(uint64_t bits) { return __longlong_as_double(static_cast<long long>(bits)); }

template <class S>
constexpr ScoreBits<S> kNoScore = sizeof(S) == 4 ? ScoreBits<S>(0x7f800001u) : ScoreBits<S>(0x7ff0000000000001ull);

// The k smallest scores with their codes.
template <class S, int k>
struct SmallestScores {
  using Bits = ScoreBits<S>;

  Bits bits[k];
  int index[k];

  __device__ inline void reset() {
    for (int n = 0; n < k; ++n) {
      bits[n] = kNoScore<S>;
      index[n] = 0;
    }
  }

  // Offers the score of a code whose index is larger than those before it, so that equal scores keep the smaller index.
  // Returns the score that is left out, the largest of the k + 1.
  __device__ inline Bits offer_next(Bits b, int i) {
    return insert(b, i, [](Bits p, int, Bits q, int) { return p < q; });
  }
  __device__ inline void offer(const SmallestScores& other) {
    for (int n = 0; n < k; ++n) offer(other.bits[n], other.index[n]);
  }

  __device__ inline SmallestScores of_lane_across(int offset) const {
    SmallestScores other;
    for (int n = 0; n < k; ++n) {
      other.bits[n] = __shfl_xor_sync(kFullWarp, bits[n], offset);
      other.index[n] = __shfl_xor_sync(kFullWarp, index[n], offset);
    }
    return other;
  }

  __device__ inline Bits offer(Bits b, int i) {
    return insert(b, i, [](Bits p, int pi, Bits q, int qi) { return p < q || (p == q && pi < qi); });
  }

 private:
  template <class Before>
  __device__ inline Bits insert(Bits b, int i, Before before) {
    const bool first = before(b, i, bits[0], index[0]);
    Bits rest = first ? bits[0] : b;
    if constexpr (k == 2) {
      const bool second = before(b, i, bits[1], index[1]);
      rest = second ? bits[1] : b;
      bits[1] = first ? bits[0] : second ? b : bits[1];
      index[1] = first ? index[0] : second ? i : index[1];
    }
    bits[0] = first ? b : bits[0];
    index[0] = first ? i : index[0];
    return rest;
  }
};

// The k smallest scores with their codes, and the next smallest score.
template <int k>
struct SmallestAndNext {
  SmallestScores<float, k> smallest;
  uint32_t next;

  __device__ inline void reset() {
    smallest.reset();
    next = kNoScore<float>;
  }
  __device__ inline void offer_next(uint32_t b, int i) { lower(smallest.offer_next(b, i)); }
  __device__ inline void offer(const SmallestAndNext& other) {
    for (int n = 0; n < k; ++n) lower(smallest.offer(other.smallest.bits[n], other.smallest.index[n]));
    lower(other.next);
  }
  __device__ inline SmallestAndNext of_lane_across(int offset) const {
    return {smallest.of_lane_across(offset), __shfl_xor_sync(kFullWarp, next, offset)};
  }

 private:
  __device__ inline void lower(uint32_t bits) { next = bits < next ? bits : next; }
};

// Joins the smallest scores of sixteen threads, which have seen different codes of the same rows. Thread x gets those
// of row x / (16 / rows). Each exchange halves the rows of a thread, which keeps the number of exchanged values small.
template <class Smallest, int rows>
__device__ inline Smallest share_out(Smallest (&smallest)[rows], int x) {
  int offset = kScoreSide / 2;
#pragma unroll
  for (int half = rows / 2; half > 0; half /= 2, offset /= 2) {
    const bool upper = x & offset;
    for (int i = 0; i < half; ++i) {
      const Smallest outgoing = upper ? smallest[i] : smallest[i + half];
      if (upper) smallest[i] = smallest[i + half];
      smallest[i].offer(outgoing.of_lane_across(offset));
    }
  }
#pragma unroll
  for (; offset > 0; offset /= 2) smallest[0].offer(smallest[0].of_lane_across(offset));
  return smallest[0];
}

// Returns the smallest scores of a tile (score_tiles.cuh) for the row that share_out assigns to this thread.
template <class Smallest, class S, int rows, int codes>
__device__ inline Smallest smallest_of_tile(const S (&score)[rows][codes], int tile, int64_t code_count) {
  const int x = threadIdx.x % kScoreSide;
  // Indices fit into 32 bits, and registers are scarce.
  const unsigned code0 = static_cast<unsigned>(tile) * (codes * kScoreSide) + x,
                 end = static_cast<unsigned>(code_count);
  Smallest smallest[rows];
  for (int i = 0; i < rows; ++i) {
    smallest[i].reset();
    for (int j = 0; j < codes; ++j) {
      const unsigned code = code0 + kScoreSide * j;
      smallest[i].offer_next(code < end ? score_bits(score[i][j]) : kNoScore<S>, static_cast<int>(code));
    }
  }
  return share_out(smallest, x);
}

}  // namespace somvae
