// The instruction level of the CPU kernels, chosen once per process.
#pragma once
#include <string>
#include <vector>

namespace somvae {

enum class SimdLevel { baseline, v3, v4 };  // x86-64, x86-64-v3 (AVX2, FMA), x86-64-v4 (AVX-512); elsewhere baseline

const char* simd_level_name(SimdLevel level);

// The levels that this machine can run, lowest first.
std::vector<SimdLevel> simd_levels_available();

// The highest available level, or the one that the environment variable SOMVAE_EXT_SIMD names. Throws
// std::runtime_error if this machine has no such level.
SimdLevel simd_level();

}  // namespace somvae
