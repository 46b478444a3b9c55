#include "transition/expected_distance.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops.h"
#include "tensor/checks.h"
#include "tensor/dispatch.h"
#include "tensor/native_call.h"
#include "tensor/row_groups.h"
#include "transition/sparse_rows.h"

namespace somvae {

namespace {

void check_inputs(ArgumentChecks& check, const Tensor& logits, const Tensor& prev, const Tensor& z,
                  const Tensor& codebook) {
  check.floating("logits", logits);
  check.shape("logits", logits, "KK");
  check.index("prev", prev, "N", 'K');
  check.floating("z", z);
  check.shape("z", z, "ND");
  check.floating("codebook", codebook);
  check.shape("codebook", codebook, "KD");
}

}  // namespace

std::tuple<Tensor, Tensor> expected_distance(const Tensor& logits, const Tensor& prev, const Tensor& z,
                                             const Tensor& codebook,
                                             bool /*sparse_grad: of interest to the gradient alone*/) {
  ArgumentChecks check("expected_distance");
  check_inputs(check, logits, prev, z, codebook);

  const Tensor expectation = at::empty_symint({check.size('N')}, z.options().dtype(compute_dtype(z.scalar_type())));
  const Tensor log_normalizer = at::empty_symint({check.size('N')}, z.options().dtype(at::kDouble));
  if (logits.is_meta()) return {expectation, log_normalizer};

  const Tensor table = logits.contiguous(), from = prev.contiguous(), rows = z.contiguous();
  const Tensor codes = codebook.contiguous();
  dispatch_floating(z.scalar_type(), [&]<class T>() {
    const ExpectedDistanceArgs<T> args{elements<T>(table),
                                       elements<int64_t>(from),
                                       elements<T>(rows),
                                       elements<T>(codes),
                                       mutable_elements<Compute<T>>(expectation),
                                       mutable_elements<double>(log_normalizer),
                                       rows.size(0),
                                       codes.size(0),
                                       rows.size(1)};
    if (z.is_cuda()) {
      RUN_ON_CUDA(z, expected_distance_cuda(args, stream));
      return;
    }
    const Tensor packed = packed_codebook<T>(codes);
    parallel(args.rows, args.units * (2 * kExponential + kTiledPair * args.dim), [&](int64_t first, int64_t last) {
      expected_distance_cpu(args, elements<Compute<T>>(packed), first, last);
    });
  });
  return {expectation, log_normalizer};
}

std::tuple<Tensor, Tensor, Tensor> expected_distance_backward(const Tensor& grad, const Tensor& logits,
                                                              const Tensor& prev, const Tensor& z,
                                                              const Tensor& codebook, const Tensor& expectation,
                                                              const Tensor& log_normalizer, bool sparse_grad,
                                                              std::array<bool, 3> output_mask) {
  ArgumentChecks check("expected_distance_backward");
  check_inputs(check, logits, prev, z, codebook);
  for (const auto& [name, tensor] : {std::pair{"grad", grad}, std::pair{"expectation", expectation}}) {
    check.shape(name, tensor, "N");
    check.dtype(name, tensor, compute_dtype(z.scalar_type()));
  }
  check.shape("log_normalizer", log_normalizer, "N");
  check.dtype("log_normalizer", log_normalizer, at::kDouble);

  const auto gradient = [&](bool wanted, char rows, char cols) {
    return wanted ? at::empty_symint({check.size(rows), check.size(cols)}, z.options()) : Tensor();
  };
  const Tensor grad_logits = gradient(output_mask[0], sparse_grad ? 'N' : 'K', 'K');
  const Tensor grad_z = gradient(output_mask[1], 'N', 'D');
  const Tensor grad_codebook = gradient(output_mask[2], 'K', 'D');
  if (logits.is_meta()) return {grad_logits, grad_z, grad_codebook};

  const Tensor upstream = grad.contiguous(), table = logits.contiguous(), from = prev.contiguous();
  const Tensor rows = z.contiguous(), codes = codebook.contiguous();
  const Tensor expected = expectation.contiguous(), normalizer = log_normalizer.contiguous();
  const RowGroups groups = sparse_grad || !output_mask[0] ? RowGroups() : group_rows(from, table.size(0));
  dispatch_floating(z.scalar_type(), [&]<class T>() {
    const ExpectedDistanceBackwardArgs<T> args{elements<Compute<T>>(upstream),
                                               elements<T>(table),
                                               elements<int64_t>(from),
                                               elements<T>(rows),
                                               elements<T>(codes),
                                               elements<Compute<T>>(expected),
                                               elements<double>(normalizer),
                                               elements<int64_t>(groups.order),
                                               elements<int64_t>(groups.offsets),
                                               mutable_elements<T>(grad_logits),
                                               mutable_elements<T>(grad_z),
                                               mutable_elements<T>(grad_codebook),
                                               rows.size(0),
                                               codes.size(0),
                                               rows.size(1)};
    if (z.is_cuda()) {
      RUN_ON_CUDA(z, expected_distance_backward_cuda(args, stream));
      return;
    }
    if (output_mask[0]) {
      const Tensor packed = packed_codebook<T>(codes);
      parallel(grad_logits.size(0), args.units * (kExponential + kStreamedPair * args.dim),
               [&](int64_t first, int64_t last) {
                 expected_distance_backward_logits_cpu(args, elements<Compute<T>>(packed), first, last);
               });
    }
    if (output_mask[1]) {
      parallel(args.rows, args.units * (kExponential + kStreamedPair * args.dim),
               [&](int64_t first, int64_t last) { expected_distance_backward_z_cpu(args, first, last); });
    }
    if (output_mask[2]) {
      parallel(args.units, args.rows * (kExponential + kStreamedPair * args.dim),
               [&](int64_t first, int64_t last) { expected_distance_backward_codebook_cpu(args, first, last); });
    }
  });
  return {grad_logits, grad_z, grad_codebook};
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class ExpectedDistanceFunction : public torch::autograd::Function<ExpectedDistanceFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& logits, const Tensor& prev, const Tensor& z,
                               const Tensor& codebook, bool sparse_grad) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = native_op<&expected_distance>("expected_distance");
    auto [expectation, log_normalizer] = op.call(logits, prev, z, codebook, sparse_grad);
    ctx->save_for_backward({logits, prev, z, codebook, expectation, log_normalizer});
    ctx->saved_data["sparse_grad"] = sparse_grad;
    ctx->mark_non_differentiable({log_normalizer});
    return {expectation, log_normalizer};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = native_op<&expected_distance_backward>("expected_distance_backward");
    const variable_list saved = ctx->get_saved_variables();
    const bool sparse_grad = ctx->saved_data["sparse_grad"].toBool();
    // Inputs are counted as tensors: logits, prev, z, codebook.
    const std::array<bool, 3> wanted{ctx->needs_input_grad(0), ctx->needs_input_grad(2), ctx->needs_input_grad(3)};
    auto [grad_logits, grad_z, grad_codebook] =
        op.call(grads[0], saved[0], saved[1], saved[2], saved[3], saved[4], saved[5], sparse_grad, wanted);
    if (sparse_grad && grad_logits.defined()) grad_logits = sparse_rows(saved[1], grad_logits, saved[0]);
    return {grad_logits, Tensor(), grad_z, grad_codebook, Tensor()};
  }
};

}  // namespace

std::tuple<Tensor, Tensor> differentiable::expected_distance(const Tensor& logits, const Tensor& prev, const Tensor& z,
                                                             const Tensor& codebook, bool sparse_grad) {
  const variable_list outputs = ExpectedDistanceFunction::apply(logits, prev, z, codebook, sparse_grad);
  return {outputs[0], outputs[1]};
}

}  // namespace somvae
