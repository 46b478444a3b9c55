// A flow of execution with a stack of its own, switched by hand.
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

  // Makes this fiber stand for the stack that runs now. Its constructor must have been Fiber().
  void adopt_caller();

  // Leaves the current fiber for this one; returns when something resumes the current one. Orders nothing: what one
  // fiber did before is not known to have happened before what the other does next.
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
