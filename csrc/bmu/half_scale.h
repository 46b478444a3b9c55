// How float32 numbers are scaled before they are taken apart into float16 numbers, for the tensor cores.
#pragma once
#include <cmath>
#include <cstdint>

#include "dtypes.h"

namespace somvae {

// A power of two that brings numbers up to `largest` into float16's range: to below 2^15, and no further up than by
// 2^62, so that the reciprocals of two of them have a product that is a normal number. 1 where the numbers are not
// finite, as good as any.
SOMVAE_HOST_DEVICE inline float half_scale(float largest) {
  if (!(largest < INFINITY)) return 1;
  const int exponent = 14 - (static_cast<int>(float_to_bits(largest) >> 23) - 127);
  return bits_to_float(static_cast<uint32_t>((exponent < 62 ? exponent : 62) + 127) << 23);
}
SOMVAE_HOST_DEVICE inline float reciprocal_of_power(float power) {
  return bits_to_float((254u << 23) - float_to_bits(power));
}

}  // namespace somvae
