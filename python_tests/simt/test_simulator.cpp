// csrc/simt itself: its promises about CUDA's thread model.
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/async_copy.cuh"
#include "cuda/launch.cuh"
#include "cuda/tensor_core.cuh"
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

// Reverses a block's values through static and dynamic shared memory, several times.
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

// Two halves of a warp diverge, and exchange at their own pace.
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

// The last warp has 8 lanes. A missing lane gives no usable value.
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

// Barriers and warps do not wait for threads that have returned.
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

// Two groups of copies: the first has arrived after a wait for all but one, the second only after a wait for all.
template <class T>
__global__ void copy_in_groups(const T* in, T* early, T* late) {
  __shared__ T values[2];
  for (int group = 0; group < 2; ++group) {
    async_copy<sizeof(T)>(values + group, in + group, true);
    commit_copies();
  }
  await_copies<1>();
  for (int group = 0; group < 2; ++group) early[group] = values[group];
  await_copies<0>();
  for (int group = 0; group < 2; ++group) late[group] = values[group];
}

// A copy that is not `present` writes zeros and does not read.
__global__ void copy_nothing(const double2* nowhere, double2* out) {
  __shared__ double2 value;
  async_copy<16>(&value, nowhere, false);
  commit_copies();
  await_copies<0>();
  *out = value;
}

template <class T>
void check_copies_of(Report& report) {
  const T in[2] = {T(1.5), T(2.5)};
  T early[2] = {}, late[2] = {};
  LAUNCH((copy_in_groups<T>), 1, 1, 0, nullptr, in, early, late);
  report.require(early[0] == T(1.5) && std::isnan(early[1]), "a group that was not waited for must not have arrived");
  report.require(late[0] == T(1.5) && late[1] == T(2.5), "groups that were waited for must have arrived");
}

void check_async_copies(Report& report) {
  report.group("asynchronous copies");
  check_copies_of<float>(report);
  check_copies_of<double>(report);
  double2 out = {1, 1};
  LAUNCH((copy_nothing), 1, 1, 0, nullptr, nullptr, &out);
  report.require(out.x == 0 && out.y == 0, "what is not present must be zeros");
}

// d += a b of 16 x 16 and 16 x 8 elements of T, each lane with the words that PTX assigns to it.
template <class T>
__global__ void multiply_matrices(const T* a, const T* b, float* d) {
  constexpr int per_word = 2, depth = 16;
  const int group = threadIdx.x / 4, member = threadIdx.x % 4;
  uint32_t a_words[4], b_words[2];
  for (int i = 0; i < 4; ++i) {
    memcpy(a_words + i, a + (group + i % 2 * 8) * depth + (member + i / 2 * 4) * per_word, 4);
  }
  for (int i = 0; i < 2; ++i) {
    T pair[per_word];
    for (int e = 0; e < per_word; ++e) pair[e] = b[((member + i * 4) * per_word + e) * 8 + group];
    memcpy(b_words + i, pair, 4);
  }
  float sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = d[(group + i / 2 * 8) * 8 + 2 * member + i % 2];
  multiply_accumulate<T>(sums, a_words, b_words);
  for (int i = 0; i < 4; ++i) d[(group + i / 2 * 8) * 8 + 2 * member + i % 2] = sums[i];
}

template <class T>
void check_matrix_product(Report& report) {
  report.group(std::string("tensor cores, ") + dtype_name<T>());
  constexpr int depth = 16;
  std::vector<T> a(16 * depth), b(depth * 8);
  std::vector<float> d(16 * 8), expected(16 * 8);
  for (int i = 0; i < static_cast<int>(a.size()); ++i) a[i] = store<T>(i * 7 % 31 - 15);  // small: all sums are exact
  for (int i = 0; i < static_cast<int>(b.size()); ++i) b[i] = store<T>(i * 5 % 29 - 14);
  for (int row = 0; row < 16; ++row) {
    for (int column = 0; column < 8; ++column) {
      float& sum = expected[row * 8 + column];
      sum = d[row * 8 + column] = static_cast<float>(row - column);
      for (int i = 0; i < depth; ++i) sum += load(a[row * depth + i]) * load(b[i * 8 + column]);
    }
  }
  LAUNCH((multiply_matrices<T>), 1, 32, 0, nullptr, a.data(), b.data(), d.data());
  for (int i = 0; i < 128; ++i) report.require(d[i] == expected[i], "element " + std::to_string(i));
}

// Four matrices of 8 x 4 words, rows in reverse order: a lane's words come from where its group's lanes point.
__global__ void load_four_matrices(uint32_t* out) {
  __shared__ uint4 rows[32];
  const unsigned lane = threadIdx.x;
  rows[31 - lane] = make_uint4(4 * lane, 4 * lane + 1, 4 * lane + 2, 4 * lane + 3);
  __syncwarp();
  uint32_t words[4];
  load_matrices(words, rows + 31 - lane);
  for (int i = 0; i < 4; ++i) out[4 * lane + i] = words[i];
}

void check_matrix_loads(Report& report) {
  report.group("ldmatrix");
  std::vector<uint32_t> out(128);
  LAUNCH((load_four_matrices), 1, 32, 0, nullptr, out.data());
  for (unsigned lane = 0; lane < 32; ++lane) {
    for (unsigned i = 0; i < 4; ++i) {
      const uint32_t expected = 4 * (8 * i + lane / 4) + lane % 4;
      report.require(out[4 * lane + i] == expected, "matrix " + std::to_string(i) + ", lane " + std::to_string(lane));
    }
  }
}

// The worst case that the search assumes of tensor cores: a sum is truncated.
void check_rounding_of_tensor_cores(Report& report) {
  report.group("tensor cores, rounding");
  report.require(simt::add_toward_zero(1.0f, 0x1.8p-24) == 1.0f, "a sum must be truncated");
  report.require(simt::add_toward_zero(-1.0f, -0x1.8p-24) == -1.0f, "a negative sum must be truncated");
  report.require(simt::add_toward_zero(1.0f, -0x1p-26) == 0x1.fffffep-1f, "a difference must be truncated");
}

// Kernels loop in strides of the grid: the tests make the grid smaller than the work.
__global__ void count_visits(int* visits, int64_t elements) {
  for (int64_t i = global_thread(); i < elements; i += total_threads()) ++visits[i];
}

void check_small_grids(Report& report) {
  report.group("grids smaller than the work");
  const simt::Device before = simt::device();
  simt::device().largest_grid = 2;
  std::vector<int> visits(1000);
  report.require(blocks_for(1000, 32) == 2, "launchers must keep to the largest grid");
  LAUNCH((count_visits), blocks_for(1000, 32), 32, 0, nullptr, visits.data(), int64_t{1000});
  simt::device() = before;
  for (int i = 0; i < 1000; ++i) report.require(visits[i] == 1, "element " + std::to_string(i));
}

// Shared memory starts undefined: neither zeros nor what the previous block left.
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
#if !defined(__SANITIZE_ADDRESS__)  // red zones replace the poison
    report.require(fresh[block], "static shared memory of block " + std::to_string(block));
#endif
  }
}

__global__ void write_block(unsigned* out) {
  if (threadIdx.x == 0) *out = blockIdx.x + 1;
}

// Whether the launch was refused with a message that contains `reason`.
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
  report.require(refused([&] { launch(1LL << 32, 1, 0); }, "is not a valid dim3 size"),
                 "2^32 blocks, which are 0 in 32 bits");
  report.require(refused([&] { launch(1, 1, 101377); }, "101376 bytes of dynamic shared memory"),
                 "too much shared memory");
  report.require(out == 0, "a refused kernel must not run");
  launch(1, 1024, 101376);
  report.require(out == 1, "the largest block must run");
}

void check_registry(Report& report) {
  report.group("the registry of launched kernels");
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
  check_async_copies(report);
  check_matrix_product<Float16>(report);
  check_matrix_product<BFloat16>(report);
  check_matrix_loads(report);
  check_rounding_of_tensor_cores(report);
  check_small_grids(report);
  check_shared_memory_is_poisoned(report);
  check_launch_refusals(report);
  check_registry(report);
  check_arithmetic(report);
  return report.finish();
}
