// Copies from global to shared memory that run while the thread computes (cp.async, from compute capability 8.0 on).
// Older GPUs copy synchronously.
//
// Copies are committed in groups; await_copies<n>() waits for all groups of this thread but the latest n. After a
// subsequent barrier, the copies of other threads have arrived too. Until then the destination is undefined.
#pragma once
#include <cstdint>
#include <cstring>

#include "device.h"

namespace somvae {

// Starts a copy of 4, 8 or 16 `bytes`, to which both addresses must be aligned. Unless `present`, it writes zeros and
// does not read `from_global`, which must still be a global address.
template <int bytes>
__device__ inline void async_copy(void* to_shared, const void* from_global, bool present SOMVAE_CALL_SITE) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  const unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(to_shared));
  const int read = present ? bytes : 0;
  if constexpr (bytes == 16) {  // .cg bypasses the L1 cache
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from_global), "r"(read) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from_global), "n"(bytes), "r"(read)
                 : "memory");
  }
#elif defined(__CUDA_ARCH__)
  using Word = std::conditional_t<bytes == 4, unsigned, std::conditional_t<bytes == 8, uint2, uint4> >;
  *static_cast<Word*>(to_shared) = present ? *static_cast<const Word*>(from_global) : Word{};
#elif defined(SOMVAE_SIMT)
  const uintptr_t addresses = reinterpret_cast<uintptr_t>(to_shared) | reinterpret_cast<uintptr_t>(from_global);
  if (addresses % bytes != 0) simt::misaligned_copy(bytes, {file, line});
  simt::AsyncCopy copy = {to_shared, {}, bytes, {file, line}};
  if (present) memcpy(copy.bytes, from_global, bytes);
  // Until the copy completes, the destination holds NaN, in case a thread reads it too early. The race detector sees
  // these writes too. (It would miss an inlined memset.)
  using Word __attribute__((may_alias)) = uint32_t;
  for (int w = 0; w < bytes / 4; ++w) static_cast<Word*>(to_shared)[w] = 0xffffffffu;
  simt::begin_async_copy(copy);
#endif
}

__device__ inline void commit_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#elif defined(SOMVAE_SIMT)
  simt::commit_async_copies();
#endif
}

template <int pending>
__device__ inline void await_copies() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#elif defined(SOMVAE_SIMT)
  simt::AsyncCopy copy;
  while (simt::complete_async_copy(pending, &copy)) memcpy(copy.destination, copy.bytes, copy.size);
#endif
}

}  // namespace somvae
