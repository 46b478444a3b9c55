// Launches kernels, like <<<grid, block, bytes, stream>>>.
#pragma once
#include <set>
#include <string>

#include "simt/block.h"

namespace somvae::simt {

// Runs the kernel to its end. Throws std::runtime_error for a launch that CUDA would refuse. kernel is its expression
// in the source, "(name<arguments>)".
void run_kernel(const char* kernel, dim3 grid, dim3 block, size_t dynamic_shared_bytes, Body body, const void* closure);

// The properties of the emulated device, which tests may change. By default grids have few blocks, so grid-stride loops
// iterate more than once.
struct Device {
  int multiprocessors = 2;
  int capability = 80;               // 10 * major + minor
  int64_t shared_bytes = 164 << 10;  // of a multiprocessor
  int64_t largest_grid = 3;          // blocks along x, for launchers that call blocks_for
};
Device& device();

// The names, without template arguments, of the kernels that this program has launched so far.
const std::set<std::string>& launched_kernels();
// The number of launches so far.
int64_t launch_count();

template <class Closure>
void launch(const char* kernel, dim3 grid, dim3 block, size_t dynamic_shared_bytes, const Closure& closure) {
  run_kernel(
      kernel, grid, block, dynamic_shared_bytes, [](const void* c) { (*static_cast<const Closure*>(c))(); }, &closure);
}

}  // namespace somvae::simt

#define SOMVAE_STRIP_PARENTHESES(...) __VA_ARGS__
#define LAUNCH(kernel, grid, block, bytes, stream, ...)     \
  ::somvae::simt::launch(#kernel, grid, block, bytes, [&] { \
    static_cast<void>(stream);                              \
    SOMVAE_STRIP_PARENTHESES kernel(__VA_ARGS__);           \
  })
