#include "neighborhood/segment_sum.h"

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

// Sums in double of up to 8 MiB stay in the caches. Adding rows to them by scatter costs less than gathering rows from
// memory, unless there are fewer rows than sums and the sums are long.
constexpr int64_t kCachedBytes = 8 << 20;

bool scatter_is_faster(int64_t rows, const Tensor& sum) {
  constexpr int64_t short_sum = 8;
  const bool cached = sum.numel() * static_cast<int64_t>(sizeof(double)) <= kCachedBytes;
  return cached && (rows >= sum.size(0) || sum.size(1) <= short_sum);
}

// The number of chunks of rows, each with its own sums. It depends on the sizes alone, so the result does not depend on
// the number of threads. A chunk has enough rows to make adding the chunks cheap.
int64_t scatter_chunks(int64_t rows, const Tensor& sum) {
  constexpr int64_t max_chunks = 16, min_rows = 4096, rows_per_segment = 8;
  const int64_t bytes = std::max<int64_t>(1, sum.numel() * static_cast<int64_t>(sizeof(double)));
  const int64_t chunks = rows / std::max(min_rows, rows_per_segment * sum.size(0));
  return std::clamp<int64_t>(chunks, 1, std::min(max_chunks, std::max<int64_t>(1, kCachedBytes / bytes)));
}

std::tuple<Tensor, Tensor> scatter_rows(const Tensor& x, const Tensor& index, const Tensor& sum) {
  const int64_t rows = x.size(0), segments = sum.size(0), dim = sum.size(1), chunks = scatter_chunks(rows, sum);
  const Tensor count = at::empty({segments}, index.options());
  // With a single chunk, its sums and counts are the result if the types agree.
  const Tensor chunk_sum = chunks == 1 && sum.scalar_type() == at::kDouble
                               ? sum
                               : at::empty({chunks, segments, dim}, sum.options().dtype(at::kDouble));
  const Tensor chunk_count = chunks == 1 ? count : at::empty({chunks, segments}, count.options());
  dispatch_floating(x.scalar_type(), [&]<class T>() {
    const SegmentScatterArgs<T> args{elements<T>(x),
                                     elements<int64_t>(index),
                                     mutable_elements<double>(chunk_sum),
                                     mutable_elements<int64_t>(chunk_count),
                                     mutable_elements<Compute<T>>(sum),
                                     mutable_elements<int64_t>(count),
                                     rows,
                                     segments,
                                     dim,
                                     chunks};
    // If there are more threads than chunks, several threads share a chunk, each with at least a cache line of
    // features.
    constexpr int64_t min_features = 16;
    const int64_t threads_per_chunk = (at::get_num_threads() + chunks - 1) / chunks;
    const int64_t max_slices = std::clamp<int64_t>(dim / min_features, 1, threads_per_chunk);
    const int64_t features = (dim + max_slices - 1) / max_slices;
    const int64_t slices = features > 0 ? (dim + features - 1) / features : 1;  // without empty slices
    const double work = (rows / chunks + segments) * (1 + kStreamedPair * features);
    parallel(chunks * slices, work, [&](int64_t first, int64_t last) {
      for (int64_t item = first; item < last; ++item) {
        const int64_t feature = item % slices * features;
        segment_scatter_cpu(args, item / slices, feature, std::min(dim, feature + features));
      }
    });
    parallel(segments, kStreamedPair * chunks * (1 + dim),
             [&](int64_t first, int64_t last) { segment_combine_cpu(args, first, last); });
  });
  return {sum, count};
}

std::tuple<Tensor, Tensor> gather_rows(const Tensor& x, const Tensor& index, const Tensor& sum) {
  const int64_t rows = x.size(0), segments = sum.size(0), dim = sum.size(1);
  const RowGroups groups = group_rows(index, segments);
  const Tensor partial =
      x.is_cuda() ? at::empty({2, segment_sum_tiles(rows), dim}, x.options().dtype(at::kDouble)) : Tensor();
  dispatch_floating(x.scalar_type(), [&]<class T>() {
    const SegmentSumArgs<T> args{elements<T>(x),
                                 elements<int64_t>(index),
                                 elements<int64_t>(groups.order),
                                 elements<int64_t>(groups.offsets),
                                 mutable_elements<double>(partial),
                                 mutable_elements<Compute<T>>(sum),
                                 rows,
                                 segments,
                                 dim};
    if (x.is_cuda()) {
      RUN_ON_CUDA(x, segment_sum_cuda(args, stream));
      return;
    }
    parallel(segments, kStreamedPair * (1 + rows / segments) * dim,
             [&](int64_t first, int64_t last) { segment_sum_cpu(args, first, last); });
  });
  return {sum, groups.offsets.slice(0, 1).sub(groups.offsets.slice(0, 0, segments))};
}

}  // namespace

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

  const Tensor rows = x.contiguous(), segment_of = index.contiguous();
  if (x.is_cpu() && scatter_is_faster(rows.size(0), sum)) return scatter_rows(rows, segment_of, sum);
  return gather_rows(rows, segment_of, sum);
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

std::tuple<Tensor, Tensor> differentiable_segment_sum(const Tensor& x, const Tensor& index, c10::SymInt num_segments) {
  const variable_list outputs = SegmentSumFunction::apply(x, index, std::move(num_segments));
  return {outputs[0], outputs[1]};
}

}  // namespace

}  // namespace somvae

TORCH_LIBRARY_FRAGMENT(somvae_ext, library) {
  using namespace somvae;
  OpRegistration(library, "segment_sum(Tensor x, Tensor index, SymInt num_segments) -> (Tensor sum, Tensor count)")
      .on_all_devices(&segment_sum)
      .differentiable(&differentiable_segment_sum);
  OpRegistration(library, "segment_sum_backward(Tensor grad, Tensor index, ScalarType dtype) -> Tensor")
      .on_all_devices(&segment_sum_backward)
      .refuses_second_derivatives();
}
