// A thread of execution with its own stack, switched explicitly.
#pragma once
#include <cstddef>

#if !defined(__x86_64__) || defined(SOMVAE_SIMT_UCONTEXT)
#define SOMVAE_SIMT_USES_UCONTEXT
#include <ucontext.h>
#endif

namespace somvae::simt {

class Fiber {
 public:
  Fiber() = default;  // for adopt_caller
  // Runs entry, which must never return, when first switched to.
  explicit Fiber(void (*entry)());
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Makes this fiber represent the running stack. It must have been constructed by Fiber().
  void adopt_caller();

  // Switches from the current fiber to this one, and returns when the current one is resumed. Orders nothing: to the
  // race detector, the work of one fiber before the switch does not happen before that of the other after it.
  void resume();

 private:
  static void enter();
  static void finish_switch();

  void (*entry_)() = nullptr;
  char* stack_ = nullptr;
  size_t stack_bytes_ = 0;
#if defined(SOMVAE_SIMT_USES_UCONTEXT)
  ucontext_t context_;
#else
  void* stack_pointer_ = nullptr;
#endif
  void* asan_fake_stack_ = nullptr;
  void* tsan_fiber_ = nullptr;
};

}  // namespace somvae::simt
