#include "transition/transition_log_prob.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops.h"
#include "tensor/checks.h"
#include "tensor/elements.h"
#include "tensor/native_call.h"
#include "tensor/parallel.h"
#include "tensor/registration.h"
#include "tensor/run_on_cuda.h"
#include "tensor/touched_rows.h"
#include "transition/gradient_of_logits.h"

namespace somvae {

TransitionLogProb transition_log_prob(const Tensor& logits, const Tensor& prev, const Tensor& cur,
                                      bool /*sparse_grad: backward only*/) {
  ArgumentChecks check("transition_log_prob");
  check.floating("logits", logits);
  check.shape("logits", logits, "KK");
  check.index("prev", prev, "N", 'K');
  check.index("cur", cur, "N", 'K');

  const auto rows_of = [&](at::ScalarType type, int64_t extra = 0) {
    return at::empty_symint({check.size('N') + extra}, logits.options().dtype(type));
  };
  const Tensor log_prob = rows_of(compute_dtype(logits.scalar_type())), log_normalizer = rows_of(at::kDouble);
  if (logits.is_meta()) {
    return {log_prob, log_normalizer, rows_of(at::kLong), rows_of(at::kLong), rows_of(at::kLong, 1)};
  }

  const Tensor table = logits.contiguous(), from = prev.contiguous(), to = cur.contiguous();
  const TouchedRows touched = touched_rows(from, table.size(0));
  dispatch_floating(logits.scalar_type(), [&]<class T>() {
    const TransitionLogProbArgs<T> args{elements<T>(table),
                                        elements<int64_t>(from),
                                        elements<int64_t>(to),
                                        elements<int64_t>(touched.order),
                                        mutable_elements<Compute<T>>(log_prob),
                                        mutable_elements<double>(log_normalizer),
                                        from.size(0),
                                        table.size(0)};
    if (logits.is_cuda()) {
      RUN_ON_CUDA(logits, transition_log_prob_cuda(args, stream));
      return;
    }
    parallel(args.rows, kExponential * args.nodes,
             [&](int64_t first, int64_t last) { transition_log_prob_cpu(args, first, last); });
  });
  return {log_prob, log_normalizer, touched.node, touched.order, touched.offsets};
}

Tensor transition_log_prob_backward(const Tensor& grad, const Tensor& logits, const Tensor& prev, const Tensor& cur,
                                    const Tensor& log_normalizer, const Tensor& touched_node,
                                    const Tensor& touched_order, const Tensor& touched_offsets,
                                    std::optional<c10::SymInt> sparse_rows) {
  ArgumentChecks check("transition_log_prob_backward");
  check.floating("logits", logits);
  check.shape("logits", logits, "KK");
  check.index("prev", prev, "N", 'K');
  check.index("cur", cur, "N", 'K');
  check.shape("grad", grad, "N");
  check.dtype("grad", grad, compute_dtype(logits.scalar_type()));
  check.shape("log_normalizer", log_normalizer, "N");
  check.dtype("log_normalizer", log_normalizer, at::kDouble);
  check_touched(check, touched_node, touched_order, touched_offsets, sparse_rows);

  const Tensor grad_logits = empty_gradient_of_logits(logits, touched_offsets, sparse_rows);
  if (logits.is_meta()) return grad_logits;

  const Tensor upstream = grad.contiguous(), table = logits.contiguous(), from = prev.contiguous();
  const Tensor to = cur.contiguous(), normalizer = log_normalizer.contiguous();
  dispatch_floating(logits.scalar_type(), [&]<class T>() {
    const TransitionLogProbBackwardArgs<T> args{
        elements<Compute<T>>(upstream),
        elements<T>(table),
        elements<int64_t>(from),
        elements<int64_t>(to),
        elements<double>(normalizer),
        touched_groups(touched_node, touched_order, touched_offsets, sparse_rows),
        mutable_elements<T>(grad_logits),
        from.size(0),
        table.size(0),
        sparse_rows.has_value()};
    if (logits.is_cuda()) {
      RUN_ON_CUDA(logits, transition_log_prob_backward_cuda(args, stream));
      return;
    }
    parallel(args.groups.count, kExponential * args.nodes,
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
    auto [log_prob, log_normalizer, node, order, offsets] = op.call(logits, prev, cur, sparse_grad);
    ctx->save_for_backward({logits, prev, cur, log_normalizer, node, order, offsets});
    ctx->saved_data["sparse_grad"] = sparse_grad;
    ctx->mark_non_differentiable({log_normalizer, node, order, offsets});
    return {log_prob, log_normalizer, node, order, offsets};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = native_op<&transition_log_prob_backward>("transition_log_prob_backward");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &logits = saved[0], &node = saved[4], &offsets = saved[6];
    std::optional<SparseRows> sparse;
    if (ctx->saved_data["sparse_grad"].toBool()) sparse.emplace(offsets);
    const Tensor grad_logits = op.call(grads[0], logits, saved[1], saved[2], saved[3], node, saved[5], offsets,
                                       sparse ? std::optional(sparse->count) : std::nullopt);
    return {sparse ? sparse->gradient(node, grad_logits, logits) : grad_logits, Tensor(), Tensor(), Tensor()};
  }
};

TransitionLogProb differentiable_transition_log_prob(const Tensor& logits, const Tensor& prev, const Tensor& cur,
                                                     bool sparse_grad) {
  const variable_list outputs = TransitionLogProbFunction::apply(logits, prev, cur, sparse_grad);
  return {outputs[0], outputs[1], outputs[2], outputs[3], outputs[4]};
}

}  // namespace

}  // namespace somvae

TORCH_LIBRARY_FRAGMENT(somvae_ext, library) {
  using namespace somvae;
  OpRegistration(library,
                 "transition_log_prob(Tensor logits, Tensor prev, Tensor cur, bool sparse_grad=False) "
                 "-> (Tensor log_prob, Tensor log_normalizer, Tensor touched_node, Tensor touched_order, "
                 "Tensor touched_offsets)")
      .on_all_devices(&transition_log_prob)
      .differentiable(&differentiable_transition_log_prob)
      .autocast_to_float32();
  OpRegistration(library,
                 "transition_log_prob_backward(Tensor grad, Tensor logits, Tensor prev, Tensor cur, "
                 "Tensor log_normalizer, Tensor touched_node, Tensor touched_order, Tensor touched_offsets, "
                 "SymInt? sparse_rows=None) "
                 "-> Tensor")
      .on_all_devices(&transition_log_prob_backward)
      .refuses_second_derivatives();
}
