#include "cpu/simd_level.h"

#include <cstdlib>
#include <stdexcept>

namespace somvae {

const char* simd_level_name(SimdLevel level) {
  switch (level) {
    case SimdLevel::v4:
      return "v4";
    case SimdLevel::v3:
      return "v3";
    default:
      return "baseline";
  }
}

std::vector<SimdLevel> simd_levels_available() {
  std::vector<SimdLevel> levels{SimdLevel::baseline};
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
    levels.push_back(SimdLevel::v3);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      levels.push_back(SimdLevel::v4);
    }
  }
#endif
  return levels;
}

namespace {

SimdLevel choose_level() {
  const std::vector<SimdLevel> available = simd_levels_available();
  const char* requested = std::getenv("SOMVAE_EXT_SIMD");
  if (requested == nullptr || *requested == '\0') return available.back();
  std::string names;
  for (const SimdLevel level : available) {
    if (std::string(requested) == simd_level_name(level)) return level;
    names += std::string(names.empty() ? "" : ", ") + simd_level_name(level);
  }
  throw std::runtime_error("somvae_ext: SOMVAE_EXT_SIMD must be one of this machine's levels (" + names + "), got '" +
                           requested + "'; unset it to take the highest");
}

}  // namespace

SimdLevel simd_level() {
  static const SimdLevel level = choose_level();
  return level;
}

}  // namespace somvae
