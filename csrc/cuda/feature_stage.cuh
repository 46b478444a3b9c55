// Stages a few features of many items (rows or codes) in shared memory.
#pragma once
#include <cstdint>
#include <type_traits>

#include "cuda/async_copy.cuh"
#include "device.h"
#include "dtypes.h"

namespace somvae {

// The 16 bytes that a thread copies and reads at once.
template <class C>
struct alignas(16) FeatureChunk {
  static constexpr int kSize = 16 / sizeof(C);
  C feature[kSize];
};

// Consecutive features of one item, padded by one chunk. The stride of 5 chunks is odd, so eight threads that read the
// same chunk of eight consecutive items have no bank conflict.
template <class C>
struct FeatureStage {
  static constexpr int kChunks = 4;
  static constexpr int kDepth = kChunks * FeatureChunk<C>::kSize;
  FeatureChunk<C> chunk[kChunks + 1];
};

template <class T, int count>
struct alignas(sizeof(T) * count) FeatureVector {
  T feature[count];
};

// Whether copy_features may copy whole chunks of this matrix to FeatureStage<C>.
template <class C, class T>
inline bool chunks_are_aligned(const T* matrix, int64_t dim) {
  constexpr int size = FeatureChunk<C>::kSize;
  return dim % size == 0 && reinterpret_cast<uintptr_t>(matrix) % (size * sizeof(T)) == 0;
}

// Starts copying features [d0, d0 + kDepth) of `items` items to `stage`, in the compute type. Item i is row row_of(i)
// of matrix [., dim], or zeros if row_of(i) is negative. Features past the end are zeros too. Features of another type
// are converted and copied synchronously. All `threads` threads of the block must call it.
template <int items, int threads, class C, class T, class RowOf>
__device__ inline void copy_features(FeatureStage<C>* stage, const T* matrix, int64_t d0, int64_t dim, bool aligned,
                                     RowOf row_of) {
  constexpr int kChunks = FeatureStage<C>::kChunks, kSize = FeatureChunk<C>::kSize;
  static_assert(threads % kChunks == 0);
  const int chunk = threadIdx.x % kChunks;
  const int64_t first = d0 + chunk * kSize;
#pragma unroll 1
  for (int item = threadIdx.x / kChunks; item < items; item += threads / kChunks) {
    const int64_t row = row_of(item);
    const bool present = row >= 0;
    const T* from = matrix + (present ? row * dim : 0);
    FeatureChunk<C>& to = stage[item].chunk[chunk];
    if constexpr (std::is_same_v<T, C>) {
      if (aligned) {
        const bool inside = present && first < dim;
        async_copy<16>(&to, inside ? from + first : matrix, inside);
      } else {
        for (int e = 0; e < kSize; ++e) {
          const bool inside = present && first + e < dim;
          async_copy<sizeof(C)>(&to.feature[e], inside ? from + first + e : matrix, inside);
        }
      }
    } else {
      FeatureChunk<C> converted = {};
      if (present && aligned && first < dim) {
        const auto loaded = *reinterpret_cast<const FeatureVector<T, kSize>*>(from + first);
        for (int e = 0; e < kSize; ++e) converted.feature[e] = load(loaded.feature[e]);
      } else if (present && !aligned) {
        for (int e = 0; e < kSize; ++e) converted.feature[e] = first + e < dim ? load(from[first + e]) : C(0);
      }
      to = converted;
    }
  }
}

}  // namespace somvae
