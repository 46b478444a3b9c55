// The detectors work: a kernel with a planted defect is reported by kind, file and line, and without it runs clean.
//
// A report ends the program, so each runs in a process of its own, started by this same program with --run.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "cuda/async_copy.cuh"
#include "device.h"
#include "harness.h"

using namespace somvae;
using namespace somvae::test;

namespace {

constexpr int kThreads = 64;

template <bool planted>
__global__ void missing_barrier(int* out) {
  __shared__ int values[kThreads];
  values[threadIdx.x] = threadIdx.x;
  if constexpr (!planted) __syncthreads();
  out[threadIdx.x] = values[kThreads - 1 - threadIdx.x];  // PLANTED missing_barrier
}

// Each thread reads before it replaces a value, but a fast thread does not wait until a slow one has read.
template <bool planted>
__global__ void missing_second_barrier(int* out) {
  __shared__ int values[kThreads];
  for (int pass = 0; pass < 2; ++pass) {
    values[threadIdx.x] = threadIdx.x + pass;  // PLANTED missing_second_barrier
    __syncthreads();
    out[threadIdx.x] = values[kThreads - 1 - threadIdx.x];
    if constexpr (!planted) __syncthreads();
  }
}

template <bool planted>
__global__ void shuffle_as_barrier(int* out) {
  DYNAMIC_SHARED(int, values);
  const int lane = threadIdx.x % 32;
  values[threadIdx.x] = lane;
  if constexpr (planted) {
    __shfl_sync(0xffffffffu, lane, 0);  // exchanges registers, but orders no memory
  } else {
    __syncwarp();
  }
  out[threadIdx.x] = values[threadIdx.x ^ 1];  // PLANTED shuffle_as_barrier
}

template <bool planted>
__global__ void blocks_share_an_element(int* out) {
  const int element = planted ? threadIdx.x : blockIdx.x * kThreads / 2 + threadIdx.x;
  if (threadIdx.x < kThreads / 2) out[element] = 1;  // PLANTED blocks_share_an_element
}

// Barriers order the threads of a block, never blocks.
template <bool planted>
__global__ void blocks_share_behind_barriers(int* out) {
  for (int pass = 0; pass < 2; ++pass) {
    __syncthreads();
    const int element = planted ? threadIdx.x : blockIdx.x * kThreads / 2 + threadIdx.x;
    if (threadIdx.x < kThreads / 2) out[element] = pass;  // PLANTED blocks_share_behind_barriers
    __syncthreads();
  }
}

// A function that receives a pointer cannot know where the array ends; the red zone marks it.
__attribute__((noinline)) __device__ int value_after(const int* value) {
  return value[1];  // PLANTED static_shared_overrun
}

template <bool planted>
__global__ void static_shared_overrun(int* out) {
  __shared__ int values[kThreads];
  values[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = threadIdx.x + 1 < kThreads || planted ? value_after(values + threadIdx.x) : 0;
}

template <bool planted>
__global__ void static_shared_row_overrun(int* out) {
  __shared__ int values[2][kThreads];
  for (int row = 0; row < 2; ++row) values[row][threadIdx.x] = row;
  __syncthreads();
  const int next = threadIdx.x + 1 < kThreads || planted ? threadIdx.x + 1 : 0;
  out[threadIdx.x] = values[0][next];  // PLANTED static_shared_row_overrun
}

template <bool planted>
__global__ void dynamic_shared_overrun(int* out) {
  DYNAMIC_SHARED(int, values);
  values[threadIdx.x + (planted ? 1 : 0)] = 1;  // PLANTED dynamic_shared_overrun
  out[threadIdx.x] = values[threadIdx.x];
}

template <bool planted>
__global__ void global_overrun(int* out) {
  out[threadIdx.x + (planted ? 1 : 0)] = 1;  // PLANTED global_overrun
}

template <bool planted>
__global__ void signed_overflow(int* out) {
  const int large = 2147483647 - kThreads;
  out[threadIdx.x] = large + static_cast<int>(threadIdx.x) * (planted ? 2 : 1);  // PLANTED signed_overflow
}

template <bool planted>
__global__ void divergent_barrier(int* out) {
  if (planted && threadIdx.x < 7) {
    __syncthreads();  // PLANTED divergent_barrier
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}

// Seven lanes wait for the whole block at a barrier, and the rest of their warp waits for them in a shuffle.
template <bool planted>
__global__ void deadlock(int* out) {
  if (planted && threadIdx.x < 7) __syncthreads();
  out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1, 1);  // PLANTED deadlock
}

template <bool planted>
__global__ void lanes_disagree(int* out) {
  const unsigned mask = planted && threadIdx.x % 2 ? 0x0000ffffu : 0xffffffffu;
  out[threadIdx.x] = threadIdx.x % 32 < 16 ? __shfl_xor_sync(mask, 1, 2) : 0;  // PLANTED lanes_disagree
}

__device__ int kSource[kThreads];

template <bool planted>
__global__ void missing_wait(int* out) {
  __shared__ int values[kThreads];
  async_copy<4>(values + threadIdx.x, kSource + threadIdx.x, true);  // PLANTED missing_wait
  commit_copies();
  if constexpr (!planted) await_copies<0>();
  out[threadIdx.x] = values[threadIdx.x];
}

// A thread has waited for its own copies only.
template <bool planted>
__global__ void wait_as_barrier(int* out) {
  __shared__ int values[kThreads];
  async_copy<4>(values + threadIdx.x, kSource + threadIdx.x, true);
  commit_copies();
  await_copies<0>();
  if constexpr (!planted) __syncthreads();
  out[threadIdx.x] = values[kThreads - 1 - threadIdx.x];  // PLANTED wait_as_barrier
}

// A copy overwrites values that other threads still read, although no thread waits for the copy yet.
template <bool planted>
__global__ void copy_over_readers(int* out) {
  __shared__ int values[kThreads];
  values[threadIdx.x] = threadIdx.x;
  __syncthreads();
  out[threadIdx.x] = values[kThreads - 1 - threadIdx.x];
  if constexpr (!planted) __syncthreads();
  async_copy<4>(values + threadIdx.x, kSource + threadIdx.x, true);  // PLANTED copy_over_readers
  __syncthreads();
  commit_copies();
  await_copies<0>();
}

struct Defect {
  const char* name;
  const char* detector;  // the variant that must see it
  const char* report;    // what its message must contain
  void (*planted)(int*);
  void (*clean)(int*);
};

#define DEFECT(kernel, blocks, detector, report)                                                     \
  {#kernel, detector, report,                                                                        \
   [](int* out) { LAUNCH((kernel<true>), blocks, kThreads, kThreads * sizeof(int), nullptr, out); }, \
   [](int* out) { LAUNCH((kernel<false>), blocks, kThreads, kThreads * sizeof(int), nullptr, out); }}

const Defect kDefects[] = {
    DEFECT(missing_barrier, 1, "thread", "data race"),
    DEFECT(missing_second_barrier, 1, "thread", "data race"),
    DEFECT(shuffle_as_barrier, 1, "thread", "data race"),
    DEFECT(blocks_share_an_element, 2, "thread", "data race"),
    DEFECT(blocks_share_behind_barriers, 2, "thread", "data race"),
    DEFECT(missing_wait, 1, "plain", "without waiting"),
    DEFECT(wait_as_barrier, 1, "thread", "data race"),
    DEFECT(copy_over_readers, 1, "thread", "data race"),
    DEFECT(static_shared_overrun, 1, "address", "global-buffer-overflow"),
    DEFECT(static_shared_row_overrun, 1, "address", "out of bounds"),
    DEFECT(dynamic_shared_overrun, 1, "address", "heap-buffer-overflow"),
    DEFECT(global_overrun, 1, "address", "heap-buffer-overflow"),
    DEFECT(signed_overflow, 1, "address", "signed integer overflow"),
    DEFECT(divergent_barrier, 1, "plain", "divergent barrier"),
    DEFECT(deadlock, 1, "plain", "deadlock"),
    DEFECT(lanes_disagree, 1, "plain", "lanes of a warp disagree"),
};

const Defect& find(const std::string& name) {
  for (const Defect& defect : kDefects) {
    if (name == defect.name) return defect;
  }
  std::fprintf(stderr, "no defect is called %s\n", name.c_str());
  std::exit(2);
}

void run(const std::string& name, bool planted) {
  const std::unique_ptr<int[]> out(new int[kThreads]);  // of exact size
  (planted ? find(name).planted : find(name).clean)(out.get());
}

struct Outcome {
  int status;
  std::string output;
};

Outcome run_in_process(const Defect& defect, bool planted) {
  char program[4096] = {};
  if (readlink("/proc/self/exe", program, sizeof program - 1) < 0) std::perror("/proc/self/exe");
  const std::string command =
      "'" + std::string(program) + "' --run " + defect.name + (planted ? " planted" : " clean") + " 2>&1";
  Outcome outcome;
  FILE* pipe = popen(command.c_str(), "r");
  char buffer[4096];
  while (const size_t bytes = fread(buffer, 1, sizeof buffer, pipe)) outcome.output.append(buffer, bytes);
  const int status = pclose(pipe);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return outcome;
}

// "test_planted.cpp:<line>" of the comment that marks the defect.
std::string place_of(const Defect& defect) {
  std::ifstream source(__FILE__);
  std::string line;
  for (int number = 1; std::getline(source, line); ++number) {
    if (line.ends_with(std::string("// PLANTED ") + defect.name)) return "test_planted.cpp:" + std::to_string(number);
  }
  return "a marked line";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 4 && std::string(argv[1]) == "--run") {
    run(argv[2], std::string(argv[3]) == "planted");
    return 0;
  }
  parse_size(argc, argv);
  Report report;
  for (const Defect& defect : kDefects) {
    if (std::string(defect.detector) != SOMVAE_SIMT_VARIANT) continue;
    report.group(std::string("planted ") + defect.name);
    const Outcome planted = run_in_process(defect, true), clean = run_in_process(defect, false);
    report.require(planted.status != 0, "the program must fail");
    report.require(planted.output.find(defect.report) != std::string::npos,
                   std::string("no \"") + defect.report + "\" in its report:\n" + planted.output);
    report.require(planted.output.find(place_of(defect)) != std::string::npos,
                   "no " + place_of(defect) + " in its report:\n" + planted.output);
    report.require(clean.status == 0 && clean.output.empty(), "without the defect it must run clean:\n" + clean.output);
  }
  return report.finish();
}
