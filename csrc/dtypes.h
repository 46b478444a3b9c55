// The element types of the kernels and the types they compute in. Uses no torch, so that kernels build without it.
#pragma once
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "device.h"

namespace somvae {

// Bit patterns of torch's float16 and bfloat16. Kernels only load and store them; arithmetic is in float.
struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// The type in which a kernel over T computes and returns losses: float for the 16-bit types.
template <class T>
using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;

// The types every op is instantiated for.
#define SOMVAE_FOR_EACH_DTYPE(macro) macro(float) macro(double) macro(::somvae::Float16) macro(::somvae::BFloat16)

SOMVAE_HOST_DEVICE inline float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

SOMVAE_HOST_DEVICE inline uint32_t float_to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

SOMVAE_HOST_DEVICE inline float load(float value) { return value; }
SOMVAE_HOST_DEVICE inline double load(double value) { return value; }
SOMVAE_HOST_DEVICE inline float load(BFloat16 value) { return bits_to_float(uint32_t(value.bits) << 16); }
SOMVAE_HOST_DEVICE inline float load(Float16 value) {
  const uint32_t sign = uint32_t(value.bits & 0x8000u) << 16;
  const uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);  // infinity, NaN
  // Converts subnormals as integers. As the bits of a float they would be subnormal too, and might be flushed to zero.
  if (magnitude < 0x400u) return bits_to_float(sign | float_to_bits(static_cast<float>(magnitude) * 0x1p-24f));
  return bits_to_float(sign | ((magnitude << 13) + (112u << 23)));
}

// Rounds to nearest, ties to even, as torch does.
template <class T>
SOMVAE_HOST_DEVICE inline T store(double value);

template <>
SOMVAE_HOST_DEVICE inline float store<float>(double value) {
  return static_cast<float>(value);
}
template <>
SOMVAE_HOST_DEVICE inline double store<double>(double value) {
  return value;
}
template <>
SOMVAE_HOST_DEVICE inline BFloat16 store<BFloat16>(double value) {
  const uint32_t bits = float_to_bits(static_cast<float>(value));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fc0};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}
template <>
SOMVAE_HOST_DEVICE inline Float16 store<Float16>(double value) {
  const uint32_t bits = float_to_bits(static_cast<float>(value));
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {0x7e00};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // 65520 and above round to infinity
  if (magnitude < 0x38800000u) {  // a subnormal half: let float addition align and round it
    const uint32_t aligned = float_to_bits(bits_to_float(magnitude) + 0.5f);
    return {static_cast<uint16_t>(sign | (aligned - 0x3f000000u))};
  }
  const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
  return {static_cast<uint16_t>(sign | (rounded - 0x38000000u) >> 13)};
}

}  // namespace somvae
