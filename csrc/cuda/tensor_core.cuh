// Multiplies small matrices on the tensor cores: d += a b (mma.sync, from compute capability 8.0 on), executed by a
// warp.
//
// a is 16 x 16 and b is 16 x 8, both of a 16-bit type; d is 16 x 8. A register of a or b holds a "word": two
// consecutive numbers. With group = lane / 4 and member = lane % 4, a lane holds
//   a[0], a[1]: words `member` of rows group and group + 8;  a[2], a[3]: words `member + 4` of the same rows
//   b[0], b[1]: words `member` and `member + 4` of column `group`
//   d[0], d[1]: columns 2 member and 2 member + 1 of row group;  d[2], d[3]: of row group + 8
// so the words along the depth may be assigned to members in any way in which a and b agree.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "device.h"
#include "dtypes.h"

namespace somvae {

#if defined(SOMVAE_SIMT)
namespace simt {

// Adds one term. The worst tensor core may add its terms like this, one after another, each sum truncated toward zero.
inline float add_toward_zero(float sum, double term) {
  const double exact = double(sum) + term;  // the sum of a float and a product of at most 11 x 11 bits
  const float rounded = static_cast<float>(exact);
  return std::fabs(double(rounded)) > std::fabs(exact) ? std::nextafterf(rounded, 0.0f) : rounded;
}

template <class T>
float element(uint32_t word, int e) {
  return load(T{static_cast<uint16_t>(word >> 16 * e)});
}

template <class T>
void multiply_accumulate(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], CallSite site) {
  exchange_operands({{a[0], a[1], a[2], a[3], b[0], b[1]}}, site);
  const unsigned group = position->lane / 4, member = position->lane % 4;
  for (unsigned half = 0; half < 2; ++half) {
    for (unsigned m = 0; m < 4; ++m) {
      const Operands row = operands_of(4 * group + m);
      const Operands columns[2] = {operands_of(4 * (2 * member) + m), operands_of(4 * (2 * member + 1) + m)};
      for (int e = 0; e < 2; ++e) {
        const double x[2] = {element<T>(row.words[2 * half], e), element<T>(row.words[2 * half + 1], e)};
        for (unsigned column = 0; column < 2; ++column) {
          const double y = element<T>(columns[column].words[4 + half], e);
          for (unsigned bottom = 0; bottom < 2; ++bottom) {
            float& sum = d[2 * bottom + column];
            sum = add_toward_zero(sum, x[bottom] * y);
          }
        }
      }
    }
  }
}

}  // namespace simt
#endif

// Rounds to nearest, ties to even.
__device__ inline Float16 round_to_half(float value) {
#if defined(__CUDA_ARCH__)
  Float16 half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half.bits) : "f"(value));
  return half;
#else
  return store<Float16>(value);
#endif
}

// Reads four matrices of 8 rows x 4 words from shared memory. Lane l passes the address of row l % 8 of matrix l / 8,
// and gets word `member` of row `group` of each matrix: the registers of a 16-bit operand, in their order.
__device__ inline void load_matrices(uint32_t (&words)[4], const uint4* row SOMVAE_CALL_SITE) {
#if defined(__CUDA_ARCH__)
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(row)))
               : "memory");
#elif defined(SOMVAE_SIMT)
  simt::Operands operands = {};
  memcpy(operands.words, &row, sizeof row);
  simt::exchange_operands(operands, {file, line});
  for (unsigned i = 0; i < 4; ++i) {
    const simt::Operands other = simt::operands_of(8 * i + simt::position->lane / 4);
    const unsigned char* from;
    memcpy(&from, other.words, sizeof from);
    memcpy(words + i, from + 4 * (simt::position->lane % 4), 4);
  }
#endif
}

// d += a b, where T, the type of a and b, is Float16 or BFloat16.
template <class T>
__device__ inline void multiply_accumulate(float (&d)[4], const uint32_t (&a)[4],
                                           const uint32_t (&b)[2] SOMVAE_CALL_SITE) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  // The incoming sums are separate operands, so that the compiler can see when they are zero.
  const float c[4] = {d[0], d[1], d[2], d[3]};
#define SOMVAE_MMA(instruction)                                                                                     \
  asm volatile(instruction " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"                   \
               : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])                                                     \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]), "f"(c[2]), \
                 "f"(c[3]))
  if constexpr (std::is_same_v<T, Float16>) {
    SOMVAE_MMA("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32");
  } else {
    SOMVAE_MMA("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32");
  }
#undef SOMVAE_MMA
#elif defined(__CUDA_ARCH__)
  __trap();  // never launched: see bmu/bmu_policy.h
#elif defined(SOMVAE_SIMT)
  simt::multiply_accumulate<T>(d, a, b, {file, line});
#endif
}

}  // namespace somvae
