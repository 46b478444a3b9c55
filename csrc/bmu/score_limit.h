// Bounds which codes can win a row, given scores that are computed fast. Plain C++ for CPU and CUDA.
//
// The winner is defined by exact scores E (bmu.h): float64, rounded after every operation. A search computes scores F
// in type C, fused or not, in any order. Both are within a bound of the true distance S.
//
//   F: a difference is rounded once, which counts twice in its square, the square is rounded at most once, and each
//      of D terms takes part in at most D - 1 sums: with u = eps / 2 of C, g = (D + 2) u / (1 - (D + 2) u),
//        |F - S| <= g S + t,   t = 4 D times the smallest normal number m of C: squares and sums that are flushed to 0.
//      Rows, codes and differences below m may count as zero, too: then a difference is off by up to 3 m, and its
//      square by 2^-60 of itself or by 2^67 m^2, which is much less than u of it or than m.
//   E: likewise with h, the g of float64, and a t that is at most that of C.
//
// Let U be the least F of all codes, at code i, and j the winner. Then E_j <= E_i, and
//
//   F_j <= (1 + g) S_j + t <= (1 + g) / (1 - h) (E_j + t) + t,      E_j <= E_i <= (1 + h) / (1 - g) (U + t) + t,
//   so   F_j <= (1 + g) (1 + h) / ((1 - g) (1 - h)) (U + 4 t).                                                (limit)
//
// S_j does not exceed it either: S_j <= (E_j + t) / (1 - h). Any U that the F of some code does not exceed will do; for
// the best two codes, any U that the F of two codes does not exceed.
//
// An infinite score exceeds every finite limit, as it should: with an unbounded exponent it would exceed the largest
// number of C. If all scores are infinite, so is the limit, and every code without a NaN score is a candidate. E and F
// are NaN for the same codes: those with a NaN feature, or an infinite one where the row's is infinite too. For D
// beyond 2^21, g is of little use and the limit is infinite.
#pragma once
#include <cstdint>
#include <limits>

#include "device.h"

namespace somvae {

// gamma_n = n u / (1 - n u), the relative error of n roundings.
inline double rounding(double n, double u) { return n * u / (1 - n * u); }

template <class C>
constexpr double kRoundoff = std::numeric_limits<C>::epsilon() / 2;

template <class C>
class ScoreLimit {
 public:
  ScoreLimit() = default;  // every code can win
  explicit ScoreLimit(int64_t dim) {
    const double terms = double(dim + 2), u = kRoundoff<C>;
    if (terms * u < 0.125) {  // so that the factor is below 2
      const double g = rounding(terms, u), h = rounding(terms, kRoundoff<double>);
      // The factor is computed with about ten roundings of float64 and one to C, and a limit with two in C: 16 u are
      // more than all of them.
      factor_ = static_cast<C>((1 + g) * (1 + h) / ((1 - g) * (1 - h)) * (1 + 16 * u));
      tiny_ = static_cast<C>(32 * double(dim + 1) * std::numeric_limits<C>::min());
    }
  }

  SOMVAE_HOST_DEVICE C operator()(C best) const { return best * factor_ + tiny_; }

 private:
  C factor_ = 1, tiny_ = std::numeric_limits<C>::infinity();
};

}  // namespace somvae
