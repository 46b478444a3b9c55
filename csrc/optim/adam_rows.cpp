#include "optim/adam_rows.h"

#include <ATen/ops/_to_copy.h>

#include <algorithm>
#include <sstream>

#include "ops.h"
#include "tensor/checks.h"
#include "tensor/elements.h"
#include "tensor/parallel.h"
#include "tensor/registration.h"
#include "tensor/run_on_cuda.h"
#include "tensor/touched_rows.h"

namespace somvae {

namespace {

constexpr double kAdamValue = 2;  // nanoseconds, for `parallel`, to move 28 bytes between memory and a core

std::string text(c10::SymIntArrayRef sizes) {
  std::ostringstream stream;
  stream << sizes;
  return stream.str();
}

void check_inputs(const Tensor& param, const Tensor& exp_avg, const Tensor& exp_avg_sq, const Tensor& step,
                  const Tensor& index, const Tensor& grad) {
  ArgumentChecks check("adam_rows_");
  check.floating("param", param);
  if (param.dim() == 0) check.fail("param", "have rows, that is at least one dimension", "a scalar");
  for (const auto& [name, moment] : {std::pair{"exp_avg", exp_avg}, std::pair{"exp_avg_sq", exp_avg_sq}}) {
    check.dtype(name, moment, compute_dtype(param.scalar_type()));
    if (moment.sym_sizes() != param.sym_sizes()) {
      check.fail(name, "have the shape of param, " + text(param.sym_sizes()), text(moment.sym_sizes()));
    }
  }
  for (const auto& [name, table] :
       {std::pair{"param", param}, std::pair{"exp_avg", exp_avg}, std::pair{"exp_avg_sq", exp_avg_sq}}) {
    if (!table.is_contiguous())
      check.fail(name, "be contiguous, for it is changed in place", "strides that are not contiguous");
  }
  check.dtype("step", step, at::kLong);
  check.shape("step", step, "");
  check.set_size('K', param.sym_size(0));
  check.index("index", index, "M", 'K');
  check.floating("grad", grad);
  if (grad.dim() != param.dim() || grad.sym_size(0) != index.sym_size(0) ||
      grad.sym_sizes().slice(1) != param.sym_sizes().slice(1)) {
    check.fail("grad",
               "hold a row of param, " + text(param.sym_sizes()) + ", for each of the " + text(index.sym_sizes()) +
                   " in index",
               text(grad.sym_sizes()));
  }
}

void update(const Tensor& param, const Tensor& exp_avg, const Tensor& exp_avg_sq, const Tensor& step,
            const Tensor& index, const Tensor& grad, double lr, const Tensor& lr_value, double beta1, double beta2,
            double eps) {
  check_inputs(param, exp_avg, exp_avg_sq, step, index, grad);
  // Bump version counters: these tensors are modified in place and autograd may have saved them.
  for (const Tensor& table : {param, exp_avg, exp_avg_sq}) table.unsafeGetTensorImpl()->bump_version();
  if (param.is_meta() || grad.numel() == 0) return;

  const Tensor rows = index.contiguous(), gradients = grad.contiguous();
  const TouchedRows touched = touched_rows(rows, param.size(0));
  dispatch_floating(param.scalar_type(), [&]<class T>() {
    const AdamRowsArgs<T> args{mutable_elements<T>(param),
                               mutable_elements<Compute<T>>(exp_avg),
                               mutable_elements<Compute<T>>(exp_avg_sq),
                               elements<T>(gradients),
                               elements<int64_t>(rows),
                               elements<int64_t>(touched.order),
                               elements<int64_t>(touched.offsets),
                               elements<int64_t>(step),
                               elements<double>(lr_value),
                               lr,
                               beta1,
                               beta2,
                               eps,
                               touched_row_count(touched.offsets).value_or(rows.size(0)),
                               param.size(0),
                               gradients.numel() / gradients.size(0)};
    if (param.is_cuda()) {
      RUN_ON_CUDA(param, adam_rows_cuda(args, stream));
      return;
    }
    parallel(args.groups * adam_pieces(args.width), kAdamValue * std::min(args.width, kAdamPiece),
             [&](int64_t first, int64_t last) { adam_rows_cpu(args, first, last); });
  });
}

}  // namespace

void adam_rows_(const Tensor& param, const Tensor& exp_avg, const Tensor& exp_avg_sq, const Tensor& step,
                const Tensor& index, const Tensor& grad, double lr, double beta1, double beta2, double eps) {
  update(param, exp_avg, exp_avg_sq, step, index, grad, lr, Tensor(), beta1, beta2, eps);
}

void adam_rows_tensor_lr_(const Tensor& param, const Tensor& exp_avg, const Tensor& exp_avg_sq, const Tensor& step,
                          const Tensor& index, const Tensor& grad, const Tensor& lr, double beta1, double beta2,
                          double eps) {
  ArgumentChecks check("adam_rows_");
  check.floating("param", param);
  if (!lr.is_floating_point() || lr.dim() != 0 || lr.device() != param.device()) {
    check.fail("lr", "be a floating scalar on the device of param", lr.toString() + " " + text(lr.sym_sizes()));
  }
  update(param, exp_avg, exp_avg_sq, step, index, grad, 0, lr.to(at::kDouble), beta1, beta2, eps);
}

}  // namespace somvae

TORCH_LIBRARY_FRAGMENT(somvae_ext, library) {
  using namespace somvae;
  OpRegistration(library,
                 "adam_rows_(Tensor(a!) param, Tensor(b!) exp_avg, Tensor(c!) exp_avg_sq, Tensor step, Tensor index, "
                 "Tensor grad, float lr, float beta1, float beta2, float eps) "
                 "-> ()")
      .on_all_devices(&adam_rows_);
  OpRegistration(library,
                 "adam_rows_tensor_lr_(Tensor(a!) param, Tensor(b!) exp_avg, Tensor(c!) exp_avg_sq, Tensor step, "
                 "Tensor index, Tensor grad, Tensor lr, float beta1, float beta2, float eps) "
                 "-> ()")
      .on_all_devices(&adam_rows_tensor_lr_);
}
