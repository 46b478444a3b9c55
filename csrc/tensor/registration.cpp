#include "tensor/registration.h"

#include <ATen/autocast_mode.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>

#include <algorithm>
#include <utility>

namespace somvae {

namespace {

// Under autocast an op runs in float32: its reduced-precision inputs are cast up, then it is called again without
// autocast.
void cast_to_float32(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  c10::DeviceType device = c10::DeviceType::CPU;
  const size_t count = op.schema().arguments().size();
  for (const c10::IValue& argument : torch::jit::last(*stack, count)) {
    if (argument.isTensor() && argument.toTensor().defined()) device = argument.toTensor().device().type();
  }
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(
      at::autocast::get_autocast_dispatch_key_from_device_type(device));
  for (size_t i = stack->size() - count; i < stack->size(); ++i) {
    c10::IValue& argument = (*stack)[i];
    if (argument.isTensor()) argument = at::autocast::cached_cast(at::kFloat, argument.toTensor(), device);
  }
  op.callBoxed(stack);
}

// A function-local static, not a global: the ops register themselves before main, in an unspecified order.
std::vector<NativeFunction>& mutable_native_functions() {
  static std::vector<NativeFunction> functions;
  return functions;
}

}  // namespace

const std::vector<NativeFunction>& native_functions() { return mutable_native_functions(); }

OpRegistration::OpRegistration(torch::Library& library, const char* schema) : library_(library), op_("", "") {
  c10::FunctionSchema parsed = torch::schema(schema);
  op_ = parsed.operator_name();
  library_.def(std::move(parsed));
}

OpRegistration& OpRegistration::without_derivatives() {
  implement(c10::DispatchKey::Autograd, torch::CppFunction::makeFallthrough());
  return *this;
}

OpRegistration& OpRegistration::refuses_second_derivatives() {
  implement(c10::DispatchKey::Autograd, torch::autograd::autogradNotImplementedFallback());
  return *this;
}

OpRegistration& OpRegistration::autocast_to_float32() {
  for (const auto key : {c10::DispatchKey::AutocastCPU, c10::DispatchKey::AutocastCUDA}) {
    implement(key, torch::CppFunction::makeFromBoxedFunction<&cast_to_float32>());
  }
  return *this;
}

void OpRegistration::implement(c10::DispatchKey key, torch::CppFunction&& function) {
  library_.impl(c10::toString(op_).c_str(), torch::dispatch(key, std::move(function)));
}

void OpRegistration::bind(c10::KernelFunction function, bool is_differentiable) {
  std::vector<NativeFunction>& functions = mutable_native_functions();
  NativeFunction bound{op_.name,
                       c10::Dispatcher::singleton().findSchemaOrThrow(("somvae_ext::" + op_.name).c_str(), ""),
                       std::move(function)};
  // If an op has two functions, the one below autograd is renamed, whichever is bound first.
  const auto other =
      std::find_if(functions.begin(), functions.end(), [&](const NativeFunction& f) { return f.name == bound.name; });
  if (other != functions.end()) (is_differentiable ? *other : bound).name += "_forward";
  functions.push_back(std::move(bound));
}

}  // namespace somvae
