#include "neighborhood/som_ema_update.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_to_copy.h>
#include <ATen/ops/empty.h>

#include <cmath>

#include "neighborhood/neighborhood.h"
#include "ops.h"
#include "tensor/checks.h"
#include "tensor/elements.h"
#include "tensor/parallel.h"
#include "tensor/registration.h"
#include "tensor/run_on_cuda.h"

namespace somvae {

namespace {

constexpr double kAveragedValue = 0.8;  // nanoseconds, for `parallel`, to move 12 bytes between memory and a core

void check_inputs(const Tensor& codebook, const Tensor& ema_counts, const Tensor& ema_sums, const Tensor& counts,
                  const Tensor& sums, const Tensor& rows, const Tensor& columns, double decay, double least_share) {
  ArgumentChecks check("som_ema_update");
  check.floating("codebook", codebook);
  check.shape("codebook", codebook, "KD");
  check.dtype("ema_counts", ema_counts, {at::kFloat, at::kDouble});
  check.shape("ema_counts", ema_counts, "K");
  check.dtype("ema_sums", ema_sums, ema_counts.scalar_type());
  check.shape("ema_sums", ema_sums, "KD");
  for (const auto& [name, tensor] :
       {std::pair{"codebook", codebook}, std::pair{"ema_counts", ema_counts}, std::pair{"ema_sums", ema_sums}}) {
    if (!tensor.is_contiguous()) {
      check.fail(name, "be contiguous, for it is changed in place", "strides that are not contiguous");
    }
  }
  check.dtype("counts", counts, {at::kLong, at::kFloat, at::kDouble});
  check.shape("counts", counts, "K");
  check.dtype("sums", sums, {at::kFloat, at::kDouble});
  check.shape("sums", sums, "KD");
  check_axis_weights(check, rows, columns);
  if (!(decay >= 0 && decay < 1)) check.fail("decay", "be from 0 to below 1", std::to_string(decay));
  if (!(least_share >= 0 && std::isfinite(least_share))) {
    check.fail("least_share", "be finite and at least 0", std::to_string(least_share));
  }
}

// Updates the averages with the statistics. Returns the count above which a code moves, float64 [1].
template <class A, class T>
Tensor update_averages(const Tensor& ema_counts, const Tensor& ema_sums, const Tensor& counts, const Tensor& sums,
                       double decay, double least_share) {
  const int64_t nodes = ema_sums.size(0), chunks = moving_average_chunks(nodes);
  const Tensor chunk_total = at::empty({chunks}, counts.options()), least = at::empty({1}, counts.options());
  const MovingAverageArgs<A, T> args{mutable_elements<A>(ema_counts),
                                     mutable_elements<A>(ema_sums),
                                     elements<double>(counts),
                                     elements<T>(sums),
                                     mutable_elements<double>(chunk_total),
                                     decay,
                                     nodes,
                                     ema_sums.size(1)};
  const LeastCountArgs least_args{elements<double>(chunk_total), mutable_elements<double>(least), least_share, nodes,
                                  chunks};
  if (sums.is_cuda()) {
    RUN_ON_CUDA(sums, moving_average_cuda(args, stream); least_count_cuda(least_args, stream));
  } else {
    parallel(chunks, kAveragedValue * kMovingAverageChunk * (1 + args.dim),
             [&](int64_t first, int64_t last) { moving_average_cpu(args, first, last); });
    least_count_cpu(least_args);
  }
  return least;
}

template <class A>
Tensor update_averages(const Tensor& ema_counts, const Tensor& ema_sums, const Tensor& counts, const Tensor& sums,
                       double decay, double least_share) {
  return sums.scalar_type() == at::kDouble
             ? update_averages<A, double>(ema_counts, ema_sums, counts, sums, decay, least_share)
             : update_averages<A, float>(ema_counts, ema_sums, counts, sums, decay, least_share);
}

}  // namespace

void som_ema_update(const Tensor& codebook, const Tensor& ema_counts, const Tensor& ema_sums, const Tensor& counts,
                    const Tensor& sums, const Tensor& rows, const Tensor& columns, double decay, double least_share) {
  const at::NoGradGuard no_grad;
  check_inputs(codebook, ema_counts, ema_sums, counts, sums, rows, columns, decay, least_share);
  // Bump version counters: these tensors are modified in place and autograd may have saved them.
  for (const Tensor& tensor : {codebook, ema_counts, ema_sums}) tensor.unsafeGetTensorImpl()->bump_version();
  if (codebook.is_meta() || codebook.size(0) == 0) return;

  const Tensor counted = counts.contiguous().to(at::kDouble), summed = sums.contiguous();
  const Tensor least = ema_sums.scalar_type() == at::kDouble
                           ? update_averages<double>(ema_counts, ema_sums, counted, summed, decay, least_share)
                           : update_averages<float>(ema_counts, ema_sums, counted, summed, decay, least_share);
  if (codebook.numel() == 0) return;
  update_codes(axis_neighborhood(rows, columns), codebook, ema_sums, ema_counts, std::nullopt, least, codebook);
}

}  // namespace somvae

TORCH_LIBRARY_FRAGMENT(somvae_ext, library) {
  using namespace somvae;
  OpRegistration(library,
                 "som_ema_update(Tensor(a!) codebook, Tensor(b!) ema_counts, Tensor(c!) ema_sums, Tensor counts, "
                 "Tensor sums, Tensor rows, Tensor columns, float decay, float least_share) "
                 "-> ()")
      .on_all_devices(&som_ema_update)
      .without_derivatives();
}
