// csrc/simt itself: what it promises about CUDA's thread model.
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "device.h"
#include "harness.h"

using namespace somvae;
using namespace somvae::test;

namespace {

constexpr unsigned kAll = 0xffffffffu;

__global__ void write_positions(int* out) {
  const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const int threads = blockDim.x * blockDim.y * blockDim.z;
  out[block * threads + thread] += block * threads + thread;
}

void check_positions(Report& report) {
  report.group("grid and block of three dimensions");
  const dim3 grid(3, 2, 2), block(5, 3, 4);
  std::vector<int> out(12 * 60, 1);
  LAUNCH((write_positions), grid, block, 0, nullptr, out.data());
  for (int i = 0; i < static_cast<int>(out.size()); ++i) {
    report.require(out[i] == i + 1, "element " + std::to_string(i) + " must be visited once");
  }
}

// Reverses a block's values by static and by dynamic shared memory, over and over.
template <int threads>
__global__ void reverse(const int* in, int* out) {
  __shared__ int fixed[threads];
  DYNAMIC_SHARED(int, variable);
  const int self = threadIdx.x, other = threads - 1 - self;
  int value = in[blockIdx.x * threads + self];
  for (int pass = 0; pass < 3; ++pass) {
    fixed[self] = value;
    __syncthreads();
    variable[self] = fixed[other];
    __syncthreads();
    value = variable[self];
  }
  out[blockIdx.x * threads + self] = value;
}

template <int threads>
void check_barriers(Report& report) {
  report.group("barriers of " + std::to_string(threads) + " threads");
  std::vector<int> in(2 * threads), out(2 * threads);
  for (int i = 0; i < 2 * threads; ++i) in[i] = i;
  LAUNCH((reverse<threads>), 2, threads, threads * sizeof(int), nullptr, in.data(), out.data());
  for (int block = 0; block < 2; ++block) {
    for (int i = 0; i < threads; ++i) {
      report.require(out[block * threads + i] == block * threads + threads - 1 - i, "thread " + std::to_string(i));
    }
  }
}

__global__ void vote_in_block(int* out) {
  const int odd = threadIdx.x % 2;
  const int count = __syncthreads_count(odd);
  const int some = __syncthreads_or(threadIdx.x == 40), none = __syncthreads_or(0);
  const int all = __syncthreads_and(1), not_all = __syncthreads_and(threadIdx.x != 40);
  out[threadIdx.x] = count == 24 && some && !none && all && !not_all;
}

void check_block_votes(Report& report) {
  report.group("__syncthreads_count, _or, _and");
  std::vector<int> out(49);
  LAUNCH((vote_in_block), 1, 49, 0, nullptr, out.data());
  for (int i = 0; i < 49; ++i) report.require(out[i], "thread " + std::to_string(i));
}

struct Shuffled {
  int direct, up, down, crossed;
  double wide;
};

__global__ void shuffle(Shuffled* out, int width) {
  const int lane = threadIdx.x;
  out[lane].direct = __shfl_sync(kAll, 100 + lane, lane + 1, width);
  out[lane].up = __shfl_up_sync(kAll, lane, 3, width);
  out[lane].down = __shfl_down_sync(kAll, lane, 3, width);
  out[lane].crossed = __shfl_xor_sync(kAll, lane, 1, width);
  out[lane].wide = __shfl_sync(kAll, 0.5 + lane, 31 - lane);
}

void check_shuffles(Report& report) {
  report.group("shuffles");
  for (const int width : {2, 4, 8, 16, 32}) {
    std::vector<Shuffled> out(32);
    LAUNCH((shuffle), 1, 32, 0, nullptr, out.data(), width);
    for (int lane = 0; lane < 32; ++lane) {
      const int begin = lane / width * width, end = begin + width;
      const std::string where = "width " + std::to_string(width) + ", lane " + std::to_string(lane);
      report.require(out[lane].direct == 100 + begin + (lane + 1) % width, where + ", __shfl_sync");
      report.require(out[lane].up == (lane - 3 >= begin ? lane - 3 : lane), where + ", __shfl_up_sync");
      report.require(out[lane].down == (lane + 3 < end ? lane + 3 : lane), where + ", __shfl_down_sync");
      report.require(out[lane].crossed == (lane ^ 1), where + ", __shfl_xor_sync");
      report.require(out[lane].wide == 31.5 - lane, where + ", a double");
    }
  }
}

// Two halves of a warp go different ways, and exchange at their own pace.
__global__ void shuffle_in_halves(int* out) {
  const int lane = threadIdx.x;
  const unsigned mask = lane < 16 ? 0x0000ffffu : 0xffff0000u;
  int sum = lane;
  for (int offset = 8; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(mask, sum, offset);
    if (lane < 16) __syncwarp(mask);
  }
  out[lane] = sum;
}

// The last warp has 8 lanes; a lane that does not exist gives no value that may be used.
__global__ void shuffle_in_partial_warp(float* own, float* absent) {
  const int lane = threadIdx.x % 32;
  own[threadIdx.x] = __shfl_xor_sync(kAll, float(threadIdx.x), 1);
  absent[threadIdx.x] = __shfl_sync(kAll, float(lane), 31);
}

void check_partial_warps(Report& report) {
  report.group("parts of warps");
  std::vector<int> sums(32);
  LAUNCH((shuffle_in_halves), 1, 32, 0, nullptr, sums.data());
  for (int lane = 0; lane < 32; ++lane) {
    report.require(sums[lane] == (lane < 16 ? 120 : 376), "sum of a half, lane " + std::to_string(lane));
  }
  std::vector<float> own(40), absent(40);
  LAUNCH((shuffle_in_partial_warp), 1, 40, 0, nullptr, own.data(), absent.data());
  for (int i = 0; i < 40; ++i) {
    report.require(own[i] == (i ^ 1), "thread " + std::to_string(i) + " of 40");
    report.require(i < 32 ? absent[i] == 31 : std::isnan(absent[i]), "lane 31 read by " + std::to_string(i));
  }
}

__global__ void vote(unsigned* ballots, int* any_and_all) {
  const int lane = threadIdx.x % 32;
  ballots[threadIdx.x] = __ballot_sync(kAll, lane % 3 == 0);
  any_and_all[threadIdx.x] = __any_sync(kAll, lane == 5) && !__any_sync(kAll, lane > 31) &&
                             __all_sync(kAll, lane < 32) && !__all_sync(kAll, lane != 5);
}

void check_votes(Report& report) {
  report.group("votes");
  std::vector<unsigned> ballots(40);
  std::vector<int> any_and_all(40);
  LAUNCH((vote), 1, 40, 0, nullptr, ballots.data(), any_and_all.data());
  for (int i = 0; i < 40; ++i) {
    report.require(ballots[i] == (i < 32 ? 0x49249249u : 0x49u), "ballot of thread " + std::to_string(i));
    report.require(any_and_all[i], "any and all of thread " + std::to_string(i));
  }
}

// Threads that have returned are waited for no longer, at a barrier or in a warp.
__global__ void return_early(int* out, int last) {
  if (static_cast<int>(threadIdx.x) >= last) return;
  __syncthreads();
  const unsigned ballot = __ballot_sync(kAll, 1);
  out[threadIdx.x] = __builtin_popcount(ballot);
  __syncthreads();
}

void check_early_returns(Report& report) {
  report.group("threads that return early");
  for (const int last : {0, 1, 31, 32, 33, 64}) {
    std::vector<int> out(64);
    LAUNCH((return_early), 1, 64, 0, nullptr, out.data(), last);
    for (int i = 0; i < 64; ++i) {
      const int lanes = i >= last ? 0 : i < 32 ? std::min(last, 32) : last - 32;
      report.require(out[i] == lanes, "thread " + std::to_string(i) + " of " + std::to_string(last));
    }
  }
}

struct Totals {
  float sum;
  double wide_sum;
  int count, least, largest;
  unsigned long long locked;
};

__global__ void accumulate(Totals* totals) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  atomicAdd(&totals->sum, 0.5f);
  atomicAdd(&totals->wide_sum, 0.25);
  atomicAdd(&totals->count, 1);
  atomicMin(&totals->least, -i);
  atomicMax(&totals->largest, i);
  unsigned long long seen = 0;
  for (;;) {
    const unsigned long long old = atomicCAS(&totals->locked, seen, seen + i);
    if (old == seen) break;
    seen = old;
  }
}

void check_atomics(Report& report) {
  report.group("atomics");
  Totals totals = {};
  LAUNCH((accumulate), 3, 100, 0, nullptr, &totals);
  report.require(totals.sum == 150 && totals.wide_sum == 75 && totals.count == 300, "atomicAdd");
  report.require(totals.least == -299 && totals.largest == 299, "atomicMin and atomicMax");
  report.require(totals.locked == 299 * 300 / 2, "atomicCAS");
}

// Shared memory starts with nothing to rely on: not zeros, not what the previous block left.
__global__ void read_unwritten(float* out, bool* fixed_is_fresh) {
  __shared__ float fixed[4];
  DYNAMIC_SHARED(float, variable);
  if (threadIdx.x == 0) {
    out[blockIdx.x] = variable[3];
    fixed_is_fresh[blockIdx.x] = !(fixed[3] == 7);
    variable[3] = fixed[3] = 7;
  }
}

void check_shared_memory_is_poisoned(Report& report) {
  report.group("unwritten shared memory");
  std::vector<float> out(3);
  bool fresh[3];
  LAUNCH((read_unwritten), 3, 2, 4 * sizeof(float), nullptr, out.data(), fresh);
  for (int block = 0; block < 3; ++block) {
    report.require(std::isnan(out[block]), "dynamic shared memory of block " + std::to_string(block) + " must be NaN");
#if !defined(__SANITIZE_ADDRESS__)  // whose red zones take the place of the poison
    report.require(fresh[block], "static shared memory of block " + std::to_string(block));
#endif
  }
}

__global__ void write_block(unsigned* out) {
  if (threadIdx.x == 0) *out = blockIdx.x + 1;
}

// Whether the launch was refused with a sentence that names the kernel and contains `reason`.
template <class Launch>
bool refused(Launch launch, const std::string& reason) {
  try {
    launch();
  } catch (const std::runtime_error& error) {
    const std::string what = error.what();
    return what.find(reason) != std::string::npos;
  }
  return false;
}

void check_launch_refusals(Report& report) {
  report.group("launches that CUDA refuses");
  unsigned out = 0;
  const auto launch = [&](dim3 grid, dim3 block, size_t bytes) {
    LAUNCH((write_block), grid, block, bytes, nullptr, &out);
  };
  const std::string threads = "refuse to launch write_block: a block has 1 to 1024 threads";
  const std::string blocks = "refuse to launch write_block: a grid is";
  report.require(refused([&] { launch(1, 0, 0); }, threads), "no threads");
  report.require(refused([&] { launch(1, 1025, 0); }, threads), "1025 threads");
  report.require(refused([&] { launch(1, dim3(33, 32), 0); }, threads), "33 x 32 threads");
  report.require(refused([&] { launch(1, dim3(1, 1, 65), 0); }, threads), "a depth of 65");
  report.require(refused([&] { launch(0, 1, 0); }, blocks), "an empty grid");
  report.require(refused([&] { launch(2147483648LL, 1, 0); }, blocks), "2^31 blocks");
  report.require(refused([&] { launch(dim3(1, 65536), 1, 0); }, blocks), "65536 blocks along y");
  report.require(refused([&] { launch(dim3(1, 1, 65536), 1, 0); }, blocks), "65536 blocks along z");
  report.require(refused([&] { launch(1LL << 32, 1, 0); }, "is no dim3 size"), "2^32 blocks, which are 0 in 32 bits");
  report.require(refused([&] { launch(1, 1, 49153); }, "49152 bytes of dynamic shared memory"),
                 "too much shared memory");
  report.require(out == 0, "a refused kernel must not run");
  launch(1, 1024, 49152);
  report.require(out == 1, "the largest block must run");
}

void check_registry(Report& report) {
  report.group("the register of launched kernels");
  report.require(simt::launched_kernels().count("reverse") == 1, "reverse<33> must be listed as reverse");
  report.require(simt::launched_kernels().count("never") == 0, "a kernel that was not launched must not be listed");
}

void check_arithmetic(Report& report) {
  report.group("arithmetic");
  report.require(min(3, int64_t{-5}) == -5 && max(3u, int64_t{5}) == 5, "min and max of integers of different width");
  report.require(min(1.5f, NAN) == 1.5f && max(double(NAN), 2.5f) == 2.5, "min and max prefer a number to NaN");
  report.require(__uint_as_float(__float_as_uint(-1.25f)) == -1.25f && __float_as_uint(1.f) == 0x3f800000u,
                 "bit casts");
}

}  // namespace

int main(int argc, char** argv) {
  parse_size(argc, argv);
  Report report;
  check_positions(report);
  check_barriers<1>(report);
  check_barriers<33>(report);
  check_barriers<1024>(report);
  check_block_votes(report);
  check_shuffles(report);
  check_partial_warps(report);
  check_votes(report);
  check_early_returns(report);
  check_atomics(report);
  check_shared_memory_is_poisoned(report);
  check_launch_refusals(report);
  check_registry(report);
  check_arithmetic(report);
  return report.finish();
}
