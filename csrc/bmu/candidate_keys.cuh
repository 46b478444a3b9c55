// The best codes of a row in 64-bit keys, so that blocks that search different slices of the codebook can share them.
//
// A key is a score's bits above a code's index: of two keys the smaller has the smaller score, and of equal scores the
// smaller index. It is replaced by atomic minimum, so the outcome does not depend on the order of arrival.
#pragma once
#include <cmath>
#include <cstdint>

#include "cuda/launch.cuh"
#include "device.h"
#include "dtypes.h"

namespace somvae {

using Key = unsigned long long;  // the type that CUDA's atomicMin takes

constexpr Key kNoKey = ~Key{0};

// Of a score >= 0, whose bits are in order as they are.
SOMVAE_HOST_DEVICE inline Key score_key(uint32_t score_bits, uint32_t index) { return Key{score_bits} << 32 | index; }

// Of any number. Negative ones have their bits reversed, the others come after them.
SOMVAE_HOST_DEVICE inline Key signed_key(float value, uint32_t index) {
  const uint32_t bits = float_to_bits(value);
  return Key{bits >> 31 ? ~bits : bits | 0x80000000u} << 32 | index;
}
SOMVAE_HOST_DEVICE inline float signed_value(Key key) {
  const uint32_t bits = static_cast<uint32_t>(key >> 32);
  return bits_to_float(bits >> 31 ? bits & 0x7fffffffu : ~bits);
}

SOMVAE_HOST_DEVICE inline int64_t key_index(Key key) { return static_cast<int64_t>(key & 0xffffffffu); }

// slots[0] <= ... <= slots[n - 1] become the n smallest of themselves and key. Each slot passes the larger of its key
// and the one that came on to the next: over all arrivals, slot 0 has passed on everything but the minimum, slot 1
// everything but that and the next, whatever the order.
template <int n>
__device__ inline void insert_key(Key* slots, Key key) {
  for (int i = 0; i < n; ++i) {
    if (key == kNoKey) return;
    const Key old = atomicMin(slots + i, key);
    if (old > key) key = old;
  }
}

__global__ void clear_keys_kernel(Key* keys, int64_t count) {
  for (int64_t i = global_thread(); i < count; i += total_threads()) keys[i] = kNoKey;
}

// Rows in ascending order, or those of a list whose length the device knows.
struct RowSelection {
  int64_t rows;
  const int64_t* list;    // null for all rows
  const Key* list_count;  // how many of the list there are

  __device__ inline int64_t count() const { return list == nullptr ? rows : static_cast<int64_t>(*list_count); }
  __device__ inline int64_t operator[](int64_t i) const { return list == nullptr ? i : list[i]; }
};

// The first k of a row's keys, of `stride`, as distances and indices; a slot without a code is (NaN, 0).
template <int k>
__global__ void unpack_keys_kernel(const Key* keys, int stride, RowSelection selection, float* distance,
                                   int64_t* index) {
  const int64_t count = selection.count();
  for (int64_t i = global_thread(); i < count; i += total_threads()) {
    const int64_t row = selection[i];
    for (int n = 0; n < k; ++n) {
      const Key key = keys[row * stride + n];
      distance[row * k + n] = key == kNoKey ? NAN : bits_to_float(static_cast<uint32_t>(key >> 32));
      index[row * k + n] = key == kNoKey ? 0 : key_index(key);
    }
  }
}

}  // namespace somvae
