// The codebook as the CPU distance kernels read it: panels of 16 codes, feature by feature, so that one vector load
// brings the same feature of neighbouring codes. Made once per call and shared by all threads.
#pragma once
#include <cmath>
#include <cstdint>

#include "dtypes.h"

namespace somvae {

constexpr int kPanelCodes = 16;

inline int64_t panel_count(int64_t units) { return (units + kPanelCodes - 1) / kPanelCodes; }

// packed[panel][d][code], in elements of Compute<T>. Missing codes of the last panel are NaN, which never win.
template <class T>
void pack_panels(const T* codebook, int64_t units, int64_t dim, Compute<T>* packed, int64_t first_panel,
                 int64_t last_panel) {
  for (int64_t panel = first_panel; panel < last_panel; ++panel) {
    Compute<T>* out = packed + panel * dim * kPanelCodes;
    for (int code = 0; code < kPanelCodes; ++code) {
      const int64_t unit = panel * kPanelCodes + code;
      for (int64_t d = 0; d < dim; ++d) {
        out[d * kPanelCodes + code] = unit < units ? load(codebook[unit * dim + d]) : Compute<T>(NAN);
      }
    }
  }
}

}  // namespace somvae
