#include "neighborhood/som_gather.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ops.h"
#include "tensor/checks.h"
#include "tensor/elements.h"
#include "tensor/native_call.h"
#include "tensor/parallel.h"
#include "tensor/registration.h"
#include "tensor/row_groups.h"
#include "tensor/run_on_cuda.h"

namespace somvae {

Tensor som_gather(const Tensor& codebook, const Tensor& index, const Tensor& neighbors) {
  ArgumentChecks check("som_gather");
  check.floating("codebook", codebook);
  check.shape("neighbors", neighbors, "KS");  // checked first: the grid defines K
  check.dtype("neighbors", neighbors, at::kLong);
  check.shape("codebook", codebook, "KD");
  check.index("index", index, "N", 'K');

  const Tensor out = at::empty_symint({check.size('N'), check.size('S') + 1, check.size('D')}, codebook.options());
  if (codebook.is_meta()) return out;

  const Tensor codes = codebook.contiguous(), winners = index.contiguous(), table = neighbors.contiguous();
  dispatch_floating(codebook.scalar_type(), [&]<class T>() {
    const SomGatherArgs<T> args{elements<T>(codes),
                                elements<int64_t>(winners),
                                elements<int64_t>(table),
                                mutable_elements<T>(out),
                                winners.size(0),
                                codes.size(0),
                                table.size(1),
                                codes.size(1)};
    if (codebook.is_cuda()) {
      RUN_ON_CUDA(codebook, som_gather_cuda(args, stream));
      return;
    }
    parallel(args.rows, kStreamedPair * (1 + args.slots) * args.dim,
             [&](int64_t first, int64_t last) { som_gather_cpu(args, first, last); });
  });
  return out;
}

Tensor som_gather_backward(const Tensor& grad, const Tensor& index, const Tensor& neighbors) {
  ArgumentChecks check("som_gather_backward");
  check.floating("grad", grad);
  check.shape("grad", grad, "NWD");  // W = 1 + S
  check.set_size('S', grad.sym_size(1) - 1);
  check.shape("neighbors", neighbors, "KS");
  check.dtype("neighbors", neighbors, at::kLong);
  check.index("index", index, "N", 'K');

  const Tensor grad_codebook = at::empty_symint({check.size('K'), check.size('D')}, grad.options());
  if (grad.is_meta()) return grad_codebook;

  const Tensor upstream = grad.contiguous(), table = neighbors.contiguous();
  const RowGroups groups = group_rows(index, table.size(0));
  dispatch_floating(grad.scalar_type(), [&]<class T>() {
    const SomGatherBackwardArgs<T> args{elements<T>(upstream),
                                        elements<int64_t>(table),
                                        elements<int64_t>(groups.order),
                                        elements<int64_t>(groups.offsets),
                                        mutable_elements<T>(grad_codebook),
                                        upstream.size(0),
                                        table.size(0),
                                        table.size(1),
                                        upstream.size(2)};
    if (grad.is_cuda()) {
      RUN_ON_CUDA(grad, som_gather_backward_cuda(args, stream));
      return;
    }
    parallel(args.nodes, kStreamedPair * (1 + args.rows / args.nodes) * (1 + args.slots) * args.dim,
             [&](int64_t first, int64_t last) { som_gather_backward_cpu(args, first, last); });
  });
  return grad_codebook;
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class SomGatherFunction : public torch::autograd::Function<SomGatherFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& codebook, const Tensor& index, const Tensor& neighbors) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = native_op<&som_gather>("som_gather");
    ctx->save_for_backward({index, neighbors});
    return op.call(codebook, index, neighbors);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = native_op<&som_gather_backward>("som_gather_backward");
    const variable_list saved = ctx->get_saved_variables();
    return {op.call(grads[0], saved[0], saved[1]), Tensor(), Tensor()};
  }
};

Tensor differentiable_som_gather(const Tensor& codebook, const Tensor& index, const Tensor& neighbors) {
  return SomGatherFunction::apply(codebook, index, neighbors);
}

}  // namespace

}  // namespace somvae

TORCH_LIBRARY_FRAGMENT(somvae_ext, library) {
  using namespace somvae;
  OpRegistration(library, "som_gather(Tensor codebook, Tensor index, Tensor neighbors) -> Tensor")
      .on_all_devices(&som_gather)
      .differentiable(&differentiable_som_gather);
  OpRegistration(library, "som_gather_backward(Tensor grad, Tensor index, Tensor neighbors) -> Tensor")
      .on_all_devices(&som_gather_backward)
      .refuses_second_derivatives();
}
