#include "neighborhood/som_losses.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops.h"
#include "tensor/checks.h"
#include "tensor/dispatch.h"
#include "tensor/native_call.h"
#include "tensor/row_groups.h"

namespace somvae {

namespace {

void check_inputs(ArgumentChecks& check, const Tensor& z, const Tensor& codebook, const Tensor& index,
                  const Tensor& neighbors) {
  check.floating("z", z);
  check.floating("codebook", codebook);
  check.shape("z", z, "ND");
  check.shape("neighbors", neighbors, "KS");  // first: the grid says what K is
  check.dtype("neighbors", neighbors, at::kLong);
  check.shape("codebook", codebook, "KD");
  check.index("index", index, "N", 'K');
}

}  // namespace

std::tuple<Tensor, Tensor> som_losses(const Tensor& z, const Tensor& codebook, const Tensor& index,
                                      const Tensor& neighbors, bool mask_border) {
  ArgumentChecks check("som_losses");
  check_inputs(check, z, codebook, index, neighbors);

  const Tensor commitment = at::empty_symint({check.size('N')}, z.options().dtype(compute_dtype(z.scalar_type())));
  const Tensor som = at::empty_symint({check.size('N')}, commitment.options());
  if (z.is_meta()) return {commitment, som};

  const Tensor rows = z.contiguous(), codes = codebook.contiguous();
  const Tensor winners = index.contiguous(), table = neighbors.contiguous();
  dispatch_floating(z.scalar_type(), [&]<class T>() {
    const SomLossesArgs<T> args{elements<T>(rows),
                                elements<T>(codes),
                                elements<int64_t>(winners),
                                elements<int64_t>(table),
                                mutable_elements<Compute<T>>(commitment),
                                mutable_elements<Compute<T>>(som),
                                rows.size(0),
                                codes.size(0),
                                table.size(1),
                                rows.size(1),
                                mask_border};
    if (z.is_cuda()) {
      RUN_ON_CUDA(z, som_losses_cuda(args, stream));
      return;
    }
    parallel(args.rows, kStreamedPair * (1 + args.slots) * args.dim,
             [&](int64_t first, int64_t last) { som_losses_cpu(args, first, last); });
  });
  return {commitment, som};
}

std::tuple<Tensor, Tensor> som_losses_backward(const Tensor& grad_commitment, const Tensor& grad_som, const Tensor& z,
                                               const Tensor& codebook, const Tensor& index, const Tensor& neighbors,
                                               std::array<bool, 2> output_mask) {
  ArgumentChecks check("som_losses_backward");
  check_inputs(check, z, codebook, index, neighbors);
  check.shape("grad_commitment", grad_commitment, "N");
  check.shape("grad_som", grad_som, "N");
  check.dtype("grad_commitment", grad_commitment, compute_dtype(z.scalar_type()));
  check.dtype("grad_som", grad_som, compute_dtype(z.scalar_type()));

  const Tensor grad_z = output_mask[0] ? at::empty_symint(z.sym_sizes(), z.options()) : Tensor();
  const Tensor grad_codebook = output_mask[1] ? at::empty_symint(codebook.sym_sizes(), z.options()) : Tensor();
  if (z.is_meta()) return {grad_z, grad_codebook};

  const Tensor upstream_commitment = grad_commitment.contiguous(), upstream_som = grad_som.contiguous();
  const Tensor rows = z.contiguous(), codes = codebook.contiguous();
  const Tensor winners = index.contiguous(), table = neighbors.contiguous();
  const RowGroups groups = output_mask[1] ? group_rows(winners, codes.size(0)) : RowGroups();
  dispatch_floating(z.scalar_type(), [&]<class T>() {
    const SomLossesBackwardArgs<T> args{elements<Compute<T>>(upstream_commitment),
                                        elements<Compute<T>>(upstream_som),
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
                                        rows.size(1)};
    if (z.is_cuda()) {
      RUN_ON_CUDA(z, som_losses_backward_cuda(args, stream));
      return;
    }
    if (output_mask[0]) {
      parallel(args.rows, kStreamedPair * args.dim,
               [&](int64_t first, int64_t last) { som_losses_backward_z_cpu(args, first, last); });
    }
    if (output_mask[1]) {
      parallel(args.units, kStreamedPair * (1 + args.rows / args.units) * (1 + args.slots) * args.dim,
               [&](int64_t first, int64_t last) { som_losses_backward_codebook_cpu(args, first, last); });
    }
  });
  return {grad_z, grad_codebook};
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class SomLossesFunction : public torch::autograd::Function<SomLossesFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& z, const Tensor& codebook, const Tensor& index,
                               const Tensor& neighbors, bool mask_border) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = native_op<&som_losses>("som_losses");
    auto [commitment, som] = op.call(z, codebook, index, neighbors, mask_border);
    ctx->save_for_backward({z, codebook, index, neighbors});
    return {commitment, som};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = native_op<&som_losses_backward>("som_losses_backward");
    const variable_list saved = ctx->get_saved_variables();
    auto [grad_z, grad_codebook] = op.call(grads[0], grads[1], saved[0], saved[1], saved[2], saved[3],
                                           {ctx->needs_input_grad(0), ctx->needs_input_grad(1)});
    return {grad_z, grad_codebook, Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

std::tuple<Tensor, Tensor> differentiable::som_losses(const Tensor& z, const Tensor& codebook, const Tensor& index,
                                                      const Tensor& neighbors, bool mask_border) {
  const variable_list outputs = SomLossesFunction::apply(z, codebook, index, neighbors, mask_border);
  return {outputs[0], outputs[1]};
}

}  // namespace somvae
