// Sums over all codes that give the sum of squared distances to all codes in closed form:
//
//   sum_j |z - e_j|^2 = K |z - c|^2 - 2 (z - c) . sum_j (e_j - c) + sum_j |e_j - c|^2      for any center c
//
// With a center amid the codes, an offset that data and codes share costs no digits. The center is the mean of at most
// kCenterCodes evenly spaced codes, so the kernels read the whole codebook only once.
#pragma once
#include <cstdint>

#include "device.h"
#include "dtypes.h"

namespace somvae {

constexpr int64_t kCenterCodes = 1024;
constexpr int64_t kMomentCodes = 1024;  // codes of a chunk, which one CPU thread or one CUDA block sums

// Each chunk of the codebook is summed separately. Then the chunks' sums are added in ascending order.
SOMVAE_HOST_DEVICE inline int64_t moment_chunks(int64_t codes) { return (codes + kMomentCodes - 1) / kMomentCodes; }

// The center is the mean of codes 0, stride, 2 stride, ...
SOMVAE_HOST_DEVICE inline int64_t center_stride(int64_t codes) { return (codes + kCenterCodes - 1) / kCenterCodes; }
SOMVAE_HOST_DEVICE inline int64_t center_count(int64_t codes) {
  return codes == 0 ? 0 : (codes - 1) / center_stride(codes) + 1;
}

// The parts of `moments`, an array of 2 dim + 1 values.
struct CodebookMoments {
  const double* center;    // [dim]
  const double* residual;  // [dim]: sum_j (e_j - center)
  const double* spread;    // [1]: sum_j |e_j - center|^2

  SOMVAE_HOST_DEVICE CodebookMoments(const double* values, int64_t dim)
      : center(values), residual(values + dim), spread(values + 2 * dim) {}
};

template <class T>
struct CodebookMomentsArgs {
  const T* codebook;  // [codes, dim]
  double* partial;    // [moment_chunks(codes), 2 dim] scratch: each chunk's residual and sum of squares by feature
  double* moments;    // [2 dim + 1] out
  int64_t codes, dim;
};

}  // namespace somvae
