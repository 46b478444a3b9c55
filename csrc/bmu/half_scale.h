// The scale of float32 numbers that are split into float16 numbers for the tensor cores.
#pragma once
#include <cmath>
#include <cstdint>

#include "dtypes.h"

namespace somvae {

// Returns a power of two that scales numbers of at most `largest` to below 2^15, into float16's range. It is at most
// 2^62, so that the product of two reciprocals is a normal number, and 1 if the numbers are not finite.
SOMVAE_HOST_DEVICE inline float half_scale(float largest) {
  if (!(largest < INFINITY)) return 1;
  const int exponent = 14 - (static_cast<int>(float_to_bits(largest) >> 23) - 127);
  return bits_to_float(static_cast<uint32_t>((exponent < 62 ? exponent : 62) + 127) << 23);
}
SOMVAE_HOST_DEVICE inline float reciprocal_of_power(float power) {
  return bits_to_float((254u << 23) - float_to_bits(power));
}

}  // namespace somvae
