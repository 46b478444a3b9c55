#include "transition/local_transition_losses.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <torch/csrc/autograd/custom_function.h>

#include <sstream>

#include "ops.h"
#include "tensor/checks.h"
#include "tensor/elements.h"
#include "tensor/native_call.h"
#include "tensor/parallel.h"
#include "tensor/registration.h"
#include "tensor/row_groups.h"
#include "tensor/run_on_cuda.h"
#include "tensor/touched_rows.h"
#include "transition/gradient_of_logits.h"

namespace somvae {

namespace {

struct Map {
  int64_t rows, cols;
  bool periodic;
};

void check_window(ArgumentChecks& check, const Tensor& logits, const Tensor& offsets, const Tensor& mirror) {
  check.dtype("offsets", offsets, at::kLong);
  check.dtype("mirror", mirror, at::kLong);
  // In a traced graph, offsets and mirror are constants, on whose sizes torch.compile cannot place guards.
  if (logits.is_meta()) return;
  check.set_size('2', 2);
  check.shape("offsets", offsets, "2W2");
  check.shape("mirror", mirror, "W");
  if (logits.dim() != 2 || logits.sym_size(0) != check.size('K') || logits.sym_size(1) != check.size('W') + 1) {
    std::ostringstream must, got;
    must << "have shape [K, W + 1] with K = " << check.size('K') << ", W = " << check.size('W');
    got << logits.sym_sizes();
    check.fail("logits", must.str(), got.str());
  }
}

void check_inputs(ArgumentChecks& check, const Tensor& logits, const Tensor& prev, const Tensor& cur, const Tensor& z,
                  const Tensor& codebook, const Tensor& offsets, const Tensor& mirror, const Map& map) {
  check.floating("logits", logits);
  for (const auto& [name, size] : {std::pair{"rows", map.rows}, std::pair{"cols", map.cols}}) {
    if (size < 1) check.fail(name, "be at least 1", std::to_string(size));
  }
  check.set_size('K', map.rows * map.cols);
  check_window(check, logits, offsets, mirror);
  check.index("prev", prev, "N", 'K');
  check.index("cur", cur, "N", 'K');
  check.floating("z", z);
  check.shape("z", z, "ND");
  check.floating("codebook", codebook);
  check.shape("codebook", codebook, "KD");
  if (z.is_meta()) return;
  // Distances are float64 sums. With a code beyond the range of float32, the difference between the sum over all nodes
  // and the sum over a window has rounding errors beyond that range, even if the code has probability zero.
  const auto limit = [&](at::ScalarType type) { return largest_value_to_square(type, z.size(1), codebook.size(0)); };
  const at::ScalarType compute = compute_dtype(z.scalar_type());
  const std::string dtype = compute == at::kDouble ? "float64" : "float32";
  check.magnitude("codebook", codebook, limit(compute), "whose squared distances " + dtype + " can add up");
  if (compute == at::kDouble) check.magnitude("z", z, limit(compute), "whose squared distances float64 can add up");
}

// The tensors of a LocalTransition, contiguous.
struct Inputs {
  Tensor logits, prev, cur, z, codebook, moments, offsets, mirror;
  Map map;

  template <class T>
  LocalTransition<T> with(const TouchedGroups& groups) const {
    return {elements<T>(logits),
            elements<int64_t>(prev),
            elements<int64_t>(cur),
            elements<T>(z),
            elements<T>(codebook),
            elements<double>(moments),
            groups,
            NodeWindow{elements<int64_t>(offsets), elements<int64_t>(mirror), mirror.size(0), map.rows, map.cols,
                       map.periodic},
            z.size(0),
            codebook.size(0),
            z.size(1)};
  }
};

template <class T>
void compute_moments(const Tensor& codebook, const Tensor& moments) {
  const int64_t nodes = codebook.size(0), dim = codebook.size(1), chunks = moment_chunks(nodes);
  const Tensor partial = at::empty({chunks, 2 * dim}, moments.options());
  const CodebookMomentsArgs<T> args{elements<T>(codebook), mutable_elements<double>(partial),
                                    mutable_elements<double>(moments), nodes, dim};
  if (codebook.is_cuda()) {
    RUN_ON_CUDA(codebook, codebook_moments_cuda(args, stream));
    return;
  }
  codebook_center_cpu(args);
  parallel(chunks, kMomentCodes * dim * kStreamedPair,
           [&](int64_t first, int64_t last) { codebook_moments_cpu(args, first, last); });
  codebook_moments_join_cpu(args);
}

// An estimate of the time of a pass over the window of one sample, in nanoseconds.
double window_nanoseconds(const Inputs& inputs) {
  return double(inputs.mirror.size(0)) * (2 * kExponential + kStreamedPair * double(inputs.z.size(1)));
}

}  // namespace

LocalTransitionLosses local_transition_losses(const Tensor& logits, const Tensor& prev, const Tensor& cur,
                                              const Tensor& z, const Tensor& codebook, const Tensor& offsets,
                                              const Tensor& mirror, int64_t rows, int64_t cols, bool periodic,
                                              bool /*sparse_grad: backward only*/) {
  ArgumentChecks check("local_transition_losses");
  const Map map{rows, cols, periodic};
  check_inputs(check, logits, prev, cur, z, codebook, offsets, mirror, map);

  const auto loss_options = z.options().dtype(compute_dtype(z.scalar_type()));
  const auto double_options = z.options().dtype(at::kDouble);
  const c10::SymInt samples = check.size('N');
  const Tensor log_prob = at::empty_symint({samples}, loss_options);
  const Tensor expectation = at::empty_symint({samples}, loss_options);
  const Tensor log_normalizer = at::empty_symint({samples}, double_options);
  const Tensor outside = at::empty_symint({samples}, double_options);
  const Tensor moments = at::empty_symint({2 * check.size('D') + 1}, double_options);
  if (logits.is_meta()) {
    const auto indices = [&](int64_t extra) { return at::empty_symint({samples + extra}, prev.options()); };
    return {log_prob, expectation, log_normalizer, outside, moments, indices(0), indices(0), indices(1)};
  }

  const Tensor from = prev.contiguous();
  const TouchedRows touched = touched_rows(from, logits.size(0));
  const Inputs inputs{
      logits.contiguous(), from, cur.contiguous(), z.contiguous(), codebook.contiguous(), moments, offsets.contiguous(),
      mirror.contiguous(), map};
  dispatch_floating(z.scalar_type(), [&]<class T>() {
    compute_moments<T>(inputs.codebook, moments);
    const LocalTransitionLossesArgs<T> args{
        inputs.with<T>(touched_groups(touched.node, touched.order, touched.offsets, {})),
        mutable_elements<Compute<T>>(log_prob), mutable_elements<Compute<T>>(expectation),
        mutable_elements<double>(log_normalizer), mutable_elements<double>(outside)};
    if (z.is_cuda()) {
      RUN_ON_CUDA(z, local_transition_losses_cuda(args, stream));
      return;
    }
    parallel(args.in.groups.count, window_nanoseconds(inputs),
             [&](int64_t first, int64_t last) { local_transition_losses_cpu(args, first, last); });
  });
  return {log_prob, expectation, log_normalizer, outside, moments, touched.node, touched.order, touched.offsets};
}

std::tuple<Tensor, Tensor, Tensor> local_transition_losses_backward(
    const Tensor& grad_log_prob, const Tensor& grad_expectation, const Tensor& logits, const Tensor& prev,
    const Tensor& cur, const Tensor& z, const Tensor& codebook, const Tensor& offsets, const Tensor& mirror,
    const Tensor& expectation, const Tensor& log_normalizer, const Tensor& outside, const Tensor& moments,
    const Tensor& touched_node, const Tensor& touched_order, const Tensor& touched_offsets, int64_t rows, int64_t cols,
    bool periodic, std::optional<c10::SymInt> sparse_rows, std::array<bool, 3> output_mask) {
  ArgumentChecks check("local_transition_losses_backward");
  const Map map{rows, cols, periodic};
  check_inputs(check, logits, prev, cur, z, codebook, offsets, mirror, map);
  const at::ScalarType loss_dtype = compute_dtype(z.scalar_type());
  check.set_size('M', 2 * check.size('D') + 1);
  for (const auto& [name, tensor, letter, dtype] :
       {std::tuple{"grad_log_prob", &grad_log_prob, "N", loss_dtype},
        std::tuple{"grad_expectation", &grad_expectation, "N", loss_dtype},
        std::tuple{"expectation", &expectation, "N", loss_dtype},
        std::tuple{"log_normalizer", &log_normalizer, "N", at::kDouble},
        std::tuple{"outside", &outside, "N", at::kDouble}, std::tuple{"moments", &moments, "M", at::kDouble}}) {
    check.shape(name, *tensor, letter);
    check.dtype(name, *tensor, dtype);
  }
  check_touched(check, touched_node, touched_order, touched_offsets, sparse_rows);

  const Tensor grad_logits = output_mask[0] ? empty_gradient_of_logits(logits, touched_offsets, sparse_rows) : Tensor();
  const Tensor grad_z = output_mask[1] ? at::empty_symint(z.sym_sizes(), z.options()) : Tensor();
  const Tensor grad_codebook = output_mask[2] ? at::empty_symint(codebook.sym_sizes(), z.options()) : Tensor();
  if (logits.is_meta()) return {grad_logits, grad_z, grad_codebook};
  if (z.size(0) == 0) {  // nothing to sum, and the codebook's mean may be NaN
    if (grad_codebook.defined()) grad_codebook.zero_();
    return {grad_logits, grad_z, grad_codebook};
  }

  const Inputs inputs{logits.contiguous(),  prev.contiguous(),     cur.contiguous(),
                      z.contiguous(),       codebook.contiguous(), moments.contiguous(),
                      offsets.contiguous(), mirror.contiguous(),   map};
  const Tensor u = grad_log_prob.contiguous(), v = grad_expectation.contiguous();
  const Tensor expected = expectation.contiguous(), normalizer = log_normalizer.contiguous();
  const Tensor share = outside.contiguous();
  const TouchedGroups groups = touched_groups(touched_node, touched_order, touched_offsets, sparse_rows);
  const int64_t count = groups.count, dim = z.size(1), nodes = codebook.size(0), slots = mirror.size(0);
  const Tensor group_sums = output_mask[2] ? at::empty({count + 1, dim + 1}, moments.options()) : Tensor();
  dispatch_floating(z.scalar_type(), [&]<class T>() {
    const LocalTransitionLossesBackwardArgs<T> args{inputs.with<T>(groups),
                                                    elements<Compute<T>>(u),
                                                    elements<Compute<T>>(v),
                                                    elements<Compute<T>>(expected),
                                                    elements<double>(normalizer),
                                                    elements<double>(share),
                                                    mutable_elements<T>(grad_logits),
                                                    mutable_elements<T>(grad_z),
                                                    mutable_elements<T>(grad_codebook),
                                                    sparse_rows.has_value(),
                                                    mutable_elements<double>(group_sums)};
    if (z.is_cuda()) {
      const Tensor group_of = output_mask[2] ? at::full({nodes}, -1, touched_node.options()) : Tensor();
      RUN_ON_CUDA(z, local_transition_losses_backward_cuda(args, mutable_elements<int64_t>(group_of), stream));
      return;
    }
    Tensor node, weight;
    if (output_mask[2]) {
      node = at::empty({count * slots}, touched_node.options());
      weight = at::empty({count * slots}, expectation.options());
    }
    WindowPull<T> pull{mutable_elements<int64_t>(node), mutable_elements<Compute<T>>(weight), nullptr, nullptr};
    parallel(count, 3 * window_nanoseconds(inputs), [&](int64_t first, int64_t last) {
      local_transition_losses_backward_groups_cpu(args, pull, first, last);
    });
    if (!output_mask[2]) return;
    local_transition_losses_backward_join_cpu(args);
    const RowGroups places = group_rows(node, nodes);
    pull.order = elements<int64_t>(places.order);
    pull.begin = elements<int64_t>(places.offsets);
    const double pulls = 1 + double(count * slots) / double(nodes);  // per code
    parallel(nodes, pulls * kStreamedPair * double(dim), [&](int64_t first, int64_t last) {
      local_transition_losses_backward_codebook_cpu(args, pull, first, last);
    });
  });
  return {grad_logits, grad_z, grad_codebook};
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class LocalTransitionLossesFunction : public torch::autograd::Function<LocalTransitionLossesFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& logits, const Tensor& prev, const Tensor& cur,
                               const Tensor& z, const Tensor& codebook, const Tensor& offsets, const Tensor& mirror,
                               int64_t rows, int64_t cols, bool periodic, bool sparse_grad) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = native_op<&local_transition_losses>("local_transition_losses");
    const auto [log_prob, expectation, log_normalizer, outside, moments, node, order, groups] =
        op.call(logits, prev, cur, z, codebook, offsets, mirror, rows, cols, periodic, sparse_grad);
    ctx->save_for_backward({logits, prev, cur, z, codebook, offsets, mirror, expectation, log_normalizer, outside,
                            moments, node, order, groups});
    ctx->saved_data["rows"] = rows;
    ctx->saved_data["cols"] = cols;
    ctx->saved_data["periodic"] = periodic;
    ctx->saved_data["sparse_grad"] = sparse_grad;
    ctx->mark_non_differentiable({log_normalizer, outside, moments, node, order, groups});
    return {log_prob, expectation, log_normalizer, outside, moments, node, order, groups};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = native_op<&local_transition_losses_backward>("local_transition_losses_backward");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &logits = saved[0], &node = saved[11], &touched_offsets = saved[13];
    std::optional<SparseRows> sparse;
    if (ctx->saved_data["sparse_grad"].toBool()) sparse.emplace(touched_offsets);
    // needs_input_grad counts tensors only: logits, prev, cur, z, codebook.
    const std::array<bool, 3> output_mask{ctx->needs_input_grad(0), ctx->needs_input_grad(3), ctx->needs_input_grad(4)};
    auto [grad_logits, grad_z, grad_codebook] =
        op.call(grads[0], grads[1], logits, saved[1], saved[2], saved[3], saved[4], saved[5], saved[6], saved[7],
                saved[8], saved[9], saved[10], node, saved[12], touched_offsets, ctx->saved_data["rows"].toInt(),
                ctx->saved_data["cols"].toInt(), ctx->saved_data["periodic"].toBool(),
                sparse ? std::optional(sparse->count) : std::nullopt, output_mask);
    if (sparse && grad_logits.defined()) grad_logits = sparse->gradient(node, grad_logits, logits);
    const Tensor undefined;
    return {grad_logits, undefined, undefined, grad_z,    grad_codebook, undefined,
            undefined,   undefined, undefined, undefined, undefined};
  }
};

LocalTransitionLosses differentiable_local_transition_losses(const Tensor& logits, const Tensor& prev,
                                                             const Tensor& cur, const Tensor& z, const Tensor& codebook,
                                                             const Tensor& offsets, const Tensor& mirror, int64_t rows,
                                                             int64_t cols, bool periodic, bool sparse_grad) {
  const variable_list outputs = LocalTransitionLossesFunction::apply(logits, prev, cur, z, codebook, offsets, mirror,
                                                                     rows, cols, periodic, sparse_grad);
  return {outputs[0], outputs[1], outputs[2], outputs[3], outputs[4], outputs[5], outputs[6], outputs[7]};
}

}  // namespace

}  // namespace somvae

TORCH_LIBRARY_FRAGMENT(somvae_ext, library) {
  using namespace somvae;
  OpRegistration(library,
                 "local_transition_losses(Tensor logits, Tensor prev, Tensor cur, Tensor z, Tensor codebook, "
                 "Tensor offsets, Tensor mirror, int rows, int cols, bool periodic, bool sparse_grad=False) "
                 "-> (Tensor log_prob, Tensor expectation, Tensor log_normalizer, Tensor outside, Tensor moments, "
                 "Tensor touched_node, Tensor touched_order, Tensor touched_offsets)")
      .on_all_devices(&local_transition_losses)
      .differentiable(&differentiable_local_transition_losses)
      .autocast_to_float32();
  OpRegistration(library,
                 "local_transition_losses_backward(Tensor grad_log_prob, Tensor grad_expectation, Tensor logits, "
                 "Tensor prev, Tensor cur, Tensor z, Tensor codebook, Tensor offsets, Tensor mirror, "
                 "Tensor expectation, Tensor log_normalizer, Tensor outside, Tensor moments, Tensor touched_node, "
                 "Tensor touched_order, Tensor touched_offsets, int rows, int cols, bool periodic, "
                 "SymInt? sparse_rows=None, bool[3] output_mask=[True, True, True]) "
                 "-> (Tensor, Tensor, Tensor)")
      .on_all_devices(&local_transition_losses_backward)
      .refuses_second_derivatives();
}
