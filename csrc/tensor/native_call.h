// Handles for calling registered ops through the dispatcher: torch.compile can trace such calls, and fake tensors reach
// the ops' shape functions.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>

#include <string>
#include <type_traits>

namespace somvae {

template <auto function>
c10::TypedOperatorHandle<std::remove_pointer_t<decltype(function)>> native_op(const char* name) {
  return c10::Dispatcher::singleton()
      .findSchemaOrThrow((std::string("somvae_ext::") + name).c_str(), "")
      .template typed<std::remove_pointer_t<decltype(function)>>();
}

}  // namespace somvae
