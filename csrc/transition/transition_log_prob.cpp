#include "transition/transition_log_prob.h"

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

std::tuple<Tensor, Tensor> transition_log_prob(const Tensor& logits, const Tensor& prev, const Tensor& cur,
                                               bool /*sparse_grad: of interest to the gradient alone*/) {
  ArgumentChecks check("transition_log_prob");
  check.floating("logits", logits);
  check.shape("logits", logits, "KK");
  check.index("prev", prev, "N", 'K');
  check.index("cur", cur, "N", 'K');

  const Tensor log_prob =
      at::empty_symint({check.size('N')}, logits.options().dtype(compute_dtype(logits.scalar_type())));
  const Tensor log_normalizer = at::empty_symint({check.size('N')}, logits.options().dtype(at::kDouble));
  if (logits.is_meta()) return {log_prob, log_normalizer};

  const Tensor table = logits.contiguous(), from = prev.contiguous(), to = cur.contiguous();
  dispatch_floating(logits.scalar_type(), [&]<class T>() {
    const TransitionLogProbArgs<T> args{elements<T>(table),
                                        elements<int64_t>(from),
                                        elements<int64_t>(to),
                                        mutable_elements<Compute<T>>(log_prob),
                                        mutable_elements<double>(log_normalizer),
                                        from.size(0),
                                        table.size(0)};
    if (logits.is_cuda()) {
      RUN_ON_CUDA(logits, transition_log_prob_cuda(args, stream));
      return;
    }
    parallel(args.rows, kExponential * args.units,
             [&](int64_t first, int64_t last) { transition_log_prob_cpu(args, first, last); });
  });
  return {log_prob, log_normalizer};
}

Tensor transition_log_prob_backward(const Tensor& grad, const Tensor& logits, const Tensor& prev, const Tensor& cur,
                                    const Tensor& log_normalizer, bool sparse_grad) {
  ArgumentChecks check("transition_log_prob_backward");
  check.floating("logits", logits);
  check.shape("logits", logits, "KK");
  check.index("prev", prev, "N", 'K');
  check.index("cur", cur, "N", 'K');
  check.shape("grad", grad, "N");
  check.dtype("grad", grad, compute_dtype(logits.scalar_type()));
  check.shape("log_normalizer", log_normalizer, "N");
  check.dtype("log_normalizer", log_normalizer, at::kDouble);

  const Tensor grad_logits = at::empty_symint({check.size(sparse_grad ? 'N' : 'K'), check.size('K')}, logits.options());
  if (logits.is_meta()) return grad_logits;

  const Tensor upstream = grad.contiguous(), table = logits.contiguous(), from = prev.contiguous();
  const Tensor to = cur.contiguous(), normalizer = log_normalizer.contiguous();
  const RowGroups groups = sparse_grad ? RowGroups() : group_rows(from, table.size(0));
  dispatch_floating(logits.scalar_type(), [&]<class T>() {
    const TransitionLogProbBackwardArgs<T> args{elements<Compute<T>>(upstream),
                                                elements<T>(table),
                                                elements<int64_t>(from),
                                                elements<int64_t>(to),
                                                elements<double>(normalizer),
                                                elements<int64_t>(groups.order),
                                                elements<int64_t>(groups.offsets),
                                                mutable_elements<T>(grad_logits),
                                                from.size(0),
                                                table.size(0)};
    if (logits.is_cuda()) {
      RUN_ON_CUDA(logits, transition_log_prob_backward_cuda(args, stream));
      return;
    }
    parallel(grad_logits.size(0), kExponential * args.units,
             [&](int64_t first, int64_t last) { transition_log_prob_backward_cpu(args, first, last); });
  });
  return grad_logits;
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class TransitionLogProbFunction : public torch::autograd::Function<TransitionLogProbFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& logits, const Tensor& prev, const Tensor& cur,
                               bool sparse_grad) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = native_op<&transition_log_prob>("transition_log_prob");
    auto [log_prob, log_normalizer] = op.call(logits, prev, cur, sparse_grad);
    ctx->save_for_backward({logits, prev, cur, log_normalizer});
    ctx->saved_data["sparse_grad"] = sparse_grad;
    ctx->mark_non_differentiable({log_normalizer});
    return {log_prob, log_normalizer};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = native_op<&transition_log_prob_backward>("transition_log_prob_backward");
    const variable_list saved = ctx->get_saved_variables();
    const bool sparse_grad = ctx->saved_data["sparse_grad"].toBool();
    const Tensor grad_logits = op.call(grads[0], saved[0], saved[1], saved[2], saved[3], sparse_grad);
    return {sparse_grad ? sparse_rows(saved[1], grad_logits, saved[0]) : grad_logits, Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

std::tuple<Tensor, Tensor> differentiable::transition_log_prob(const Tensor& logits, const Tensor& prev,
                                                               const Tensor& cur, bool sparse_grad) {
  const variable_list outputs = TransitionLogProbFunction::apply(logits, prev, cur, sparse_grad);
  return {outputs[0], outputs[1]};
}

}  // namespace somvae
