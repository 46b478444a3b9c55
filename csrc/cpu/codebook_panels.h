// The codebook as the CPU distance kernels read it: panels of 16 codes, feature by feature, so that one vector load
// brings the same feature of neighbouring codes.
#pragma once
#include <cstdint>

#include "dtypes.h"

namespace somvae {

constexpr int kPanelCodes = 16;

inline int64_t panel_count(int64_t codes) { return (codes + kPanelCodes - 1) / kPanelCodes; }

// Panels [first, last) of packed[panel][d][code]. Missing codes of the last panel are NaN, which never win.
template <class T>
void pack_panels_cpu(const T* codebook, int64_t codes, int64_t dim, Compute<T>* packed, int64_t first, int64_t last);

}  // namespace somvae
