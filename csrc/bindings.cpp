// The module somvae_ext._C and the registration of the ops with torch's dispatcher. The only file with Python headers.
#include <ATen/autocast_mode.h>
#include <pybind11/stl.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/extension.h>
#include <torch/library.h>

#include <limits>
#include <sstream>

#include "cpu/simd_level.h"
#include "ops.h"

namespace somvae {
namespace {

// Under autocast an op runs in float32: its reduced-precision inputs are cast up, then it is called again without
// autocast.
void cast_to_float32(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  c10::DeviceType device = c10::DeviceType::CPU;
  const size_t count = op.schema().arguments().size();
  for (const c10::IValue& argument : torch::jit::last(*stack, count)) {
    if (argument.isTensor() && argument.toTensor().defined()) device = argument.toTensor().device().type();
  }
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(
      at::autocast::get_autocast_dispatch_key_from_device_type(device));
  for (size_t i = stack->size() - count; i < stack->size(); ++i) {
    c10::IValue& argument = (*stack)[i];
    if (argument.isTensor()) argument = at::autocast::cached_cast(at::kFloat, argument.toTensor(), device);
  }
  op.callBoxed(stack);
}

void register_everywhere(torch::Library& library) {
  library.impl("bmu", &bmu);
  library.impl("bmu_backward", &bmu_backward);
  library.impl("som_gather", &som_gather);
  library.impl("som_gather_backward", &som_gather_backward);
  library.impl("som_head", &som_head);
  library.impl("som_losses", &som_losses);
  library.impl("som_head_backward", &som_head_backward);
  library.impl("segment_sum", &segment_sum);
  library.impl("segment_sum_backward", &segment_sum_backward);
  library.impl("som_update", &som_update);
  library.impl("som_update_axes", &som_update_axes);
  library.impl("som_ema_update", &som_ema_update);
  library.impl("transition_log_prob", &transition_log_prob);
  library.impl("transition_log_prob_backward", &transition_log_prob_backward);
  library.impl("transition_losses", &transition_losses);
  library.impl("transition_losses_backward", &transition_losses_backward);
  library.impl("local_transition_losses", &local_transition_losses);
  library.impl("local_transition_losses_backward", &local_transition_losses_backward);
  library.impl("adam_rows_", &adam_rows_);
  library.impl("adam_rows_.tensor_lr", &adam_rows_tensor_lr_);
}

void register_on_cpu(torch::Library& library) {
  register_everywhere(library);
  library.impl("bmu_pruned", &bmu_pruned);
}

void register_autocast(torch::Library& library) {
  for (const char* name :
       {"bmu", "som_head", "som_losses", "transition_log_prob", "transition_losses", "local_transition_losses"}) {
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&cast_to_float32>());
  }
}

std::string compiler() {
  std::ostringstream name;
#if defined(__clang__)
  name << "clang " << __clang_major__ << "." << __clang_minor__;
#elif defined(__GNUC__)
  name << "gcc " << __GNUC__ << "." << __GNUC_MINOR__;
#endif
  return name.str();
}

pybind11::dict build_info() {
  pybind11::dict info;
#ifdef SOMVAE_EXT_WITH_CUDA
  info["cuda"] = true;
  info["cuda_version"] = SOMVAE_EXT_CUDA_VERSION;
  info["cuda_archs"] = pybind11::str(SOMVAE_EXT_CUDA_ARCHS).attr("split")(";");
#else
  info["cuda"] = false;
  info["cuda_version"] = pybind11::none();
  info["cuda_archs"] = pybind11::list();
#endif
  info["simd"] = simd_level_name(simd_level());
  pybind11::list levels;
  for (const SimdLevel level : simd_levels_available()) levels.append(simd_level_name(level));
  info["simd_available"] = levels;
  info["torch_version"] = TORCH_VERSION;
  info["compiler"] = compiler();
  return info;
}

pybind11::dict launch_limits() {
  pybind11::dict limits;
  limits["codes"] = std::numeric_limits<int32_t>::max();  // bmu keeps indices of codes in 32 bits while it searches
  return limits;
}

}  // namespace
}  // namespace somvae

TORCH_LIBRARY(somvae_ext, library) {
  library.def("bmu(Tensor z, Tensor codebook, int k=1) -> (Tensor distance, Tensor index)");
  library.def(
      "bmu_pruned(Tensor z, Tensor codebook, Tensor[] index_parts, Tensor? hint=None, int k=1) "
      "-> (Tensor distance, Tensor index, Tensor work)");
  library.def(
      "bmu_backward(Tensor grad, Tensor z, Tensor codebook, Tensor index, bool[2] output_mask) -> (Tensor, Tensor)");
  library.def("som_gather(Tensor codebook, Tensor index, Tensor neighbors) -> Tensor");
  library.def("som_gather_backward(Tensor grad, Tensor index, Tensor neighbors) -> Tensor");
  library.def(
      "som_head(Tensor z, Tensor codebook, Tensor neighbors, bool mask_border=False, bool straight_through=False) "
      "-> (Tensor quantized, Tensor commitment, Tensor som, Tensor index)");
  library.def(
      "som_losses(Tensor z, Tensor codebook, Tensor index, Tensor neighbors, bool mask_border=False) "
      "-> (Tensor commitment, Tensor som)");
  library.def(
      "som_head_backward(Tensor? grad_quantized, Tensor? grad_commitment, Tensor? grad_som, Tensor z, Tensor codebook, "
      "Tensor index, Tensor neighbors, bool straight_through, bool[2] output_mask) -> (Tensor, Tensor)");
  library.def("segment_sum(Tensor x, Tensor index, SymInt num_segments) -> (Tensor sum, Tensor count)");
  library.def("segment_sum_backward(Tensor grad, Tensor index, ScalarType dtype) -> Tensor");
  library.def("som_update(Tensor codebook, Tensor total, Tensor count, Tensor weights, float? rate=None) -> Tensor");
  library.def(
      "som_update_axes(Tensor codebook, Tensor total, Tensor count, Tensor rows, Tensor columns, float? rate=None) "
      "-> Tensor");
  library.def(
      "som_ema_update(Tensor(a!) codebook, Tensor(b!) ema_counts, Tensor(c!) ema_sums, Tensor counts, Tensor sums, "
      "Tensor rows, Tensor columns, float decay, float least_share) -> ()");
  library.def(
      "transition_log_prob(Tensor logits, Tensor prev, Tensor cur, bool sparse_grad=False) "
      "-> (Tensor log_prob, Tensor log_normalizer, Tensor touched_node, Tensor touched_order, Tensor touched_offsets)");
  library.def(
      "transition_log_prob_backward(Tensor grad, Tensor logits, Tensor prev, Tensor cur, Tensor log_normalizer, "
      "Tensor touched_node, Tensor touched_order, Tensor touched_offsets, SymInt? sparse_rows) -> Tensor");
  library.def(
      "transition_losses(Tensor logits, Tensor prev, Tensor cur, Tensor z, Tensor codebook, bool sparse_grad=False) "
      "-> (Tensor log_prob, Tensor expectation, Tensor log_normalizer, Tensor touched_node, Tensor touched_order, "
      "Tensor touched_offsets)");
  library.def(
      "transition_losses_backward(Tensor grad_log_prob, Tensor grad_expectation, Tensor logits, Tensor prev, Tensor "
      "cur, "
      "Tensor z, Tensor codebook, Tensor expectation, Tensor log_normalizer, Tensor touched_node, "
      "Tensor touched_order, Tensor touched_offsets, SymInt? sparse_rows, bool[3] output_mask) "
      "-> (Tensor, Tensor, Tensor)");
  library.def(
      "local_transition_losses(Tensor logits, Tensor prev, Tensor cur, Tensor z, Tensor codebook, Tensor offsets, "
      "Tensor mirror, int rows, int cols, bool periodic, bool sparse_grad=False) -> (Tensor log_prob, "
      "Tensor expectation, Tensor log_normalizer, Tensor outside, Tensor moments, "
      "Tensor touched_node, Tensor touched_order, Tensor touched_offsets)");
  library.def(
      "local_transition_losses_backward(Tensor grad_log_prob, Tensor grad_expectation, Tensor logits, Tensor prev, "
      "Tensor cur, Tensor z, Tensor codebook, Tensor offsets, Tensor mirror, Tensor expectation, "
      "Tensor log_normalizer, Tensor outside, Tensor moments, Tensor touched_node, Tensor touched_order, "
      "Tensor touched_offsets, int rows, int cols, bool periodic, SymInt? sparse_rows, bool[3] output_mask) "
      "-> (Tensor, Tensor, Tensor)");
  library.def(
      "adam_rows_(Tensor(a!) param, Tensor(b!) exp_avg, Tensor(c!) exp_avg_sq, Tensor step, Tensor index, Tensor grad, "
      "float lr, float beta1, float beta2, float eps) -> ()");
  library.def(
      "adam_rows_.tensor_lr(Tensor(a!) param, Tensor(b!) exp_avg, Tensor(c!) exp_avg_sq, Tensor step, Tensor index, "
      "Tensor grad, Tensor lr, float beta1, float beta2, float eps) -> ()");
}

TORCH_LIBRARY_IMPL(somvae_ext, CPU, library) { somvae::register_on_cpu(library); }
TORCH_LIBRARY_IMPL(somvae_ext, CUDA, library) { somvae::register_everywhere(library); }
TORCH_LIBRARY_IMPL(somvae_ext, Meta, library) { somvae::register_on_cpu(library); }

TORCH_LIBRARY_IMPL(somvae_ext, AutocastCPU, library) { somvae::register_autocast(library); }
TORCH_LIBRARY_IMPL(somvae_ext, AutocastCUDA, library) { somvae::register_autocast(library); }

TORCH_LIBRARY_IMPL(somvae_ext, Autograd, library) {
  library.impl("bmu", &somvae::differentiable::bmu);
  library.impl("bmu_pruned", &somvae::differentiable::bmu_pruned);
  library.impl("som_gather", &somvae::differentiable::som_gather);
  library.impl("som_head", &somvae::differentiable::som_head);
  library.impl("som_losses", &somvae::differentiable::som_losses);
  library.impl("segment_sum", &somvae::differentiable::segment_sum);
  library.impl("transition_log_prob", &somvae::differentiable::transition_log_prob);
  library.impl("transition_losses", &somvae::differentiable::transition_losses);
  library.impl("local_transition_losses", &somvae::differentiable::local_transition_losses);
  for (const char* name : {"som_update", "som_update_axes", "som_ema_update"}) {
    library.impl(name, torch::CppFunction::makeFallthrough());  // without derivatives
  }
  for (const char* name :
       {"bmu_backward", "som_gather_backward", "som_head_backward", "segment_sum_backward",
        "transition_log_prob_backward", "transition_losses_backward", "local_transition_losses_backward"}) {
    library.impl(name, torch::autograd::autogradNotImplementedFallback());  // a second derivative raises a sentence
  }
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  namespace py = pybind11;
  using release_gil = py::call_guard<py::gil_scoped_release>;
  module.doc() =
      "Native ops of somvae_ext. `bmu` and so on are differentiable; `bmu_forward` and `bmu_backward` are raw.";
  module.def("build_info", &somvae::build_info);
  module.def("launch_limits", &somvae::launch_limits);

  module.def("bmu", &somvae::differentiable::bmu, py::arg("z"), py::arg("codebook"), py::arg("k") = 1, release_gil());
  module.def("bmu_forward", &somvae::bmu, py::arg("z"), py::arg("codebook"), py::arg("k") = 1, release_gil());
  const auto bmu_work = [](const at::Tensor& z, const at::Tensor& codebook, int64_t k) {
    somvae::BmuWork work;
    {
      const py::gil_scoped_release released;
      work = somvae::bmu_work(z, codebook, k);
    }
    return py::dict(py::arg("kernel") = work.kernel, py::arg("rescored") = work.rescored, py::arg("dense") = work.dense,
                    py::arg("workspace_bytes") = work.workspace_bytes);
  };
  module.def("bmu_work", bmu_work, py::arg("z"), py::arg("codebook"), py::arg("k") = 1);
  using Tensors = std::vector<at::Tensor>;
  const auto bmu_pruned = [](const at::Tensor& z, const at::Tensor& codebook, const Tensors& index_parts,
                             const std::optional<at::Tensor>& hint, int64_t k) {
    return somvae::differentiable::bmu_pruned(z, codebook, index_parts, hint, k);
  };
  const auto bmu_pruned_forward = [](const at::Tensor& z, const at::Tensor& codebook, const Tensors& index_parts,
                                     const std::optional<at::Tensor>& hint,
                                     int64_t k) { return somvae::bmu_pruned(z, codebook, index_parts, hint, k); };
  module.def("bmu_pruned", bmu_pruned, py::arg("z"), py::arg("codebook"), py::arg("index_parts"),
             py::arg("hint") = py::none(), py::arg("k") = 1, release_gil());
  module.def("bmu_pruned_forward", bmu_pruned_forward, py::arg("z"), py::arg("codebook"), py::arg("index_parts"),
             py::arg("hint") = py::none(), py::arg("k") = 1, release_gil());
  module.def("bmu_backward", &somvae::bmu_backward, py::arg("grad"), py::arg("z"), py::arg("codebook"),
             py::arg("index"), py::arg("output_mask") = std::array<bool, 2>{true, true}, release_gil());

  module.def("som_gather", &somvae::differentiable::som_gather, py::arg("codebook"), py::arg("index"),
             py::arg("neighbors"), release_gil());
  module.def("som_gather_forward", &somvae::som_gather, py::arg("codebook"), py::arg("index"), py::arg("neighbors"),
             release_gil());
  module.def("som_gather_backward", &somvae::som_gather_backward, py::arg("grad"), py::arg("index"),
             py::arg("neighbors"), release_gil());

  module.def("som_head", &somvae::differentiable::som_head, py::arg("z"), py::arg("codebook"), py::arg("neighbors"),
             py::arg("mask_border") = false, py::arg("straight_through") = false, release_gil());
  module.def("som_head_forward", &somvae::som_head, py::arg("z"), py::arg("codebook"), py::arg("neighbors"),
             py::arg("mask_border") = false, py::arg("straight_through") = false, release_gil());
  module.def("som_losses", &somvae::differentiable::som_losses, py::arg("z"), py::arg("codebook"), py::arg("index"),
             py::arg("neighbors"), py::arg("mask_border") = false, release_gil());
  module.def("som_losses_forward", &somvae::som_losses, py::arg("z"), py::arg("codebook"), py::arg("index"),
             py::arg("neighbors"), py::arg("mask_border") = false, release_gil());
  module.def("som_head_backward", &somvae::som_head_backward, py::arg("grad_quantized"), py::arg("grad_commitment"),
             py::arg("grad_som"), py::arg("z"), py::arg("codebook"), py::arg("index"), py::arg("neighbors"),
             py::arg("straight_through") = false, py::arg("output_mask") = std::array<bool, 2>{true, true},
             release_gil());

  const auto segment_sum = [](const at::Tensor& x, const at::Tensor& index, int64_t num_segments) {
    return somvae::differentiable::segment_sum(x, index, num_segments);
  };
  const auto segment_sum_forward = [](const at::Tensor& x, const at::Tensor& index, int64_t num_segments) {
    return somvae::segment_sum(x, index, num_segments);
  };
  module.def("segment_sum", segment_sum, py::arg("x"), py::arg("index"), py::arg("num_segments"), release_gil());
  module.def("segment_sum_forward", segment_sum_forward, py::arg("x"), py::arg("index"), py::arg("num_segments"),
             release_gil());
  module.def("segment_sum_backward", &somvae::segment_sum_backward, py::arg("grad"), py::arg("index"), py::arg("dtype"),
             release_gil());

  module.def("som_update", &somvae::som_update, py::arg("codebook"), py::arg("total"), py::arg("count"),
             py::arg("weights"), py::arg("rate") = py::none(), release_gil());
  module.def("som_update_axes", &somvae::som_update_axes, py::arg("codebook"), py::arg("total"), py::arg("count"),
             py::arg("rows"), py::arg("columns"), py::arg("rate") = py::none(), release_gil());
  module.def("som_ema_update", &somvae::som_ema_update, py::arg("codebook"), py::arg("ema_counts"), py::arg("ema_sums"),
             py::arg("counts"), py::arg("sums"), py::arg("rows"), py::arg("columns"), py::arg("decay"),
             py::arg("least_share"), release_gil());

  module.def("transition_log_prob", &somvae::differentiable::transition_log_prob, py::arg("logits"), py::arg("prev"),
             py::arg("cur"), py::arg("sparse_grad") = false, release_gil());
  module.def("transition_log_prob_forward", &somvae::transition_log_prob, py::arg("logits"), py::arg("prev"),
             py::arg("cur"), py::arg("sparse_grad") = false, release_gil());
  module.def("transition_log_prob_backward", &somvae::transition_log_prob_backward, py::arg("grad"), py::arg("logits"),
             py::arg("prev"), py::arg("cur"), py::arg("log_normalizer"), py::arg("touched_node"),
             py::arg("touched_order"), py::arg("touched_offsets"), py::arg("sparse_rows") = py::none(), release_gil());

  module.def("transition_losses", &somvae::differentiable::transition_losses, py::arg("logits"), py::arg("prev"),
             py::arg("cur"), py::arg("z"), py::arg("codebook"), py::arg("sparse_grad") = false, release_gil());
  module.def("transition_losses_forward", &somvae::transition_losses, py::arg("logits"), py::arg("prev"),
             py::arg("cur"), py::arg("z"), py::arg("codebook"), py::arg("sparse_grad") = false, release_gil());
  module.def("transition_losses_backward", &somvae::transition_losses_backward, py::arg("grad_log_prob"),
             py::arg("grad_expectation"), py::arg("logits"), py::arg("prev"), py::arg("cur"), py::arg("z"),
             py::arg("codebook"), py::arg("expectation"), py::arg("log_normalizer"), py::arg("touched_node"),
             py::arg("touched_order"), py::arg("touched_offsets"), py::arg("sparse_rows") = py::none(),
             py::arg("output_mask") = std::array<bool, 3>{true, true, true}, release_gil());

  const auto local_transition_losses_backward =
      [](const at::Tensor& grad_log_prob, const at::Tensor& grad_expectation, const at::Tensor& logits,
         const at::Tensor& prev, const at::Tensor& cur, const at::Tensor& z, const at::Tensor& codebook,
         const at::Tensor& offsets, const at::Tensor& mirror, const at::Tensor& expectation,
         const at::Tensor& log_normalizer, const at::Tensor& outside, const at::Tensor& moments,
         const at::Tensor& touched_node, const at::Tensor& touched_order, const at::Tensor& touched_offsets,
         int64_t rows, int64_t cols, bool periodic, std::optional<int64_t> sparse_rows,
         std::array<bool, 3> output_mask) {
        return somvae::local_transition_losses_backward(
            grad_log_prob, grad_expectation, logits, prev, cur, z, codebook, offsets, mirror, expectation,
            log_normalizer, outside, moments, touched_node, touched_order, touched_offsets, rows, cols, periodic,
            sparse_rows ? std::optional<c10::SymInt>(*sparse_rows) : std::nullopt, output_mask);
      };
  module.def("local_transition_losses", &somvae::differentiable::local_transition_losses, py::arg("logits"),
             py::arg("prev"), py::arg("cur"), py::arg("z"), py::arg("codebook"), py::arg("offsets"), py::arg("mirror"),
             py::arg("rows"), py::arg("cols"), py::arg("periodic"), py::arg("sparse_grad") = false, release_gil());
  module.def("local_transition_losses_forward", &somvae::local_transition_losses, py::arg("logits"), py::arg("prev"),
             py::arg("cur"), py::arg("z"), py::arg("codebook"), py::arg("offsets"), py::arg("mirror"), py::arg("rows"),
             py::arg("cols"), py::arg("periodic"), py::arg("sparse_grad") = false, release_gil());
  module.def("local_transition_losses_backward", local_transition_losses_backward, py::arg("grad_log_prob"),
             py::arg("grad_expectation"), py::arg("logits"), py::arg("prev"), py::arg("cur"), py::arg("z"),
             py::arg("codebook"), py::arg("offsets"), py::arg("mirror"), py::arg("expectation"),
             py::arg("log_normalizer"), py::arg("outside"), py::arg("moments"), py::arg("touched_node"),
             py::arg("touched_order"), py::arg("touched_offsets"), py::arg("rows"), py::arg("cols"),
             py::arg("periodic"), py::arg("sparse_rows") = py::none(),
             py::arg("output_mask") = std::array<bool, 3>{true, true, true}, release_gil());

  module.def("adam_rows_", &somvae::adam_rows_, py::arg("param"), py::arg("exp_avg"), py::arg("exp_avg_sq"),
             py::arg("step"), py::arg("index"), py::arg("grad"), py::arg("lr"), py::arg("beta1"), py::arg("beta2"),
             py::arg("eps"), release_gil());
}
