// Bounds which codes can win a row, given scores from a fast first pass. Plain C++ for CPU and CUDA.
//
// The winner is defined by exact scores E (bmu.h): float64, rounded after every operation. A first pass computes scores
// F in type C, fused or not, in any order. Both differ from the true distance S by a bounded error:
//
//   F: Each difference is rounded once, which counts twice in its square. The square is rounded at most once. Each of
//      the D squares takes part in at most D - 1 additions. So, with u = eps / 2 of C and m its smallest normal number,
//        |F - S| <= g S + t,   where g = (D + 2) u / (1 - (D + 2) u) and t = 4 D m.
//      The term t covers squares and sums that are flushed to zero. Features and differences below m may count as zero
//      too. A difference is then off by at most 3 m, and its square by at most 2^-60 of itself or 2^67 m^2, whichever
//      is larger. The former is much less than u times the square, the latter much less than m.
//   E: The same holds with h, which is g of float64, in place of g, and with a t that is at most that of C.
//
// Let U be the least F of all codes, i its code, and j the winner. Then E_j <= E_i, and
//
//   F_j <= (1 + g) S_j + t <= (1 + g) / (1 - h) (E_j + t) + t,      E_j <= E_i <= (1 + h) / (1 - g) (U + t) + t,
//   so   F_j <= (1 + g) (1 + h) / ((1 - g) (1 - h)) (U + 4 t).                                                (limit)
//
// S_j does not exceed this limit either, because S_j <= (E_j + t) / (1 - h). The limit also holds for any larger U: it
// suffices that the F of one code does not exceed U or, for the best two codes, that the F of two codes do not.
//
// An infinite score exceeds every finite limit, and rightly so: with an unbounded exponent, it would exceed the largest
// number of C. If all scores are infinite, the limit is infinite too, and every code without a NaN score is a
// candidate. E and F are NaN for the same codes: those with a NaN feature, or with an infinite feature where that of
// the row is infinite too. Where (D + 2) u is not below 1/8 (in float32, for D beyond 2^21), g is of little use and the
// limit is infinite.
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
      // The factor takes about ten roundings in float64 and one to C, a limit two more in C: 16 u covers all of them.
      factor_ = static_cast<C>((1 + g) * (1 + h) / ((1 - g) * (1 - h)) * (1 + 16 * u));
      tiny_ = static_cast<C>(32 * double(dim + 1) * std::numeric_limits<C>::min());
    }
  }

  SOMVAE_HOST_DEVICE C operator()(C best) const { return best * factor_ + tiny_; }

 private:
  C factor_ = 1, tiny_ = std::numeric_limits<C>::infinity();
};

}  // namespace somvae
