#pragma once
#include <cstdint>

#include "device.h"

namespace somvae {

SOMVAE_HOST_DEVICE inline bool in_range(int64_t index, int64_t size) { return index >= 0 && index < size; }

}  // namespace somvae
