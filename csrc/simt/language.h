// The CUDA language in host C++: qualifiers, built-in types and variables.
#pragma once
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

// Kernels are static, as under nvcc. The address sanitizer can then surround their arrays with red zones, which it
// cannot do for symbols that the linker merges.
#define __global__ __attribute__((unused)) static
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

// One array serves all blocks, because they run one after another. The program has no other thread-local variables, so
// the launcher can find the arrays and poison them before each block. Under the address sanitizer, the arrays are plain
// static variables instead, and the sanitizer surrounds them with red zones.
#if defined(__SANITIZE_ADDRESS__)
#define __shared__ static
#else
#define __shared__ static thread_local
#endif

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(long long x = 1, long long y = 1, long long z = 1)  // NOLINT: implicit, as in CUDA
      : x(checked(x)), y(checked(y)), z(checked(z)) {}

 private:
  // CUDA silently truncates a 64-bit size to 32 bits; here it is an error.
  static constexpr unsigned checked(long long size) {
    if (size < 0 || size > 0xffffffffLL) {
      throw std::runtime_error("simt: " + std::to_string(size) + " is not a valid dim3 size");
    }
    return static_cast<unsigned>(size);
  }
};

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline constexpr int warpSize = 32;

namespace somvae::simt {

// The built-in variables of the running thread.
struct Position {
  uint3 thread_index, block_index;
  dim3 block_size, grid_size;
  unsigned lane;
};
extern const Position* position;

void* dynamic_shared();

}  // namespace somvae::simt

#define threadIdx (::somvae::simt::position->thread_index)
#define blockIdx (::somvae::simt::position->block_index)
#define blockDim (::somvae::simt::position->block_size)
#define gridDim (::somvae::simt::position->grid_size)
#define DYNAMIC_SHARED(type, name) type* name = static_cast<type*>(::somvae::simt::dynamic_shared())
