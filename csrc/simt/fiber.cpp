#include "simt/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <stdexcept>

#include "simt/sanitizers.h"

#if !defined(SOMVAE_SIMT_USES_UCONTEXT)
// Saves the registers that a call must preserve and the stack pointer, and loads another fiber's. swapcontext would
// do, but is much slower: it enters the kernel to save the signal mask.
extern "C" void somvae_simt_switch_stack(void** save, void* load);
asm(R"(
.text
.globl somvae_simt_switch_stack
.type somvae_simt_switch_stack, @function
somvae_simt_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size somvae_simt_switch_stack, .-somvae_simt_switch_stack
)");
#endif

namespace somvae::simt {
namespace {

#if defined(SOMVAE_SIMT_ASAN) || defined(SOMVAE_SIMT_TSAN)
constexpr size_t kStackBytes = 256 << 10;  // instrumented frames are large
#else
constexpr size_t kStackBytes = 64 << 10;
#endif

Fiber* current = nullptr;
Fiber* previous = nullptr;

}  // namespace

Fiber::Fiber(void (*entry)()) : entry_(entry), stack_bytes_(kStackBytes) {
  const size_t guard = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, guard + stack_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED || mprotect(memory, guard, PROT_NONE) != 0) {
    throw std::runtime_error("simt: no memory for the stack of a fiber");
  }
  stack_ = static_cast<char*>(memory) + guard;
#if defined(SOMVAE_SIMT_USES_UCONTEXT)
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = stack_bytes_;
  context_.uc_link = nullptr;
  makecontext(&context_, &Fiber::enter, 0);
#else
  // The stack as if `enter` had just been called: six registers, its address, a null return address.
  void** top = reinterpret_cast<void**>(stack_ + stack_bytes_ - 16);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&Fiber::enter);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  stack_pointer_ = top;
#endif
#if defined(SOMVAE_SIMT_TSAN)
  tsan_fiber_ = __tsan_create_fiber(0);
#endif
}

void Fiber::adopt_caller() {
  current = this;
#if defined(SOMVAE_SIMT_TSAN)
  tsan_fiber_ = __tsan_get_current_fiber();
#endif
}

void Fiber::resume() {
  Fiber& self = *current;
  previous = current;
  current = this;
#if defined(SOMVAE_SIMT_ASAN)
  __sanitizer_start_switch_fiber(&self.asan_fake_stack_, stack_, stack_bytes_);
#endif
#if defined(SOMVAE_SIMT_TSAN)
  constexpr unsigned kWithoutSynchronization = 1;
  __tsan_switch_to_fiber(tsan_fiber_, kWithoutSynchronization);
#endif
#if defined(SOMVAE_SIMT_USES_UCONTEXT)
  swapcontext(&self.context_, &context_);
#else
  somvae_simt_switch_stack(&self.stack_pointer_, stack_pointer_);
#endif
  finish_switch();
}

void Fiber::finish_switch() {
#if defined(SOMVAE_SIMT_ASAN)
  const void* bottom;
  size_t bytes;
  __sanitizer_finish_switch_fiber(current->asan_fake_stack_, &bottom, &bytes);
  previous->stack_ = static_cast<char*>(const_cast<void*>(bottom));  // records the bounds of the caller's stack
  previous->stack_bytes_ = bytes;
#endif
}

void Fiber::enter() {
  finish_switch();
  current->entry_();
}

}  // namespace somvae::simt
