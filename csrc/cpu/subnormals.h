// Chooses how a thread treats subnormal numbers: those closer to zero than 1.2e-38 in float32.
//
// Trained maps contain many of them: where all images near a node are black, a Gaussian neighborhood leaves features
// such as 1e-40. On Intel processors, an instruction that reads or writes a subnormal number takes some 150 cycles,
// which makes the search of a map of images many times slower. All kernels therefore flush subnormal numbers: they
// read them as zero, and write zero instead of them. Exact scores (bmu/bmu.h), for which every value counts, keep them
// whatever the caller's mode. Processors other than x86 compute with subnormal numbers at full speed; their mode is
// left alone.
#pragma once
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace somvae {

// Sets the mode of this thread until the end of the scope.
template <bool flush>
class SubnormalMode {
 public:
  SubnormalMode(const SubnormalMode&) = delete;
#if defined(__x86_64__)
  SubnormalMode() : previous_(_mm_getcsr()) { set((previous_ & ~kFlushBits) | (flush ? kFlushBits : 0)); }
  ~SubnormalMode() { set(previous_); }

 private:
  static constexpr unsigned kFlushBits = 0x8040;  // flush results to zero, read operands as zero

  // A kernel's arithmetic starts and ends in memory, so these barriers keep the compiler from moving it across the
  // change of mode.
  static void set(unsigned mode) {
    asm volatile("" ::: "memory");
    _mm_setcsr(mode);
    asm volatile("" ::: "memory");
  }

  const unsigned previous_;
#else
  SubnormalMode() {}
  ~SubnormalMode() {}
#endif
};

using FlushSubnormals = SubnormalMode<true>;
using KeepSubnormals = SubnormalMode<false>;

}  // namespace somvae
