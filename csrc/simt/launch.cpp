#include "simt/launch.h"

#include <stdexcept>

namespace somvae::simt {
namespace {

constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kMaxBlockDepth = 64;
constexpr unsigned kMaxGridWidth = 2147483647;
constexpr unsigned kMaxGridHeightOrDepth = 65535;
constexpr size_t kMaxSharedBytes = 99 << 10;  // per block: every GPU from 8.0 on grants it if LAUNCH requests it

int64_t launches = 0;

std::set<std::string>& registry() {
  static std::set<std::string> names;
  return names;
}

// "(name<float, 64>)" -> "name"
std::string name_of(const std::string& kernel) {
  const size_t begin = kernel.find_first_not_of("( ");
  return kernel.substr(begin, kernel.find_first_of("<) ", begin) - begin);
}

std::string describe(const dim3& size) {
  return "(" + std::to_string(size.x) + ", " + std::to_string(size.y) + ", " + std::to_string(size.z) + ")";
}

void require(bool satisfied, const std::string& kernel, const std::string& what) {
  if (!satisfied) throw std::runtime_error("somvae_ext: CUDA would refuse to launch " + kernel + ": " + what);
}

}  // namespace

Device& device() {
  static Device device;
  return device;
}

const std::set<std::string>& launched_kernels() { return registry(); }
int64_t launch_count() { return launches; }

void run_kernel(const char* kernel, dim3 grid, dim3 block, size_t dynamic_shared_bytes, Body body,
                const void* closure) {
  const std::string name = name_of(kernel);
  const size_t threads = size_t{block.x} * block.y * block.z;
  require(threads >= 1 && threads <= kMaxThreads && block.z <= kMaxBlockDepth, name,
          "a block has 1 to 1024 threads and a depth of at most 64, got " + describe(block));
  require(grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= kMaxGridWidth && grid.y <= kMaxGridHeightOrDepth &&
              grid.z <= kMaxGridHeightOrDepth,
          name, "a grid is 1 to 2147483647 by 1 to 65535 by 1 to 65535 blocks, got " + describe(grid));
  require(dynamic_shared_bytes <= kMaxSharedBytes, name,
          "a block may have 101376 bytes of dynamic shared memory, got " + std::to_string(dynamic_shared_bytes));
  registry().insert(name);
  ++launches;
  run_blocks({name.c_str(), grid, block, dynamic_shared_bytes, body, closure});
}

}  // namespace somvae::simt
