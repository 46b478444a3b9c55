// Keeps the best code, or the best two, of those offered. CPU and CUDA compare by the same rule.
#pragma once
#include <cmath>
#include <cstdint>

#include "device.h"

namespace somvae {

// Whether (score, index) is better than (other, other_index). A NaN score never is, and any other score is better than
// a NaN.
template <class C, class I>
SOMVAE_HOST_DEVICE inline bool better(C score, I index, C other, I other_index) {
  return score < other || (score == other && index < other_index) || (other != other && score == score);
}

template <class C, class I, int k>
struct BestCodes {
  C score[k];
  I index[k];

  SOMVAE_HOST_DEVICE inline void reset() {
    for (int i = 0; i < k; ++i) {
      score[i] = C(NAN);
      index[i] = 0;
    }
  }

  SOMVAE_HOST_DEVICE inline void offer(C s, I i) {
    if (better(s, i, score[0], index[0])) {
      if constexpr (k == 2) {
        score[1] = score[0];
        index[1] = index[0];
      }
      score[0] = s;
      index[0] = i;
    } else if constexpr (k == 2) {
      if (better(s, i, score[1], index[1])) {
        score[1] = s;
        index[1] = i;
      }
    }
  }
};

}  // namespace somvae
