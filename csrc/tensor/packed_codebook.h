// The codebook as a tensor of panels (cpu/codebook_panels.h), which the CPU's distance kernels read.
#pragma once
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstdint>

#include "cpu/codebook_panels.h"
#include "tensor/elements.h"
#include "tensor/parallel.h"

namespace somvae {

template <class T>
Tensor packed_codebook(const Tensor& codebook) {
  const int64_t codes = codebook.size(0), dim = codebook.size(1), panels = panel_count(codes);
  const Tensor packed =
      at::empty({panels * kPanelCodes * dim}, codebook.options().dtype(compute_dtype(codebook.scalar_type())));
  parallel(panels, kPanelCodes * dim * kPackedFeature, [&](int64_t first, int64_t last) {
    pack_panels_cpu(elements<T>(codebook), codes, dim, mutable_elements<Compute<T>>(packed), first, last);
  });
  return packed;
}

}  // namespace somvae
