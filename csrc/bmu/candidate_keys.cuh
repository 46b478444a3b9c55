// 64-bit keys of a score and a code, with which blocks that search different codes share the best codes of a row.
//
// A key holds the bits of a score above the index of a code: the smaller of two keys has the smaller score or, for
// equal scores, the smaller index. Keys are updated by atomic minimum, so the outcome does not depend on the order of
// arrival.
#pragma once
#include <cmath>
#include <cstdint>

#include "cuda/launch.cuh"
#include "device.h"
#include "dtypes.h"

namespace somvae {

using Key = unsigned long long;  // the type that CUDA's atomicMin takes

constexpr Key kNoKey = ~Key{0};

// The key of a score >= 0. The bits of such scores are ordered like the scores.
SOMVAE_HOST_DEVICE inline Key score_key(uint32_t score_bits, uint32_t index) { return Key{score_bits} << 32 | index; }

SOMVAE_HOST_DEVICE inline int64_t key_index(Key key) { return static_cast<int64_t>(key & 0xffffffffu); }
// Infinity if the key holds no score.
SOMVAE_HOST_DEVICE inline float key_score(Key key) {
  return key == kNoKey ? INFINITY : bits_to_float(static_cast<uint32_t>(key >> 32));
}

// Inserts a key into slots[0] <= ... <= slots[n - 1], which keep the n smallest keys. Each slot keeps the smaller of
// its own key and the arriving one, and passes the larger on. After all arrivals, in any order, slot 0 holds the
// smallest key, slot 1 the second smallest, and so on. At any time, n different keys that have arrived do not exceed
// the last slot, unless it is still kNoKey.
template <int n>
__device__ inline void insert_key(Key* slots, Key key) {
  for (int i = 0; i < n; ++i) {
    if (key == kNoKey) return;
    const Key old = atomicMin(slots + i, key);
    if (old > key) key = old;
  }
}

constexpr int kMostCandidates = 16;

// The codes that can win a row and have to be scored in float64.
struct CandidateLists {
  int* count;  // [rows] the number of candidates; above kMostCandidates, not all are listed
  Key* key;    // [rows, kMostCandidates] the candidates with their scores in float32, in any order
  // The rows with more candidates, in any order. For these, all codes are scored in float64.
  int64_t* dense;  // [rows]
  Key* dense_count;
};

// Counters over all rows, which a search writes at the start of its workspace. Which codes are listed before a better
// one is known depends on the order in which blocks run, so the counts may differ a little from run to run. Results do
// not.
struct SearchCounters {
  Key rescored;  // pairs of a row and a code that were scored again in float32, without the rows that pad a tile
  Key dense;     // rows with too many candidates to list
};

// Clears the counters and `count` maxima.
__global__ void clear_counters_kernel(SearchCounters* counters, uint32_t* maxima, int64_t count) {
  if (global_thread() == 0) *counters = {0, 0};
  for (int64_t i = global_thread(); i < count; i += total_threads()) maxima[i] = 0;
}

// Clears keys.
__global__ void clear_keys_kernel(Key* keys, int64_t count) {
  for (int64_t i = global_thread(); i < count; i += total_threads()) keys[i] = kNoKey;
}

}  // namespace somvae
