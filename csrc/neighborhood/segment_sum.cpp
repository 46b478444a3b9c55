#include "neighborhood/segment_sum.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops.h"
#include "tensor/checks.h"
#include "tensor/dispatch.h"
#include "tensor/native_call.h"
#include "tensor/row_groups.h"

namespace somvae {

std::tuple<Tensor, Tensor> segment_sum(const Tensor& x, const Tensor& index, c10::SymInt num_segments) {
  ArgumentChecks check("segment_sum");
  check.floating("x", x);
  check.shape("x", x, "ND");
  if (num_segments < 1) {
    check.fail("num_segments", "be at least 1", std::to_string(num_segments.guard_int(__FILE__, __LINE__)));
  }
  check.set_size('K', num_segments);
  check.index("index", index, "N", 'K');

  const Tensor sum =
      at::empty_symint({num_segments, check.size('D')}, x.options().dtype(compute_dtype(x.scalar_type())));
  if (x.is_meta()) return {sum, at::empty_symint({num_segments}, index.options())};

  const Tensor rows = x.contiguous();
  const int64_t segments = sum.size(0);
  const RowGroups groups = group_rows(index, segments);
  dispatch_floating(x.scalar_type(), [&]<class T>() {
    const SegmentSumArgs<T> args{elements<T>(rows),
                                 elements<int64_t>(groups.order),
                                 elements<int64_t>(groups.offsets),
                                 mutable_elements<Compute<T>>(sum),
                                 rows.size(0),
                                 segments,
                                 rows.size(1)};
    if (x.is_cuda()) {
      RUN_ON_CUDA(x, segment_sum_cuda(args, stream));
      return;
    }
    parallel(segments, kStreamedPair * (1 + args.rows / segments) * args.dim,
             [&](int64_t first, int64_t last) { segment_sum_cpu(args, first, last); });
  });
  return {sum, groups.offsets.slice(0, 1).sub(groups.offsets.slice(0, 0, segments))};
}

Tensor segment_sum_backward(const Tensor& grad, const Tensor& index, at::ScalarType dtype) {
  ArgumentChecks check("segment_sum_backward");
  check.floating("grad", grad);
  check.shape("grad", grad, "KD");
  check.index("index", index, "N", 'K');
  check.dtype("grad", grad, compute_dtype(dtype));

  const Tensor grad_x = at::empty_symint({check.size('N'), check.size('D')}, grad.options().dtype(dtype));
  if (grad.is_meta()) return grad_x;

  const Tensor upstream = grad.contiguous(), segments = index.contiguous();
  dispatch_floating(dtype, [&]<class T>() {
    const SegmentSumBackwardArgs<T> args{elements<Compute<T>>(upstream),
                                         elements<int64_t>(segments),
                                         mutable_elements<T>(grad_x),
                                         segments.size(0),
                                         upstream.size(0),
                                         upstream.size(1)};
    if (grad.is_cuda()) {
      RUN_ON_CUDA(grad, segment_sum_backward_cuda(args, stream));
      return;
    }
    parallel(args.rows, kStreamedPair * args.dim,
             [&](int64_t first, int64_t last) { segment_sum_backward_cpu(args, first, last); });
  });
  return grad_x;
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class SegmentSumFunction : public torch::autograd::Function<SegmentSumFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const Tensor& index, c10::SymInt num_segments) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = native_op<&segment_sum>("segment_sum");
    auto [sum, count] = op.call(x, index, std::move(num_segments));
    ctx->save_for_backward({index});
    ctx->saved_data["dtype"] = static_cast<int64_t>(x.scalar_type());
    ctx->mark_non_differentiable({count});
    return {sum, count};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = native_op<&segment_sum_backward>("segment_sum_backward");
    const auto dtype = static_cast<at::ScalarType>(ctx->saved_data["dtype"].toInt());
    return {op.call(grads[0], ctx->get_saved_variables()[0], dtype), Tensor(), Tensor()};
  }
};

}  // namespace

std::tuple<Tensor, Tensor> differentiable::segment_sum(const Tensor& x, const Tensor& index, c10::SymInt num_segments) {
  const variable_list outputs = SegmentSumFunction::apply(x, index, std::move(num_segments));
  return {outputs[0], outputs[1]};
}

}  // namespace somvae
