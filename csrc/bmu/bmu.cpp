#include "bmu/bmu.h"

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "cpu/codebook_panels.h"
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

// Searches on several threads. They divide the rows or, if there are too few rows to pay for packing the whole codebook
// on every thread, the codes.
template <class T>
void search_on_cpu(const BmuArgs<T>& args, const Tensor& distance, const Tensor& index) {
  constexpr int64_t many_rows = 512, many_panels = 8;  // per thread
  const double nanoseconds = (kTiledPair * args.rows + kPackedFeature) * args.codes * args.dim;
  const int64_t panels = panel_count(args.codes), most = at::in_parallel_region() ? 1 : at::get_num_threads();
  const int64_t threads = std::clamp<int64_t>(static_cast<int64_t>(nanoseconds / kLeastThreadWork), 1, most);
  if (args.rows >= many_rows * threads || panels < many_panels * threads || threads == 1) {
    parallel(args.rows, nanoseconds / std::max<int64_t>(1, args.rows),
             [&](int64_t first, int64_t last) { bmu_cpu(args, first, last, 0, panels); });
    return;
  }
  const int64_t entries = args.rows * args.k;
  const Tensor scores = at::empty({threads, entries}, distance.options().dtype(at::kDouble));
  const Tensor indices = at::empty({threads, entries}, index.options());
  at::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t thread = first; thread < last; ++thread) {
      BmuArgs<T> share = args;
      share.index = mutable_elements<int64_t>(indices) + thread * entries;
      bmu_cpu(share, 0, args.rows, thread * panels / threads, (thread + 1) * panels / threads,
              mutable_elements<double>(scores) + thread * entries);
    }
  });
  bmu_join_cpu(args, elements<double>(scores), elements<int64_t>(indices), threads);
}

struct Search {
  Tensor distance, index;
  // On CUDA:
  BmuPlan plan = {};
  Tensor workspace;
};

Search find_best_codes(const Tensor& z, const Tensor& codebook, int64_t k) {
  ArgumentChecks check("bmu");
  check.floating("z", z);
  check.floating("codebook", codebook);
  check.shape("z", z, "ND");
  check.shape("codebook", codebook, "KD");
  if (k != 1 && k != 2) check.fail("k", "be 1 or 2", std::to_string(k));
  if (check.size('K') < k) {
    check.fail("codebook", "have at least k = " + std::to_string(k) + " rows", std::to_string(codebook.size(0)));
  }
  if (check.size('K') > kMaxCodes) {
    check.fail("codebook", "have at most " + std::to_string(kMaxCodes) + " rows", std::to_string(codebook.size(0)));
  }

  std::vector<c10::SymInt> shape{check.size('N')};
  if (k == 2) shape.emplace_back(2);
  Search search;
  search.distance = at::empty_symint(shape, z.options().dtype(compute_dtype(z.scalar_type())));
  search.index = at::empty_symint(shape, z.options().dtype(at::kLong));
  if (z.is_meta()) return search;

  const Tensor rows = z.contiguous(), codes = codebook.contiguous();
  dispatch_floating(z.scalar_type(), [&]<class T>() {
    const BmuArgs<T> args{elements<T>(rows),
                          elements<T>(codes),
                          mutable_elements<Compute<T>>(search.distance),
                          mutable_elements<int64_t>(search.index),
                          rows.size(0),
                          codes.size(0),
                          rows.size(1),
                          static_cast<int>(k)};
    if (z.is_cuda()) {
      RUN_ON_CUDA(z, {
        search.plan = plan_bmu_cuda(args);
        search.workspace = at::empty({search.plan.workspace_bytes}, z.options().dtype(at::kByte));
        bmu_cuda(args, search.plan, search.workspace.mutable_data_ptr(), stream);
      });
      return;
    }
    search_on_cpu(args, search.distance, search.index);
  });
  return search;
}

}  // namespace

std::tuple<Tensor, Tensor> bmu(const Tensor& z, const Tensor& codebook, int64_t k) {
  const Search search = find_best_codes(z, codebook, k);
  return {search.distance, search.index};
}

BmuWork bmu_work(const Tensor& z, const Tensor& codebook, int64_t k) {
  const Search search = find_best_codes(z, codebook, k);
  if (search.plan.workspace_bytes == 0) return {z.is_cuda() ? kernel_name(search.plan.kernel) : "cpu"};
  const Tensor counters = search.workspace.narrow(0, 0, 2 * sizeof(int64_t)).view(at::kLong).cpu();
  return {kernel_name(search.plan.kernel), counters[0].item<int64_t>(), counters[1].item<int64_t>(),
          search.plan.workspace_bytes};
}

std::tuple<Tensor, Tensor> bmu_backward(const Tensor& grad, const Tensor& z, const Tensor& codebook,
                                        const Tensor& index, std::array<bool, 2> output_mask) {
  ArgumentChecks check("bmu_backward");
  check.floating("z", z);
  check.floating("codebook", codebook);
  check.shape("z", z, "ND");
  check.shape("codebook", codebook, "KD");
  const char* pairs = index.dim() == 2 ? "Nk" : "N";
  check.index("index", index, pairs, 'K');
  check.shape("grad", grad, pairs);
  check.dtype("grad", grad, compute_dtype(z.scalar_type()));

  const Tensor grad_z = output_mask[0] ? at::empty_symint(z.sym_sizes(), z.options()) : Tensor();
  const Tensor grad_codebook = output_mask[1] ? at::empty_symint(codebook.sym_sizes(), z.options()) : Tensor();
  if (z.is_meta()) return {grad_z, grad_codebook};

  const Tensor upstream = grad.contiguous(), rows = z.contiguous(), codes = codebook.contiguous();
  const Tensor winners = index.contiguous();
  const RowGroups groups = output_mask[1] ? group_rows(winners, codes.size(0)) : RowGroups();
  dispatch_floating(z.scalar_type(), [&]<class T>() {
    const BmuBackwardArgs<T> args{elements<Compute<T>>(upstream),
                                  elements<T>(rows),
                                  elements<T>(codes),
                                  elements<int64_t>(winners),
                                  elements<int64_t>(groups.order),
                                  elements<int64_t>(groups.offsets),
                                  mutable_elements<T>(grad_z),
                                  mutable_elements<T>(grad_codebook),
                                  rows.size(0),
                                  codes.size(0),
                                  rows.size(1),
                                  index.dim() == 2 ? static_cast<int>(index.size(1)) : 1};
    if (z.is_cuda()) {
      RUN_ON_CUDA(z, bmu_backward_cuda(args, stream));
      return;
    }
    if (output_mask[0]) {
      parallel(args.rows, kStreamedPair * args.k * args.dim,
               [&](int64_t first, int64_t last) { bmu_backward_z_cpu(args, first, last); });
    }
    if (output_mask[1]) {
      parallel(args.codes, kStreamedPair * (1 + args.rows / args.codes) * args.dim,
               [&](int64_t first, int64_t last) { bmu_backward_codebook_cpu(args, first, last); });
    }
  });
  return {grad_z, grad_codebook};
}

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class BMUFunction : public torch::autograd::Function<BMUFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& z, const Tensor& codebook, int64_t k) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    static const auto op = native_op<&bmu>("bmu");
    auto [distance, index] = op.call(z, codebook, k);
    ctx->save_for_backward({z, codebook, index});
    ctx->mark_non_differentiable({index});
    return {distance, index};
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    static const auto op = native_op<&bmu_backward>("bmu_backward");
    const variable_list saved = ctx->get_saved_variables();
    auto [grad_z, grad_codebook] =
        op.call(grads[0], saved[0], saved[1], saved[2], {ctx->needs_input_grad(0), ctx->needs_input_grad(1)});
    return {grad_z, grad_codebook, Tensor()};
  }
};

std::tuple<Tensor, Tensor> differentiable_bmu(const Tensor& z, const Tensor& codebook, int64_t k) {
  const variable_list outputs = BMUFunction::apply(z, codebook, k);
  return {outputs[0], outputs[1]};
}

}  // namespace

}  // namespace somvae

TORCH_LIBRARY_FRAGMENT(somvae_ext, library) {
  using namespace somvae;
  OpRegistration(library, "bmu(Tensor z, Tensor codebook, int k=1) -> (Tensor distance, Tensor index)")
      .on_all_devices(&bmu)
      .differentiable(&differentiable_bmu)
      .autocast_to_float32();
  OpRegistration(library,
                 "bmu_backward(Tensor grad, Tensor z, Tensor codebook, Tensor index, bool[2] output_mask=[True, True]) "
                 "-> (Tensor, Tensor)")
      .on_all_devices(&bmu_backward)
      .refuses_second_derivatives();
}
