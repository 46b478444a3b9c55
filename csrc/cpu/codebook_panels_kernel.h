// Packs codes into panels. Compiled once per instruction level by codebook_panels.cpp.

#include "cpu/vector.h"

#include "cpu/pack_panel.h"

template <class T>
void pack_panels(const T* codebook, int64_t codes, int64_t dim, Compute<T>* packed, int64_t first, int64_t last) {
  for (int64_t panel = first; panel < last; ++panel) {
    pack_panel(codebook, codes, dim, panel, packed + panel * dim * kPanelCodes);
  }
}
