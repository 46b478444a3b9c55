#include "simt/block.h"

#include <link.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "simt/fiber.h"
#include "simt/sanitizers.h"

namespace somvae::simt {

const Position* position = nullptr;

namespace {

constexpr unsigned kWarpSize = 32;
constexpr int kPoison = 0xff;  // NaN in every floating-point type

struct Warp;

struct Thread {
  enum class State { kReady, kAtBlock, kAtWarp, kReturned };

  Position position;
  Warp* warp;
  Fiber* fiber;
  State state;

  // The collective that the thread waits for, and its result.
  Collective operation;
  CallSite site;
  unsigned mask;
  unsigned source;
  uint64_t bits;
  uint64_t result;

  unsigned exchanges;

  // The numbers of started and completed copies, and the number started by the end of each of the latest groups.
  static constexpr unsigned kMaxCopies = 128, kMaxGroups = 8;
  unsigned begun, completed;
  unsigned group_ends[kMaxGroups];
  unsigned groups;
};

// Operands and copies of a thread. They are kept outside Thread, because a barrier visits all threads, and from one
// launch to the next, because they are large.
struct Exchanged {
  Operands operands[2];                  // two sets, since other lanes may still read the previous one
  AsyncCopy copies[Thread::kMaxCopies];  // a ring
};

// An ordering edge for the race detector. Its users alternate between two tags: a thread that has already reached the
// next barrier must not order its latest work before a thread that has not yet left this one.
class Ordering {
 public:
  static constexpr size_t kTags = 2;

  void start(char* tags) {
    tags_ = tags;
    round_ = 0;
  }
  char* tag() const { return tags_ + round_; }
  void next() { round_ ^= 1; }

 private:
  char* tags_;
  int round_;
};

struct Warp {
  Thread* lanes;
  unsigned alive;
  unsigned waiting;               // lanes at a collective of the warp
  Ordering orderings[kWarpSize];  // one per mask, at the mask's lowest lane
};

struct Block {
  explicit Block(const Launch& launch)
      : launch(&launch),
        threads(size_t{launch.block.x} * launch.block.y * launch.block.z),
        warps((threads.size() + kWarpSize - 1) / kWarpSize) {}

  const Launch* launch;
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  unsigned alive;
  unsigned waiting;  // at a barrier of the block
  Ordering ordering;
  std::unique_ptr<char[]> dynamic_shared, tags;

  Exchanged& exchanged_by(const Thread& thread) {
    static std::deque<Exchanged> pool;
    const size_t index = &thread - threads.data();
    while (pool.size() <= index) {
      const UntrackedAllocation untracked;
      pool.emplace_back();
    }
    return pool[index];
  }
};

Block* block = nullptr;
Thread* current = nullptr;
Fiber* caller = nullptr;
char launch_started, launch_finished;  // tags

const char* name(Collective operation) {
  switch (operation) {
    case Collective::kSyncthreads:
      return "__syncthreads";
    case Collective::kSyncthreadsCount:
      return "__syncthreads_count";
    case Collective::kSyncthreadsAnd:
      return "__syncthreads_and";
    case Collective::kSyncthreadsOr:
      return "__syncthreads_or";
    case Collective::kSyncwarp:
      return "__syncwarp";
    case Collective::kShuffle:
      return "a warp shuffle";
    case Collective::kBallot:
      return "a warp vote";
    case Collective::kExchange:
      return "an instruction of the whole warp";
  }
  return "";
}

std::string describe(const Thread& thread) {
  return std::string(name(thread.operation)) + " (" + thread.site.file + ":" + std::to_string(thread.site.line) + ")";
}

std::string describe(const uint3& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

[[noreturn]] void fail(const std::string& what) {
  std::fflush(stdout);
  std::fprintf(stderr, "simt: kernel %s, block %s: %s\n", block->launch->kernel,
               describe(block->threads.front().position.block_index).c_str(), what.c_str());
  std::abort();
}

[[noreturn]] void fail_deadlock() {
  std::map<std::string, int> waiting;
  for (const Thread& thread : block->threads) {
    if (thread.state != Thread::State::kReturned) ++waiting[describe(thread)];
  }
  std::string what = "deadlock:";
  for (const auto& [where, count] : waiting) what += " " + std::to_string(count) + " threads wait at " + where + ",";
  fail(what + " " + std::to_string(block->threads.size() - block->alive) + " have returned");
}

void resume(Thread& thread) {
  current = &thread;
  position = &thread.position;
  thread.fiber->resume();
}

// Switches from the current thread, which waits or has returned, to the next one that can run.
void yield() {
  const size_t count = block->threads.size();
  const size_t self = current - block->threads.data();
  for (size_t step = 1; step <= count; ++step) {
    Thread& next = block->threads[self + step < count ? self + step : self + step - count];
    if (next.state == Thread::State::kReady) return resume(next);
  }
  if (block->alive > 0) fail_deadlock();
  caller->resume();
}

void complete_block() {
  const Thread* first = nullptr;
  int count = 0;
  for (const Thread& thread : block->threads) {
    if (thread.state == Thread::State::kReturned) continue;
    if (first == nullptr) first = &thread;
    const bool same_file = thread.site.file == first->site.file || !strcmp(thread.site.file, first->site.file);
    if (thread.operation != first->operation || thread.site.line != first->site.line || !same_file) {
      fail("divergent barrier: thread " + describe(first->position.thread_index) + " waits at " + describe(*first) +
           ", thread " + describe(thread.position.thread_index) + " at " + describe(thread));
    }
    count += thread.bits != 0;
  }
  const bool all = count == static_cast<int>(block->alive);
  for (Thread& thread : block->threads) {
    if (thread.state == Thread::State::kReturned) continue;
    thread.state = Thread::State::kReady;
    thread.result = thread.operation == Collective::kSyncthreadsCount ? count
                    : thread.operation == Collective::kSyncthreadsAnd ? all
                                                                      : count > 0;
  }
  block->waiting = 0;
  block->ordering.next();
}

// Completes the exchange among the lanes of mask if all of them have arrived.
void complete_warp(Warp& warp, unsigned mask) {
  const unsigned lanes = mask & warp.alive;
  if ((lanes & ~warp.waiting) != 0) return;
  const Thread* first = nullptr;
  unsigned ballot = 0;
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    const unsigned lane = __builtin_ctz(rest);
    const Thread& thread = warp.lanes[lane];
    if (first == nullptr) first = &thread;
    if (thread.mask != first->mask || thread.operation != first->operation) {
      fail("lanes of a warp disagree: lane " + std::to_string(first->position.lane) + " is at " + describe(*first) +
           " with mask " + std::to_string(first->mask) + ", lane " + std::to_string(lane) + " at " + describe(thread) +
           " with mask " + std::to_string(thread.mask));
    }
    if (thread.bits != 0) ballot |= 1u << lane;
  }
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    Thread& thread = warp.lanes[__builtin_ctz(rest)];
    if (thread.operation == Collective::kShuffle) {
      thread.result = lanes >> thread.source & 1 ? warp.lanes[thread.source].bits : ~uint64_t{0};
    } else {
      thread.result = ballot;
    }
    thread.state = Thread::State::kReady;
  }
  warp.waiting &= ~lanes;
  warp.orderings[__builtin_ctz(mask)].next();
}

// The main function of a fiber. Runs one thread after another, each from a later block.
void run_threads() {
  for (;;) {
    acquire(&launch_started);
    block->launch->body(block->launch->closure);
    release(&launch_finished);

    Thread& self = *current;
    if (self.begun != self.completed) {
      const CallSite site = block->exchanged_by(self).copies[self.completed % Thread::kMaxCopies].site;
      fail("thread " + describe(self.position.thread_index) + " returns without waiting for the copy begun at " +
           site.file + ":" + std::to_string(site.line));
    }
    self.state = Thread::State::kReturned;
    --block->alive;
    self.warp->alive &= ~(1u << self.position.lane);
    // Threads that waited only for this one may continue.
    if (block->alive > 0 && block->waiting == block->alive) complete_block();
    for (unsigned rest = self.warp->alive; rest != 0; rest &= rest - 1) {
      const Thread& other = self.warp->lanes[__builtin_ctz(rest)];
      if (other.state == Thread::State::kAtWarp) complete_warp(*self.warp, other.mask);
    }
    yield();
  }
}

struct Memory {
  char* begin;
  size_t bytes;
};

// The thread-local variables of the program: the arrays that its kernels declare __shared__.
Memory find_static_shared() {
  Memory memory = {nullptr, 0};
  dl_iterate_phdr(
      [](dl_phdr_info* object, size_t, void* result) {
        for (int i = 0; i < object->dlpi_phnum; ++i) {
          const ElfW(Phdr) & segment = object->dlpi_phdr[i];
          if (segment.p_type != PT_TLS) continue;
          *static_cast<Memory*>(result) = {static_cast<char*>(object->dlpi_tls_data), segment.p_memsz};
        }
        return 1;  // the first object is the program; the others are libraries
      },
      &memory);
  return memory;
}

// Gives the block fresh shared memory and fresh tags for its orderings: the barriers of one block must not order its
// work before that of another.
void renew_memory() {
  const UntrackedAllocation untracked;
  block->tags.reset(new char[Ordering::kTags * (1 + block->warps.size() * kWarpSize)]);
  char* tags = block->tags.get();
  block->ordering.start(tags);
  for (Warp& warp : block->warps) {
    for (Ordering& ordering : warp.orderings) ordering.start(tags += Ordering::kTags);
  }
  const size_t bytes = block->launch->dynamic_shared_bytes;
  block->dynamic_shared.reset(new char[bytes]);  // of exact size, so an overrun leaves the allocation
  memset(block->dynamic_shared.get(), kPoison, bytes);
  static const Memory static_shared = find_static_shared();
  if (static_shared.bytes > 0) memset(static_shared.begin, kPoison, static_shared.bytes);
  forget_accesses(static_shared.begin, static_shared.bytes);
}

// Prepares the threads of block `number`, at `index`. To the race detector, everything on a fiber is ordered, so a
// block must not run on the fibers of the previous one.
void prepare(const uint3& index, size_t number, std::deque<Fiber>& fibers) {
  const dim3& size = block->launch->block;
  const unsigned count = static_cast<unsigned>(block->threads.size());
  block->alive = count;
  block->waiting = 0;
  for (unsigned w = 0; w < block->warps.size(); ++w) {
    block->warps[w].lanes = &block->threads[w * kWarpSize];
    block->warps[w].alive = block->warps[w].waiting = 0;
  }
  for (unsigned i = 0; i < count; ++i) {
    Thread& thread = block->threads[i];
    const uint3 thread_index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
    thread.position = {thread_index, index, size, block->launch->grid, i % kWarpSize};
    thread.warp = &block->warps[i / kWarpSize];
    thread.warp->alive |= 1u << thread.position.lane;
    thread.fiber = &fibers[number % 2 * count + i];
    thread.state = Thread::State::kReady;
    thread.exchanges = thread.begun = thread.completed = thread.groups = 0;
  }
}

}  // namespace

void* dynamic_shared() { return block->dynamic_shared.get(); }

int meet_block(Collective operation, int predicate, CallSite site) {
  Thread& self = *current;
  void* tag = block->ordering.tag();
  self.operation = operation;
  self.site = site;
  self.bits = predicate != 0;
  self.state = Thread::State::kAtBlock;
  release(tag);
  if (++block->waiting == block->alive) {
    complete_block();
  } else {
    yield();
  }
  acquire(tag);
  return static_cast<int>(self.result);
}

uint64_t meet_warp(Collective operation, unsigned mask, uint64_t bits, unsigned source, CallSite site) {
  Thread& self = *current;
  self.operation = operation;
  self.site = site;
  self.mask = mask;
  self.source = source;
  self.bits = bits;
  if ((mask >> self.position.lane & 1) == 0) {
    fail("lane " + std::to_string(self.position.lane) + " is not in the mask " + std::to_string(mask) + " of " +
         describe(self));
  }
  const bool orders_memory = operation == Collective::kSyncwarp;
  void* tag = self.warp->orderings[__builtin_ctz(mask)].tag();
  self.state = Thread::State::kAtWarp;
  self.warp->waiting |= 1u << self.position.lane;
  if (orders_memory) release(tag);
  complete_warp(*self.warp, mask);
  if (self.state != Thread::State::kReady) yield();
  if (orders_memory) acquire(tag);
  return self.result;
}

void exchange_operands(const Operands& operands, CallSite site) {
  Thread& self = *current;
  constexpr unsigned kAllLanes = 0xffffffffu;
  if (self.warp->alive != kAllLanes) fail("a lane has returned before an instruction of the whole warp");
  block->exchanged_by(self).operands[self.exchanges++ % 2] = operands;
  meet_warp(Collective::kExchange, kAllLanes, 0, 0, site);
}

Operands operands_of(unsigned lane) {
  return block->exchanged_by(current->warp->lanes[lane]).operands[(current->exchanges - 1) % 2];
}

void begin_async_copy(const AsyncCopy& copy) {
  Thread& self = *current;
  if (self.begun - self.completed == Thread::kMaxCopies) fail("too many asynchronous copies are pending");
  block->exchanged_by(self).copies[self.begun++ % Thread::kMaxCopies] = copy;
}

void misaligned_copy(int bytes, CallSite site) {
  fail("an asynchronous copy of " + std::to_string(bytes) + " bytes with a misaligned address, at " + site.file + ":" +
       std::to_string(site.line));
}

void commit_async_copies() {
  Thread& self = *current;
  self.group_ends[self.groups++ % Thread::kMaxGroups] = self.begun;
}

bool complete_async_copy(unsigned pending, AsyncCopy* copy) {
  Thread& self = *current;
  if (pending >= Thread::kMaxGroups) fail("a wait leaves too many groups pending: " + std::to_string(pending));
  if (self.groups <= pending) return false;
  // Unsigned counters may wrap around, but their differences do not.
  const unsigned end = self.group_ends[(self.groups - 1 - pending) % Thread::kMaxGroups];
  if (static_cast<int>(end - self.completed) <= 0) return false;
  *copy = block->exchanged_by(self).copies[self.completed++ % Thread::kMaxCopies];
  return true;
}

void run_blocks(const Launch& launch) {
  static std::deque<Fiber> fibers;  // kept, with their stacks, for the next launch
  Block running(launch);
  while (fibers.size() < 2 * running.threads.size()) fibers.emplace_back(&run_threads);
  Fiber self;
  self.adopt_caller();
  block = &running;
  caller = &self;
  release(&launch_started);
  size_t number = 0;
  for (unsigned z = 0; z < launch.grid.z; ++z) {
    for (unsigned y = 0; y < launch.grid.y; ++y) {
      for (unsigned x = 0; x < launch.grid.x; ++x) {
        prepare({x, y, z}, number++, fibers);
        renew_memory();
        resume(running.threads.front());
      }
    }
  }
  acquire(&launch_finished);
  const UntrackedAllocation untracked;
  running.dynamic_shared.reset();
  running.tags.reset();
  block = nullptr;
  current = nullptr;
  position = nullptr;
}

}  // namespace somvae::simt
