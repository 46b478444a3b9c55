#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <mutex>

#include "bmu/pruned/map_index.h"
#include "cpu/codebook_panels.h"
#include "ops.h"
#include "tensor/checks.h"
#include "tensor/elements.h"
#include "tensor/native_call.h"
#include "tensor/parallel.h"
#include "tensor/registration.h"

namespace somvae {

namespace {

// The tensors of an index, in the order in which somvae_ext/ops/_bmu_index.py builds them.
enum Part {
  kTiles,
  kTileOf,
  kPacked,
  kMean,
  kBasis,
  kProjections,
  kTileBoxes,
  kGroupBoxes,
  kTileCenters,
  kGroupCenters,
  kErrors,
  kParts
};

// Checks sizes and types, so that kernels read nothing outside the tensors. Does not check values.
template <class C>
MapIndex<C> map_index(const ArgumentChecks& check, at::TensorList parts, int64_t codes, int64_t dim) {
  if (parts.size() != kParts) {
    check.fail("index_parts", "be the " + std::to_string(kParts) + " tensors of a BMUIndex",
               std::to_string(parts.size()));
  }
  const int64_t tiles = parts[kTiles].numel() / kTileCodes, groups = tiles / kGroupTiles;
  const int64_t rank = parts[kProjections].numel() / std::max<int64_t>(1, tiles * kTileCodes) - 2;
  const auto holds = [&](Part part, at::ScalarType type, int64_t elements) {
    const Tensor& tensor = parts[part];
    return tensor.is_cpu() && tensor.is_contiguous() && tensor.scalar_type() == type && tensor.numel() == elements;
  };
  constexpr at::ScalarType floating = std::is_same_v<C, double> ? at::kDouble : at::kFloat;
  const bool fits =
      groups > 0 && rank > 0 && rank <= kLargestRank && holds(kTiles, at::kInt, groups * kGroupTiles * kTileCodes) &&
      holds(kTileOf, at::kInt, codes) && holds(kPacked, floating, tiles * dim * kTileCodes) &&
      holds(kMean, floating, dim) && holds(kBasis, floating, panel_count(rank) * kPanelCodes * dim) &&
      holds(kProjections, floating, tiles * (2 + rank) * kTileCodes) &&
      holds(kTileBoxes, floating, groups * (2 + 2 * rank) * kGroupTiles) &&
      holds(kGroupBoxes, floating, panel_count(groups) * (2 + 2 * rank) * kPanelCodes) &&
      holds(kTileCenters, floating, groups * rank * kGroupTiles) &&
      holds(kGroupCenters, floating, panel_count(groups) * rank * kPanelCodes) && holds(kErrors, at::kDouble, 3);
  if (!fits) check.fail("index_parts", "be the tensors of a BMUIndex of this codebook's size and dtype", "others");
  const double* const errors = elements<double>(parts[kErrors]);
  return {elements<int32_t>(parts[kTiles]),
          elements<int32_t>(parts[kTileOf]),
          elements<C>(parts[kPacked]),
          elements<C>(parts[kMean]),
          elements<C>(parts[kBasis]),
          elements<C>(parts[kProjections]),
          elements<C>(parts[kTileBoxes]),
          elements<C>(parts[kGroupBoxes]),
          elements<C>(parts[kTileCenters]),
          elements<C>(parts[kGroupCenters]),
          errors[0],
          errors[1],
          errors[2],
          codes,
          dim,
          rank,
          tiles};
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> bmu_pruned(const Tensor& z, const Tensor& codebook, at::TensorList index_parts,
                                              const std::optional<Tensor>& hint, int64_t k) {
  ArgumentChecks check("bmu_pruned");
  check.floating("z", z);
  check.floating("codebook", codebook);
  check.shape("z", z, "ND");
  check.shape("codebook", codebook, "KD");
  if (hint.has_value()) check.index("hint", *hint, "N", 'K');
  if (k != 1 && k != 2) check.fail("k", "be 1 or 2", std::to_string(k));
  if (check.size('K') < k) {
    check.fail("codebook", "have at least k = " + std::to_string(k) + " rows", std::to_string(codebook.size(0)));
  }

  std::vector<c10::SymInt> shape{check.size('N')};
  if (k == 2) shape.emplace_back(2);
  const Tensor distance = at::empty_symint(shape, z.options().dtype(compute_dtype(z.scalar_type())));
  const Tensor index = at::empty_symint(shape, z.options().dtype(at::kLong));
  const Tensor work = at::zeros({3}, at::TensorOptions(at::kLong).device(z.device()));
  if (z.is_meta()) return {distance, index, work};

  const Tensor rows = z.contiguous(), codes = codebook.contiguous();
  const Tensor hints = hint.has_value() ? hint->contiguous() : Tensor();
  dispatch_floating(z.scalar_type(), [&]<class T>() {
    const PrunedSearchArgs<T> args{map_index<Compute<T>>(check, index_parts, codebook.size(0), z.size(1)),
                                   elements<T>(codes),
                                   elements<T>(rows),
                                   elements<int64_t>(hints),
                                   mutable_elements<Compute<T>>(distance),
                                   mutable_elements<int64_t>(index),
                                   rows.size(0),
                                   static_cast<int>(k),
                                   at::in_parallel_region() ? 1 : at::get_num_threads()};
    std::mutex mutex;
    SearchWork total;
    parallel(args.rows, kTiledPair * args.map.codes * args.map.dim / 4, [&](int64_t first, int64_t last) {
      const SearchWork part = pruned_search_cpu(args, first, last);
      const std::lock_guard<std::mutex> lock(mutex);
      total.projected += part.projected;
      total.screened += part.screened;
      total.scored += part.scored;
    });
    int64_t* const out = work.mutable_data_ptr<int64_t>();
    out[0] = total.projected;
    out[1] = total.screened;
    out[2] = total.scored;
  });
  return {distance, index, work};
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class PrunedBMUFunction : public torch::autograd::Function<PrunedBMUFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& z, const Tensor& codebook,
                               at::TensorList index_parts, const std::optional<Tensor>& hint, int64_t k) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = native_op<&bmu_pruned>("bmu_pruned");
    auto [distance, index, work] = op.call(z, codebook, index_parts, hint, k);
    ctx->saved_data["inputs"] = static_cast<int64_t>(index_parts.size());
    ctx->save_for_backward({z, codebook, index});
    ctx->mark_non_differentiable({index, work});
    return {distance, index, work};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = native_op<&bmu_backward>("bmu_backward");
    const variable_list saved = ctx->get_saved_variables();
    auto [grad_z, grad_codebook] =
        op.call(grads[0], saved[0], saved[1], saved[2], {ctx->needs_input_grad(0), ctx->needs_input_grad(1)});
    variable_list result(2 + ctx->saved_data["inputs"].toInt() + 2);
    result[0] = grad_z;
    result[1] = grad_codebook;
    return result;
  }
};

std::tuple<Tensor, Tensor, Tensor> differentiable_bmu_pruned(const Tensor& z, const Tensor& codebook,
                                                             at::TensorList index_parts,
                                                             const std::optional<Tensor>& hint, int64_t k) {
  const variable_list outputs = PrunedBMUFunction::apply(z, codebook, index_parts, hint, k);
  return {outputs[0], outputs[1], outputs[2]};
}

}  // namespace

}  // namespace somvae

TORCH_LIBRARY_FRAGMENT(somvae_ext, library) {
  using namespace somvae;
  OpRegistration(library,
                 "bmu_pruned(Tensor z, Tensor codebook, Tensor[] index_parts, Tensor? hint=None, int k=1) "
                 "-> (Tensor distance, Tensor index, Tensor work)")
      .on_cpu(&bmu_pruned)
      .differentiable(&differentiable_bmu_pruned);
}
