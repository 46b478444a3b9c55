#pragma once
#include "device.h"

namespace somvae {

__device__ inline float fused_multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
__device__ inline double fused_multiply_add(double a, double b, double c) { return fma(a, b, c); }

}  // namespace somvae
