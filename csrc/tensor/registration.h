// Registers an op with torch's dispatcher, in a block at the end of its own .cpp:
//
//   TORCH_LIBRARY_FRAGMENT(somvae_ext, library) {
//     somvae::OpRegistration(library, "row_norm(Tensor x) -> Tensor")
//         .on_all_devices(&somvae::row_norm)
//         .differentiable(&somvae::differentiable_row_norm)
//         .autocast_to_float32();
//     somvae::OpRegistration(library, "row_norm_backward(Tensor grad, Tensor x) -> Tensor")
//         .on_all_devices(&somvae::row_norm_backward)
//         .refuses_second_derivatives();
//   }
//
// The same block makes the functions callable from Python without the dispatcher (bindings.cpp): the differentiable one
// as _C.row_norm, the one below it as _C.row_norm_forward. An op with only one function is bound under its own
// name.
#pragma once
#include <torch/library.h>

#include <string>
#include <vector>

namespace somvae {

// A function that _C exposes directly.
struct NativeFunction {
  std::string name;  // in _C
  c10::OperatorHandle op;
  c10::KernelFunction function;
};
const std::vector<NativeFunction>& native_functions();

class OpRegistration {
 public:
  OpRegistration(torch::Library& library, const char* schema);

  // The op below autograd. The function also serves as the op's shape function: it must return before it reads elements
  // of a meta tensor.
  template <class Function>
  OpRegistration& on_all_devices(Function* function) {
    implement(c10::DispatchKey::CUDA, torch::CppFunction(function));
    return on_cpu(function);
  }
  template <class Function>
  OpRegistration& on_cpu(Function* function) {
    implement(c10::DispatchKey::CPU, torch::CppFunction(function));
    implement(c10::DispatchKey::Meta, torch::CppFunction(function));
    bind(c10::KernelFunction::makeFromUnboxedRuntimeFunction(function), /*is_differentiable=*/false);
    return *this;
  }

  // The op is differentiable: `function` applies a torch::autograd::Function.
  template <class Function>
  OpRegistration& differentiable(Function* function) {
    implement(c10::DispatchKey::Autograd, torch::CppFunction(function));
    bind(c10::KernelFunction::makeFromUnboxedRuntimeFunction(function), /*is_differentiable=*/true);
    return *this;
  }
  // The op has no derivatives: its outputs are constants to autograd.
  OpRegistration& without_derivatives();
  // The op computes a gradient that is not differentiable itself: an attempt raises an error.
  OpRegistration& refuses_second_derivatives();

  // Under autocast, inputs of lower precision are cast to float32. Without this call, the op takes inputs as they are.
  OpRegistration& autocast_to_float32();

 private:
  void implement(c10::DispatchKey key, torch::CppFunction&& function);
  void bind(c10::KernelFunction function, bool is_differentiable);

  torch::Library& library_;
  c10::OperatorName op_;
};

}  // namespace somvae
