// The kernels under test: the CUDA kernels on csrc/simt or, without SOMVAE_SIMT, the CPU kernels. Each test defines how
// to run its kernels in both cases. CPU kernels run in two ranges, as on two threads.
#pragma once
#include <cstdint>
#include <cstring>
#include <new>
#include <set>
#include <string>

#include "device.h"

namespace somvae::test {

#if defined(SOMVAE_SIMT)

inline const std::string kBackend = "cuda on simt";
inline const std::set<std::string>& launched() { return simt::launched_kernels(); }

// Whether a running softmax uses a shift that follows the largest logit with some slack.
constexpr bool kShiftHasSlack = false;
// Whether the kernels write the rows of empty groups in a sparse gradient.
constexpr bool kWritesEmptyGroups = true;
// Whether a subnormal number counts as zero.
constexpr bool kFlushesSubnormals = false;

template <class Launch>
void with_workspace(int64_t bytes, Launch launch) {
  constexpr std::align_val_t alignment{256};  // as in torch's allocations
  void* const workspace = operator new(bytes, alignment);
  memset(workspace, 0xfb, bytes);
  launch(workspace);
  operator delete(workspace, alignment);
}

#else

inline const std::string kBackend = "cpu";
inline std::set<std::string> launched() { return {}; }
constexpr bool kShiftHasSlack = true;
constexpr bool kWritesEmptyGroups = false;
constexpr bool kFlushesSubnormals = true;  // cpu/subnormals.h; not on every processor

template <class Range>
void in_two_ranges(int64_t count, Range range) {
  const int64_t cut = count / 3;
  range(0, cut);
  range(cut, count);
}

#endif

}  // namespace somvae::test
