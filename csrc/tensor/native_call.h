// Calls a registered op through the dispatcher, so that torch.compile sees it and fake tensors reach its shape
// function.
#pragma once
#include <ATen/core/dispatch/Dispatcher.h>

#include <string>

namespace somvae {

template <auto function>
c10::TypedOperatorHandle<std::remove_pointer_t<decltype(function)>> native_op(const char* name) {
  return c10::Dispatcher::singleton()
      .findSchemaOrThrow((std::string("somvae_ext::") + name).c_str(), "")
      .template typed<std::remove_pointer_t<decltype(function)>>();
}

}  // namespace somvae
