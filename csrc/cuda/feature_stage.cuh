// Features of many items (rows or codes) on their way through shared memory, a few at a time.
#pragma once
#include <cstdint>
#include <type_traits>

#include "cuda/async_copy.cuh"
#include "device.h"
#include "dtypes.h"

namespace somvae {

// 16 bytes, what a thread copies and reads at once.
template <class C>
struct alignas(16) FeatureChunk {
  static constexpr int kSize = 16 / sizeof(C);
  C feature[kSize];
};

// Consecutive features of one item. One chunk more than is used: items then begin in different banks, and eight threads
// that read the same chunk of eight consecutive items meet no conflict, because 5 is odd.
template <class C>
struct FeatureStage {
  static constexpr int kChunks = 4;
  static constexpr int kDepth = kChunks * FeatureChunk<C>::kSize;
  FeatureChunk<C> chunk[kChunks + 1];
};

template <class T, int count>
struct alignas(sizeof(T) * count) SomeFeatures {
  T feature[count];
};

// Whether copy_features may take a chunk of this matrix at once, on its way to FeatureStage<C>.
template <class C, class T>
inline bool chunks_are_aligned(const T* matrix, int64_t dim) {
  constexpr int size = FeatureChunk<C>::kSize;
  return dim % size == 0 && reinterpret_cast<uintptr_t>(matrix) % (size * sizeof(T)) == 0;
}

// Begins to bring features [d0, d0 + kDepth) of `items` items, in the type that is computed in, to `stage`. Item i is
// row row_of(i) of matrix [., dim]; zeros where that is negative, and for features past the end. All `threads` threads
// of the block call it. Features of another type are converted on the way and so are there at once.
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
        const auto some = *reinterpret_cast<const SomeFeatures<T, kSize>*>(from + first);
        for (int e = 0; e < kSize; ++e) converted.feature[e] = load(some.feature[e]);
      } else if (present && !aligned) {
        for (int e = 0; e < kSize; ++e) converted.feature[e] = first + e < dim ? load(from[first + e]) : C(0);
      }
      to = converted;
    }
  }
}

}  // namespace somvae
