// The layout in which the CPU distance kernels read the codebook: panels of 16 codes, stored feature by feature. One
// vector load thus reads the same feature of consecutive codes.
#pragma once
#include <cstdint>

#include "dtypes.h"

namespace somvae {

constexpr int kPanelCodes = 16;

inline int64_t panel_count(int64_t codes) { return (codes + kPanelCodes - 1) / kPanelCodes; }

// Writes panels [first, last) of packed[panel][d][code]. Missing codes of the last panel become NaN, which never wins.
template <class T>
void pack_panels_cpu(const T* codebook, int64_t codes, int64_t dim, Compute<T>* packed, int64_t first, int64_t last);

}  // namespace somvae
