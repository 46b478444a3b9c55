#include "transition/transition_losses.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "cpu/codebook_panels.h"
#include "ops.h"
#include "tensor/checks.h"
#include "tensor/elements.h"
#include "tensor/native_call.h"
#include "tensor/packed_codebook.h"
#include "tensor/parallel.h"
#include "tensor/registration.h"
#include "tensor/run_on_cuda.h"
#include "tensor/touched_rows.h"
#include "transition/gradient_of_logits.h"

namespace somvae {

namespace {

void check_inputs(ArgumentChecks& check, const Tensor& logits, const Tensor& prev, const Tensor& cur, const Tensor& z,
                  const Tensor& codebook) {
  check.floating("logits", logits);
  check.shape("logits", logits, "KK");
  check.index("prev", prev, "N", 'K');
  check.index("cur", cur, "N", 'K');
  check.floating("z", z);
  check.shape("z", z, "ND");
  check.floating("codebook", codebook);
  check.shape("codebook", codebook, "KD");
  if (z.scalar_type() != at::kDouble || z.is_meta()) return;
  const double limit = largest_value_to_square(at::kDouble, z.size(1));
  for (const auto& [name, tensor] : {std::pair{"z", z}, std::pair{"codebook", codebook}}) {
    check.magnitude(name, tensor, limit, "whose squared distances float64 can hold");
  }
}

// Whether a squared distance might overflow the compute type. Multiplied by a probability of zero, it would give NaN.
bool distances_may_overflow(const Tensor& z, const Tensor& codebook) {
  if (!z.is_cpu() || z.scalar_type() == at::kDouble) return false;
  const double limit = largest_value_to_square(compute_dtype(z.scalar_type()), z.size(1));
  return finite_beyond(z, limit) > 0 || finite_beyond(codebook, limit) > 0;
}

// The number of chunks of codes in the CPU's backward pass: enough for many threads, few enough to keep sums small.
int64_t chunk_count(int64_t nodes, int64_t groups, int64_t pitch) {
  constexpr int64_t max_chunks = 16, elements = 1 << 22;
  const int64_t blocks = (nodes + kChunkStep - 1) / kChunkStep;
  return std::clamp<int64_t>(elements / std::max<int64_t>(1, groups * pitch), 1,
                             std::clamp<int64_t>(blocks, 1, max_chunks));
}

template <class T>
void backward_cpu(const TransitionLossesBackwardArgs<T>& args, const Tensor& z) {
  using C = Compute<T>;
  const int64_t groups = args.groups.count, pitch = (args.dim + kPanelCodes - 1) / kPanelCodes * kPanelCodes;
  const int64_t chunks = chunk_count(args.nodes, groups, pitch);
  const auto doubles = z.options().dtype(at::kDouble);
  const Tensor center = at::empty({args.dim}, doubles), weight = at::empty({groups}, doubles);
  const Tensor weighted_rows = at::empty({groups, pitch}, z.options().dtype(compute_dtype(z.scalar_type())));
  const Tensor mean = args.grad_z ? at::empty({chunks, groups, pitch}, doubles) : Tensor();
  const TransitionBackwardWorkspace<C> workspace{mutable_elements<double>(center),
                                                 mutable_elements<C>(weighted_rows),
                                                 mutable_elements<double>(weight),
                                                 mutable_elements<double>(mean),
                                                 pitch,
                                                 chunks};
  transition_losses_backward_prepare_cpu(args, workspace);
  const int passes = (args.grad_logits != nullptr) + (args.grad_z != nullptr) + (args.grad_codebook != nullptr);
  parallel(chunks, args.nodes / chunks * groups * (kExponential + passes * kTiledPair * args.dim),
           [&](int64_t first, int64_t last) { transition_losses_backward_codes_cpu(args, workspace, first, last); });
  if (args.grad_z != nullptr) {
    parallel(groups, kStreamedPair * args.dim * chunks,
             [&](int64_t first, int64_t last) { transition_losses_backward_z_cpu(args, workspace, first, last); });
  }
}

}  // namespace

TransitionLosses transition_losses(const Tensor& logits, const Tensor& prev, const Tensor& cur, const Tensor& z,
                                   const Tensor& codebook, bool /*sparse_grad: backward only*/) {
  ArgumentChecks check("transition_losses");
  check_inputs(check, logits, prev, cur, z, codebook);

  const auto rows_of = [&](at::ScalarType type, int64_t extra = 0) {
    return at::empty_symint({check.size('N') + extra}, z.options().dtype(type));
  };
  const at::ScalarType compute = compute_dtype(z.scalar_type());
  const Tensor log_prob = rows_of(compute), expectation = rows_of(compute), log_normalizer = rows_of(at::kDouble);
  if (logits.is_meta()) {
    return {log_prob, expectation, log_normalizer, rows_of(at::kLong), rows_of(at::kLong), rows_of(at::kLong, 1)};
  }
  if (distances_may_overflow(z, codebook)) {
    const auto in_double = [](const Tensor& tensor) { return tensor.to(at::kDouble); };
    auto losses = transition_losses(in_double(logits), prev, cur, in_double(z), in_double(codebook), false);
    std::get<0>(losses) = std::get<0>(losses).to(compute);
    std::get<1>(losses) = std::get<1>(losses).to(compute);
    return losses;
  }

  const Tensor table = logits.contiguous(), from = prev.contiguous(), to = cur.contiguous(), rows = z.contiguous();
  const Tensor codes = codebook.contiguous();
  const TouchedRows touched = touched_rows(from, table.size(0));
  dispatch_floating(z.scalar_type(), [&]<class T>() {
    const TransitionLossesArgs<T> args{elements<T>(table),
                                       elements<int64_t>(from),
                                       elements<int64_t>(to),
                                       elements<T>(rows),
                                       elements<T>(codes),
                                       elements<int64_t>(touched.order),
                                       mutable_elements<Compute<T>>(log_prob),
                                       mutable_elements<Compute<T>>(expectation),
                                       mutable_elements<double>(log_normalizer),
                                       rows.size(0),
                                       codes.size(0),
                                       rows.size(1)};
    if (z.is_cuda()) {
      RUN_ON_CUDA(z, {
        const int64_t bytes = transition_losses_cuda_workspace_bytes(args);
        const Tensor workspace = at::empty({bytes}, z.options().dtype(at::kByte));
        transition_losses_cuda(args, workspace.mutable_data_ptr(), stream);
      });
      return;
    }
    const Tensor packed = packed_codebook<T>(codes);
    parallel(args.rows, args.nodes * (2 * kExponential + kTiledPair * args.dim), [&](int64_t first, int64_t last) {
      transition_losses_cpu(args, elements<Compute<T>>(packed), first, last);
    });
  });
  return {log_prob, expectation, log_normalizer, touched.node, touched.order, touched.offsets};
}

std::tuple<Tensor, Tensor, Tensor> transition_losses_backward(
    const Tensor& grad_log_prob, const Tensor& grad_expectation, const Tensor& logits, const Tensor& prev,
    const Tensor& cur, const Tensor& z, const Tensor& codebook, const Tensor& expectation, const Tensor& log_normalizer,
    const Tensor& touched_node, const Tensor& touched_order, const Tensor& touched_offsets,
    std::optional<c10::SymInt> sparse_rows, std::array<bool, 3> output_mask) {
  ArgumentChecks check("transition_losses_backward");
  check_inputs(check, logits, prev, cur, z, codebook);
  for (const auto& [name, tensor] :
       {std::pair{"grad_log_prob", grad_log_prob}, std::pair{"grad_expectation", grad_expectation},
        std::pair{"expectation", expectation}}) {
    check.shape(name, tensor, "N");
    check.dtype(name, tensor, compute_dtype(z.scalar_type()));
  }
  check.shape("log_normalizer", log_normalizer, "N");
  check.dtype("log_normalizer", log_normalizer, at::kDouble);
  check_touched(check, touched_node, touched_order, touched_offsets, sparse_rows);

  const Tensor grad_logits = output_mask[0] ? empty_gradient_of_logits(logits, touched_offsets, sparse_rows) : Tensor();
  const Tensor grad_z = output_mask[1] ? at::empty_symint(z.sym_sizes(), z.options()) : Tensor();
  const Tensor grad_codebook = output_mask[2] ? at::empty_symint(codebook.sym_sizes(), z.options()) : Tensor();
  if (logits.is_meta()) return {grad_logits, grad_z, grad_codebook};
  if (z.size(0) == 0) {  // nothing to sum, and the codebook's mean may be NaN
    if (grad_codebook.defined()) grad_codebook.zero_();
    return {grad_logits, grad_z, grad_codebook};
  }

  if (distances_may_overflow(z, codebook)) {
    const auto in_double = [](const Tensor& tensor) { return tensor.to(at::kDouble); };
    const auto [of_logits, of_z, of_codebook] =
        transition_losses_backward(in_double(grad_log_prob), in_double(grad_expectation), in_double(logits), prev, cur,
                                   in_double(z), in_double(codebook), in_double(expectation), log_normalizer,
                                   touched_node, touched_order, touched_offsets, std::move(sparse_rows), output_mask);
    const auto rounded = [&](const Tensor& grad) { return grad.defined() ? grad.to(z.scalar_type()) : grad; };
    return {rounded(of_logits), rounded(of_z), rounded(of_codebook)};
  }

  const Tensor upstream_log_prob = grad_log_prob.contiguous(), upstream_expectation = grad_expectation.contiguous();
  const Tensor table = logits.contiguous(), from = prev.contiguous(), to = cur.contiguous(), rows = z.contiguous();
  const Tensor codes = codebook.contiguous(), expected = expectation.contiguous();
  const Tensor normalizer = log_normalizer.contiguous();
  dispatch_floating(z.scalar_type(), [&]<class T>() {
    const TransitionLossesBackwardArgs<T> args{
        elements<Compute<T>>(upstream_log_prob),
        elements<Compute<T>>(upstream_expectation),
        elements<T>(table),
        elements<int64_t>(from),
        elements<int64_t>(to),
        elements<T>(rows),
        elements<T>(codes),
        elements<Compute<T>>(expected),
        elements<double>(normalizer),
        touched_groups(touched_node, touched_order, touched_offsets, sparse_rows),
        mutable_elements<T>(grad_logits),
        mutable_elements<T>(grad_z),
        mutable_elements<T>(grad_codebook),
        rows.size(0),
        codes.size(0),
        rows.size(1),
        sparse_rows.has_value()};
    if (z.is_cuda()) {
      RUN_ON_CUDA(z, {
        const int64_t bytes = transition_losses_backward_cuda_workspace_bytes(args);
        const Tensor workspace = at::empty({bytes}, z.options().dtype(at::kByte));
        transition_losses_backward_cuda(args, workspace.mutable_data_ptr(), stream);
      });
      return;
    }
    backward_cpu(args, z);
  });
  return {grad_logits, grad_z, grad_codebook};
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class TransitionLossesFunction : public torch::autograd::Function<TransitionLossesFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& logits, const Tensor& prev, const Tensor& cur,
                               const Tensor& z, const Tensor& codebook, bool sparse_grad) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = native_op<&transition_losses>("transition_losses");
    auto [log_prob, expectation, log_normalizer, node, order, offsets] =
        op.call(logits, prev, cur, z, codebook, sparse_grad);
    ctx->save_for_backward({logits, prev, cur, z, codebook, expectation, log_normalizer, node, order, offsets});
    ctx->saved_data["sparse_grad"] = sparse_grad;
    ctx->mark_non_differentiable({log_normalizer, node, order, offsets});
    return {log_prob, expectation, log_normalizer, node, order, offsets};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = native_op<&transition_losses_backward>("transition_losses_backward");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &logits = saved[0], &node = saved[7], &offsets = saved[9];
    std::optional<SparseRows> sparse;
    if (ctx->saved_data["sparse_grad"].toBool()) sparse.emplace(offsets);
    // needs_input_grad counts tensors only: logits, prev, cur, z, codebook.
    const std::array<bool, 3> output_mask{ctx->needs_input_grad(0), ctx->needs_input_grad(3), ctx->needs_input_grad(4)};
    auto [grad_logits, grad_z, grad_codebook] =
        op.call(grads[0], grads[1], logits, saved[1], saved[2], saved[3], saved[4], saved[5], saved[6], node, saved[8],
                offsets, sparse ? std::optional(sparse->count) : std::nullopt, output_mask);
    if (sparse && grad_logits.defined()) grad_logits = sparse->gradient(node, grad_logits, logits);
    return {grad_logits, Tensor(), Tensor(), grad_z, grad_codebook, Tensor()};
  }
};

TransitionLosses differentiable_transition_losses(const Tensor& logits, const Tensor& prev, const Tensor& cur,
                                                  const Tensor& z, const Tensor& codebook, bool sparse_grad) {
  const variable_list outputs = TransitionLossesFunction::apply(logits, prev, cur, z, codebook, sparse_grad);
  return {outputs[0], outputs[1], outputs[2], outputs[3], outputs[4], outputs[5]};
}

}  // namespace

}  // namespace somvae

TORCH_LIBRARY_FRAGMENT(somvae_ext, library) {
  using namespace somvae;
  OpRegistration(library,
                 "transition_losses(Tensor logits, Tensor prev, Tensor cur, Tensor z, Tensor codebook, "
                 "bool sparse_grad=False) "
                 "-> (Tensor log_prob, Tensor expectation, Tensor log_normalizer, Tensor touched_node, "
                 "Tensor touched_order, Tensor touched_offsets)")
      .on_all_devices(&transition_losses)
      .differentiable(&differentiable_transition_losses)
      .autocast_to_float32();
  OpRegistration(library,
                 "transition_losses_backward(Tensor grad_log_prob, Tensor grad_expectation, Tensor logits, "
                 "Tensor prev, Tensor cur, Tensor z, Tensor codebook, Tensor expectation, Tensor log_normalizer, "
                 "Tensor touched_node, Tensor touched_order, Tensor touched_offsets, SymInt? sparse_rows=None, "
                 "bool[3] output_mask=[True, True, True]) "
                 "-> (Tensor, Tensor, Tensor)")
      .on_all_devices(&transition_losses_backward)
      .refuses_second_derivatives();
}
