// Properties of the current device, for launchers. The driver caches them: no call waits for the device or breaks a
// graph capture.
#pragma once
#include <cstdint>

#include "device.h"

namespace somvae {

struct DeviceProperties {
  int multiprocessors;
  int capability;        // 10 * major + minor
  int64_t shared_bytes;  // of a multiprocessor
};

inline DeviceProperties current_device_properties() {
#if defined(SOMVAE_SIMT)
  return {simt::device().multiprocessors, simt::device().capability, simt::device().shared_bytes};
#else
  const auto check = [](cudaError_t error) {
    if (error == cudaSuccess) return;
    throw std::runtime_error(std::string("somvae_ext: CUDA cannot read the properties of the device: ") +
                             cudaGetErrorString(error));
  };
  int device = 0, multiprocessors = 0, major = 0, minor = 0, shared_bytes = 0;
  check(cudaGetDevice(&device));
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device));
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  check(cudaDeviceGetAttribute(&shared_bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device));
  return {multiprocessors, 10 * major + minor, shared_bytes};
#endif
}

}  // namespace somvae
