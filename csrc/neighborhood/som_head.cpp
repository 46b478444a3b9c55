// The op som_head, and the op som_losses for callers that know the winners. Both use the same forward kernel and the
// same backward op.
#include "neighborhood/som_head.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "ops.h"
#include "tensor/checks.h"
#include "tensor/elements.h"
#include "tensor/native_call.h"
#include "tensor/parallel.h"
#include "tensor/registration.h"
#include "tensor/row_groups.h"
#include "tensor/run_on_cuda.h"

namespace somvae {

namespace {

void check_inputs(ArgumentChecks& check, const Tensor& z, const Tensor& codebook, const Tensor& neighbors) {
  check.floating("z", z);
  check.floating("codebook", codebook);
  check.shape("z", z, "ND");
  check.shape("neighbors", neighbors, "KS");  // checked first: the grid defines K
  check.dtype("neighbors", neighbors, at::kLong);
  check.shape("codebook", codebook, "KD");
}

// Tensors are contiguous. `quantized` may be undefined.
void run_head(const Tensor& z, const Tensor& codebook, const Tensor& index, const Tensor& neighbors, bool mask_border,
              const Tensor& quantized, const Tensor& commitment, const Tensor& som) {
  dispatch_floating(z.scalar_type(), [&]<class T>() {
    const SomHeadArgs<T> args{elements<T>(z),
                              elements<T>(codebook),
                              elements<int64_t>(index),
                              elements<int64_t>(neighbors),
                              mutable_elements<T>(quantized),
                              mutable_elements<Compute<T>>(commitment),
                              mutable_elements<Compute<T>>(som),
                              z.size(0),
                              codebook.size(0),
                              neighbors.size(1),
                              z.size(1),
                              mask_border};
    if (z.is_cuda()) {
      RUN_ON_CUDA(z, som_head_cuda(args, stream));
      return;
    }
    parallel(args.rows, kStreamedPair * (1 + args.slots) * args.dim,
             [&](int64_t first, int64_t last) { som_head_cpu(args, first, last); });
  });
}

Tensor contiguous_or_none(const std::optional<Tensor>& tensor) {
  return tensor.has_value() ? tensor->contiguous() : Tensor();
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor, Tensor> som_head(const Tensor& z, const Tensor& codebook, const Tensor& neighbors,
                                                    bool mask_border, bool /*straight_through: backward only*/) {
  ArgumentChecks check("som_head");
  check_inputs(check, z, codebook, neighbors);
  if (check.size('K') < 1) check.fail("codebook", "have at least one row", "none");

  const Tensor quantized = at::empty_symint({check.size('N'), check.size('D')}, z.options());
  const Tensor commitment = at::empty_symint({check.size('N')}, z.options().dtype(compute_dtype(z.scalar_type())));
  const Tensor som = at::empty_symint({check.size('N')}, commitment.options());
  if (z.is_meta())
    return {quantized, commitment, som, at::empty_symint({check.size('N')}, z.options().dtype(at::kLong))};

  const Tensor rows = z.contiguous(), codes = codebook.contiguous();
  const Tensor index = std::get<1>(bmu(rows, codes, 1));
  run_head(rows, codes, index, neighbors.contiguous(), mask_border, quantized, commitment, som);
  return {quantized, commitment, som, index};
}

std::tuple<Tensor, Tensor> som_losses(const Tensor& z, const Tensor& codebook, const Tensor& index,
                                      const Tensor& neighbors, bool mask_border) {
  ArgumentChecks check("som_losses");
  check_inputs(check, z, codebook, neighbors);
  check.index("index", index, "N", 'K');

  const Tensor commitment = at::empty_symint({check.size('N')}, z.options().dtype(compute_dtype(z.scalar_type())));
  const Tensor som = at::empty_symint({check.size('N')}, commitment.options());
  if (z.is_meta()) return {commitment, som};

  run_head(z.contiguous(), codebook.contiguous(), index.contiguous(), neighbors.contiguous(), mask_border, Tensor(),
           commitment, som);
  return {commitment, som};
}

std::tuple<Tensor, Tensor> som_head_backward(const std::optional<Tensor>& grad_quantized,
                                             const std::optional<Tensor>& grad_commitment,
                                             const std::optional<Tensor>& grad_som, const Tensor& z,
                                             const Tensor& codebook, const Tensor& index, const Tensor& neighbors,
                                             bool straight_through, std::array<bool, 2> output_mask) {
  ArgumentChecks check("som_head_backward");
  check_inputs(check, z, codebook, neighbors);
  check.index("index", index, "N", 'K');
  if (grad_quantized) {
    check.floating("grad_quantized", *grad_quantized);
    check.shape("grad_quantized", *grad_quantized, "ND");
  }
  const auto check_grad_of_loss = [&](const char* name, const std::optional<Tensor>& grad) {
    if (!grad) return;
    check.shape(name, *grad, "N");
    check.dtype(name, *grad, compute_dtype(z.scalar_type()));
  };
  check_grad_of_loss("grad_commitment", grad_commitment);
  check_grad_of_loss("grad_som", grad_som);

  const Tensor grad_z = output_mask[0] ? at::empty_symint(z.sym_sizes(), z.options()) : Tensor();
  const Tensor grad_codebook = output_mask[1] ? at::empty_symint(codebook.sym_sizes(), z.options()) : Tensor();
  if (z.is_meta()) return {grad_z, grad_codebook};

  const Tensor quantized = contiguous_or_none(grad_quantized), commitment = contiguous_or_none(grad_commitment);
  const Tensor som = contiguous_or_none(grad_som);
  const Tensor rows = z.contiguous(), codes = codebook.contiguous();
  const Tensor winners = index.contiguous(), table = neighbors.contiguous();
  const RowGroups groups = output_mask[1] ? group_rows(winners, codes.size(0)) : RowGroups();
  dispatch_floating(z.scalar_type(), [&]<class T>() {
    const SomHeadBackwardArgs<T> args{elements<T>(quantized),
                                      elements<Compute<T>>(commitment),
                                      elements<Compute<T>>(som),
                                      elements<T>(rows),
                                      elements<T>(codes),
                                      elements<int64_t>(winners),
                                      elements<int64_t>(table),
                                      elements<int64_t>(groups.order),
                                      elements<int64_t>(groups.offsets),
                                      mutable_elements<T>(grad_z),
                                      mutable_elements<T>(grad_codebook),
                                      rows.size(0),
                                      codes.size(0),
                                      table.size(1),
                                      rows.size(1),
                                      straight_through};
    if (z.is_cuda()) {
      RUN_ON_CUDA(z, som_head_backward_cuda(args, stream));
      return;
    }
    if (output_mask[0]) {
      parallel(args.rows, kStreamedPair * args.dim,
               [&](int64_t first, int64_t last) { som_head_backward_z_cpu(args, first, last); });
    }
    if (output_mask[1]) {
      grad_codebook.zero_();  // on a large map this dominates the cost of the pass
      const std::vector<int64_t> nodes = nodes_with_gradient(args);
      const double rows_of_each = double(args.rows) * (1 + args.moving_slots()) / std::max<size_t>(1, nodes.size());
      parallel(nodes.size(), kStreamedPair * (1 + rows_of_each) * args.dim,
               [&](int64_t first, int64_t last) { som_head_backward_codebook_cpu(args, nodes.data(), first, last); });
    }
  });
  return {grad_z, grad_codebook};
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

std::optional<Tensor> if_defined(const Tensor& tensor) {
  return tensor.defined() ? std::optional<Tensor>(tensor) : std::nullopt;
}

// An input gets a gradient only if an output with a gradient depends on it: a backward pass from `quantized` alone
// reaches only z with straight_through, and only the codebook without it.
variable_list backward_of_head(AutogradContext* ctx, const Tensor& grad_quantized, const Tensor& grad_commitment,
                               const Tensor& grad_som, bool straight_through) {
  static const auto op = native_op<&som_head_backward>("som_head_backward");
  const bool copied = grad_quantized.defined() && straight_through;
  const bool gathered = grad_quantized.defined() && !straight_through;
  const bool moves_z = grad_commitment.defined() || copied;
  const bool moves_codes = grad_commitment.defined() || grad_som.defined() || gathered;
  const std::array<bool, 2> output_mask = {moves_z && ctx->needs_input_grad(0),
                                           moves_codes && ctx->needs_input_grad(1)};
  if (!output_mask[0] && !output_mask[1]) return {Tensor(), Tensor()};
  const variable_list saved = ctx->get_saved_variables();
  auto [grad_z, grad_codebook] = op.call(if_defined(grad_quantized), if_defined(grad_commitment), if_defined(grad_som),
                                         saved[0], saved[1], saved[2], saved[3], straight_through, output_mask);
  return {grad_z, grad_codebook};
}

class SomHeadFunction : public torch::autograd::Function<SomHeadFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& z, const Tensor& codebook, const Tensor& neighbors,
                               bool mask_border, bool straight_through) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = native_op<&som_head>("som_head");
    auto [quantized, commitment, som, index] = op.call(z, codebook, neighbors, mask_border, straight_through);
    ctx->save_for_backward({z, codebook, index, neighbors});
    ctx->saved_data["straight_through"] = straight_through;
    ctx->mark_non_differentiable({index});
    ctx->set_materialize_grads(false);
    return {quantized, commitment, som, index};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    variable_list result =
        backward_of_head(ctx, grads[0], grads[1], grads[2], ctx->saved_data["straight_through"].toBool());
    result.resize(5);
    return result;
  }
};

class SomLossesFunction : public torch::autograd::Function<SomLossesFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& z, const Tensor& codebook, const Tensor& index,
                               const Tensor& neighbors, bool mask_border) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = native_op<&som_losses>("som_losses");
    auto [commitment, som] = op.call(z, codebook, index, neighbors, mask_border);
    ctx->save_for_backward({z, codebook, index, neighbors});
    ctx->set_materialize_grads(false);
    return {commitment, som};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    variable_list result = backward_of_head(ctx, Tensor(), grads[0], grads[1], false);
    result.resize(5);
    return result;
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor> differentiable_som_head(const Tensor& z, const Tensor& codebook,
                                                                   const Tensor& neighbors, bool mask_border,
                                                                   bool straight_through) {
  const variable_list outputs = SomHeadFunction::apply(z, codebook, neighbors, mask_border, straight_through);
  return {outputs[0], outputs[1], outputs[2], outputs[3]};
}

std::tuple<Tensor, Tensor> differentiable_som_losses(const Tensor& z, const Tensor& codebook, const Tensor& index,
                                                     const Tensor& neighbors, bool mask_border) {
  const variable_list outputs = SomLossesFunction::apply(z, codebook, index, neighbors, mask_border);
  return {outputs[0], outputs[1]};
}

}  // namespace

}  // namespace somvae

TORCH_LIBRARY_FRAGMENT(somvae_ext, library) {
  using namespace somvae;
  OpRegistration(library,
                 "som_head(Tensor z, Tensor codebook, Tensor neighbors, bool mask_border=False, "
                 "bool straight_through=False) "
                 "-> (Tensor quantized, Tensor commitment, Tensor som, Tensor index)")
      .on_all_devices(&som_head)
      .differentiable(&differentiable_som_head)
      .autocast_to_float32();
  OpRegistration(library,
                 "som_losses(Tensor z, Tensor codebook, Tensor index, Tensor neighbors, bool mask_border=False) "
                 "-> (Tensor commitment, Tensor som)")
      .on_all_devices(&som_losses)
      .differentiable(&differentiable_som_losses)
      .autocast_to_float32();
  OpRegistration(library,
                 "som_head_backward(Tensor? grad_quantized, Tensor? grad_commitment, Tensor? grad_som, Tensor z, "
                 "Tensor codebook, Tensor index, Tensor neighbors, bool straight_through=False, "
                 "bool[2] output_mask=[True, True]) "
                 "-> (Tensor, Tensor)")
      .on_all_devices(&som_head_backward)
      .refuses_second_derivatives();
}
