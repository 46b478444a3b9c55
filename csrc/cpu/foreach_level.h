// Compiles one kernel file once per CPU instruction level, each in a namespace of its own.
//
//   #define SIMD_KERNELS "bmu/bmu_cpu_kernel.h"     // included in namespace somvae::v4, v3 and baseline
//   #include "cpu/foreach_level.h"
//   ... SIMD_DISPATCH(bmu<T>, args, first, last);   // calls the one that simd_level() names
//
// SIMD_DISPATCH flushes subnormal numbers; SIMD_DISPATCH_EXACT keeps them (cpu/subnormals.h).
//
// Include every standard header before this file: functions defined in the kernel file are compiled for an instruction
// level, and inline functions of the standard library must not be. For the same reason kernel files allocate scratch
// memory with new[] instead of std::vector.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "cpu/always_inline.h"
#include "cpu/simd_level.h"
#include "cpu/subnormals.h"

#define SIMD_PRAGMA(text) _Pragma(#text)

#if defined(__x86_64__) && defined(__clang__)
#define SIMD_BEGIN(features) SIMD_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define SIMD_END SIMD_PRAGMA(clang attribute pop)
#elif defined(__x86_64__)
#define SIMD_BEGIN(features) SIMD_PRAGMA(GCC push_options) SIMD_PRAGMA(GCC target(features))
#define SIMD_END SIMD_PRAGMA(GCC pop_options)
#endif

#if defined(__x86_64__)

SIMD_BEGIN("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,bmi,bmi2,f16c,lzcnt")
#define SIMD_BYTES 64
namespace somvae::v4 {
#include SIMD_KERNELS
}
#undef SIMD_BYTES
SIMD_END

SIMD_BEGIN("avx2,fma,bmi,bmi2,f16c,lzcnt")
#define SIMD_BYTES 32
namespace somvae::v3 {
#include SIMD_KERNELS
}
#undef SIMD_BYTES
SIMD_END

#define SIMD_DISPATCH_WITH(Mode, kernel, ...)         \
  [[maybe_unused]] const ::somvae::Mode subnormals;   \
  switch (::somvae::simd_level()) {                   \
    case ::somvae::SimdLevel::v4:                     \
      return ::somvae::v4::kernel(__VA_ARGS__);       \
    case ::somvae::SimdLevel::v3:                     \
      return ::somvae::v3::kernel(__VA_ARGS__);       \
    default:                                          \
      return ::somvae::baseline::kernel(__VA_ARGS__); \
  }

#else

#define SIMD_DISPATCH_WITH(Mode, kernel, ...)       \
  [[maybe_unused]] const ::somvae::Mode subnormals; \
  return ::somvae::baseline::kernel(__VA_ARGS__)

#endif

#define SIMD_DISPATCH(kernel, ...) SIMD_DISPATCH_WITH(FlushSubnormals, kernel, __VA_ARGS__)
#define SIMD_DISPATCH_EXACT(kernel, ...) SIMD_DISPATCH_WITH(KeepSubnormals, kernel, __VA_ARGS__)

#define SIMD_BYTES 16
namespace somvae::baseline {
#include SIMD_KERNELS
}
#undef SIMD_BYTES
#undef SIMD_KERNELS
