// The rows of a batch grouped by the row of logits that they share (tensor/touched_rows.h), as kernels read them.
#pragma once
#include <cstdint>

#include "device.h"

namespace somvae {

struct TouchedGroups {
  const int64_t* node;     // [count] valid rows of the table, ascending
  const int64_t* order;    // [rows] rows of the batch, those of a group adjacent
  const int64_t* offsets;  // [count + 1] group g owns order[offsets[g]] .. order[offsets[g + 1] - 1]
  int64_t count;           // of groups; the last ones may be empty

  // The row of group g in the gradient of the logits: one of `count` rows if it is sparse, else a row of the whole
  // table. That table starts as zeros, so groups without rows need not write theirs.
  SOMVAE_HOST_DEVICE inline int64_t gradient_row(int64_t g, bool sparse) const { return sparse ? g : node[g]; }
};

}  // namespace somvae
