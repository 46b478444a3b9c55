// Chooses how a thread computes with subnormal numbers, those closer to zero than 1.2e-38 in float32.
//
// Trained maps hold many: where all images near a node are black, a Gaussian neighborhood leaves it 1e-40. On Intel's
// processors an instruction that reads or writes one takes some 150 cycles, so that a map of images is searched many
// times slower. All kernels therefore flush them: those that they read count as zero, and those that they would write
// become zero. Exact scores (bmu/bmu.h) keep them, since every value counts there, and keep them whatever the caller's
// mode is. Processors other than x86 compute with subnormal numbers at full speed; there nothing is changed.
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
  SubnormalMode() : before_(_mm_getcsr()) { set((before_ & ~kFlushBits) | (flush ? kFlushBits : 0)); }
  ~SubnormalMode() { set(before_); }

 private:
  static constexpr unsigned kFlushBits = 0x8040;  // flush results to zero, read operands as zero

  // The compiler must not move the arithmetic of a kernel, which starts and ends in memory, across the change.
  static void set(unsigned mode) {
    asm volatile("" ::: "memory");
    _mm_setcsr(mode);
    asm volatile("" ::: "memory");
  }

  const unsigned before_;
#else
  SubnormalMode() {}
  ~SubnormalMode() {}
#endif
};

using FlushSubnormals = SubnormalMode<true>;
using KeepSubnormals = SubnormalMode<false>;

}  // namespace somvae
