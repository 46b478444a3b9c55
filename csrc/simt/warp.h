// Communication between the lanes of a warp: shuffles and votes. Only __syncwarp orders memory.
#pragma once
#include <cstdint>
#include <cstring>

#include "simt/block.h"

namespace somvae::simt {

template <class T>
T shuffle(unsigned mask, T value, unsigned source, CallSite site) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle moves at most 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = meet_warp(Collective::kShuffle, mask, bits, source, site);
  memcpy(&value, &bits, sizeof value);
  return value;
}

// The lanes of a shuffle form segments of `width`, a power of two. Values stay within a segment.
inline unsigned segment_begin(int width) { return position->lane & ~(static_cast<unsigned>(width) - 1); }

}  // namespace somvae::simt

inline void __syncwarp(unsigned mask = 0xffffffffu, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  ::somvae::simt::meet_warp(::somvae::simt::Collective::kSyncwarp, mask, 0, 0, {file, line});
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, const char* file = __builtin_FILE(),
              int line = __builtin_LINE()) {
  const unsigned begin = ::somvae::simt::segment_begin(width);
  return ::somvae::simt::shuffle(mask, value, begin + (static_cast<unsigned>(source) & (width - 1)), {file, line});
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, const char* file = __builtin_FILE(),
                 int line = __builtin_LINE()) {
  const unsigned lane = ::somvae::simt::position->lane;
  const bool inside = lane >= ::somvae::simt::segment_begin(width) + delta;
  return ::somvae::simt::shuffle(mask, value, inside ? lane - delta : lane, {file, line});
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, const char* file = __builtin_FILE(),
                   int line = __builtin_LINE()) {
  const unsigned lane = ::somvae::simt::position->lane;
  const bool inside = lane + delta < ::somvae::simt::segment_begin(width) + width;
  return ::somvae::simt::shuffle(mask, value, inside ? lane + delta : lane, {file, line});
}

// As in CUDA, a lane may read from an earlier segment but not from a later one.
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  const unsigned lane = ::somvae::simt::position->lane;
  const unsigned source = lane ^ static_cast<unsigned>(lane_mask);
  const bool readable = source < ::somvae::simt::segment_begin(width) + width;
  return ::somvae::simt::shuffle(mask, value, readable ? source : lane, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  return static_cast<unsigned>(
      ::somvae::simt::meet_warp(::somvae::simt::Collective::kBallot, mask, predicate != 0, 0, {file, line}));
}

inline int __any_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}

inline int __all_sync(unsigned mask, int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return __ballot_sync(mask, !predicate, file, line) == 0;
}
