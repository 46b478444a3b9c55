// Tells the sanitizers about fibers and about reused memory. Empty without a sanitizer.
//
// The emulation itself is built without instrumentation: it is the machine, not the program under test. CMake defines
// SOMVAE_SIMT_ASAN or SOMVAE_SIMT_TSAN if that sanitizer watches the kernels.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(SOMVAE_SIMT_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(SOMVAE_SIMT_TSAN)
extern "C" {
void* __tsan_get_current_fiber(void);
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_java_init(unsigned long heap_begin, unsigned long heap_size);
void __tsan_java_alloc(unsigned long address, unsigned long size);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace somvae::simt {

// Everything before release(tag) happens before everything after a later acquire(tag).
inline void release([[maybe_unused]] void* tag) {
#if defined(SOMVAE_SIMT_TSAN)
  __tsan_release(tag);
#endif
}
inline void acquire([[maybe_unused]] void* tag) {
#if defined(SOMVAE_SIMT_TSAN)
  __tsan_acquire(tag);
#endif
}

// Forgets accesses to the static shared arrays, which are new memory for the next block. The race detector offers this
// only for new objects on a Java heap, so the arrays are declared to be one.
inline void forget_accesses([[maybe_unused]] char* begin, [[maybe_unused]] size_t bytes) {
#if defined(SOMVAE_SIMT_TSAN)
  if (bytes == 0) return;
  const uintptr_t first = reinterpret_cast<uintptr_t>(begin) & ~uintptr_t{7};
  const uintptr_t last = (reinterpret_cast<uintptr_t>(begin) + bytes + 7) & ~uintptr_t{7};
  static bool declared = false;
  if (!declared) __tsan_java_init(first, last - first);
  declared = true;
  __tsan_java_alloc(first, last - first);
#endif
}

// During its lifetime, allocating and freeing memory counts as no access: it orders nothing and races with nothing.
struct UntrackedAllocation {
#if defined(SOMVAE_SIMT_TSAN)
  UntrackedAllocation() { AnnotateIgnoreWritesBegin(__FILE__, __LINE__); }
  ~UntrackedAllocation() { AnnotateIgnoreWritesEnd(__FILE__, __LINE__); }
#else
  UntrackedAllocation() {}
#endif
  UntrackedAllocation(const UntrackedAllocation&) = delete;
  UntrackedAllocation& operator=(const UntrackedAllocation&) = delete;
};

}  // namespace somvae::simt
