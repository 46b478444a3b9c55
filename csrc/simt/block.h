// Runs the threads of a block: scheduling, barriers, and exchanges between threads.
//
// Threads run one at a time, each until it waits or returns, in ascending order. A correct kernel gives the same result
// in any order, and the race detector knows no order but that of the barriers. Behavior that CUDA leaves undefined
// ends the program with a message: a barrier that not all threads reach, threads that meet at different barriers, warps
// whose lanes disagree about the mask or the operation.
#pragma once
#include <cstdint>

#include "simt/language.h"

namespace somvae::simt {

enum class Collective {
  kSyncthreads,
  kSyncthreadsCount,
  kSyncthreadsAnd,
  kSyncthreadsOr,
  kSyncwarp,
  kShuffle,
  kBallot,
  kExchange
};

struct CallSite {
  const char* file;
  int line;
};

// Waits for every thread of the block that has not returned. Returns the count, conjunction or disjunction of their
// predicates.
int meet_block(Collective operation, int predicate, CallSite site);

// Waits for every lane in mask that has not returned. A shuffle returns the bits that lane source passed (all ones if
// that lane takes no part), a ballot the lanes that passed nonzero bits. Only kSyncwarp orders memory.
uint64_t meet_warp(Collective operation, unsigned mask, uint64_t bits, unsigned source, CallSite site);

// The operands of a lane in an instruction that a whole warp executes together.
struct Operands {
  uint32_t words[8];
};

// Waits for all 32 lanes, none of which may have returned, to pass their operands. Orders no memory. Until the lane's
// next exchange, operands_of returns the operands of any lane.
void exchange_operands(const Operands& operands, CallSite site);
Operands operands_of(unsigned lane);

// Copies that a thread has started and not waited for, in groups like those of cp.async. The block only stores them:
// cuda/async_copy.cuh reads the source at the start, and writes the destination when the wait returns them. A thread
// that returns without waiting ends the program.
struct AsyncCopy {
  void* destination;
  unsigned char bytes[16];
  unsigned size;
  CallSite site;
};
void begin_async_copy(const AsyncCopy& copy);
[[noreturn]] void misaligned_copy(int bytes, CallSite site);
void commit_async_copies();
// Takes the next copy of all groups but the `pending` latest ones. Returns false if none is left.
bool complete_async_copy(unsigned pending, AsyncCopy* copy);

using Body = void (*)(const void* closure);

struct Launch {
  const char* kernel;
  dim3 grid, block;
  size_t dynamic_shared_bytes;
  Body body;
  const void* closure;
};

// Runs the blocks one after another on the calling thread.
void run_blocks(const Launch& launch);

}  // namespace somvae::simt

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  ::somvae::simt::meet_block(::somvae::simt::Collective::kSyncthreads, 0, {file, line});
}
inline int __syncthreads_count(int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return ::somvae::simt::meet_block(::somvae::simt::Collective::kSyncthreadsCount, predicate, {file, line});
}
inline int __syncthreads_and(int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return ::somvae::simt::meet_block(::somvae::simt::Collective::kSyncthreadsAnd, predicate, {file, line});
}
inline int __syncthreads_or(int predicate, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return ::somvae::simt::meet_block(::somvae::simt::Collective::kSyncthreadsOr, predicate, {file, line});
}
