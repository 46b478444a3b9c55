// Scores and codes in 64-bit keys, so that blocks that search different codes can share what they find for a row.
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

SOMVAE_HOST_DEVICE inline int64_t key_index(Key key) { return static_cast<int64_t>(key & 0xffffffffu); }
// Infinity where there is none.
SOMVAE_HOST_DEVICE inline float key_score(Key key) {
  return key == kNoKey ? INFINITY : bits_to_float(static_cast<uint32_t>(key >> 32));
}

// slots[0] <= ... <= slots[n - 1] become the n smallest of themselves and key. Each slot passes the larger of its key
// and the one that came on to the next: over all arrivals, slot 0 has passed on everything but the minimum, slot 1
// everything but that and the next, whatever the order. At any time n different arrivals do not exceed the last slot.
template <int n>
__device__ inline void insert_key(Key* slots, Key key) {
  for (int i = 0; i < n; ++i) {
    if (key == kNoKey) return;
    const Key old = atomicMin(slots + i, key);
    if (old > key) key = old;
  }
}

constexpr int kMostCandidates = 16;

// The codes that can win a row, which are to be scored in float64.
struct CandidateLists {
  int* count;  // [rows] how many there are; where more than kMostCandidates, not all are listed
  Key* key;    // [rows, kMostCandidates] their scores in float32, and codes, in any order
  // Those rows, whose scores of all codes are to be formed in float64, in any order.
  int64_t* dense;  // [rows]
  Key* dense_count;
};

// Counters of all rows that a search writes at the start of its workspace. Which codes are listed before a better one
// is known depends on the order in which blocks run, so that the counts may differ a little from run to run, and bits
// don't.
struct SearchCounters {
  Key rescored;  // pairs of a row and a code that were scored again in float32; rows that fill up a tile do not count
  Key dense;     // rows whose candidates were too many to list
};

// Nothing done yet: no rows, and none of `count` maxima.
__global__ void clear_counters_kernel(SearchCounters* counters, uint32_t* maxima, int64_t count) {
  if (global_thread() == 0) *counters = {0, 0};
  for (int64_t i = global_thread(); i < count; i += total_threads()) maxima[i] = 0;
}

// Nothing found yet.
__global__ void clear_keys_kernel(Key* keys, int64_t count) {
  for (int64_t i = global_thread(); i < count; i += total_threads()) keys[i] = kNoKey;
}

}  // namespace somvae
