// The Python module somvae_ext._C: build information, limits, and the functions that the ops have registered. The only
// file that includes Python headers.
#include <pybind11/stl.h>
#include <torch/csrc/jit/python/pybind_utils.h>
#include <torch/extension.h>

#include <sstream>

#include "bmu/bmu.h"
#include "cpu/simd_level.h"
#include "ops.h"
#include "tensor/registration.h"

namespace somvae {
namespace {

namespace py = pybind11;

#ifdef SOMVAE_EXT_WITH_CUDA
#define SOMVAE_EXT_VARIANT " and CUDA " SOMVAE_EXT_CUDA_VERSION
#else
#define SOMVAE_EXT_VARIANT " for CPUs"
#endif

// This library may fail to load under another version of torch. somvae_ext/_native.py then reads this text from the
// library's own file: metadata or a file beside it might belong to another build.
__attribute__((used)) constexpr char kBuiltWith[] =
    "somvae_ext._C was built with torch " TORCH_VERSION SOMVAE_EXT_VARIANT;

std::string compiler() {
  std::ostringstream name;
#if defined(__clang__)
  name << "clang " << __clang_major__ << "." << __clang_minor__;
#elif defined(__GNUC__)
  name << "gcc " << __GNUC__ << "." << __GNUC_MINOR__;
#endif
  return name.str();
}

py::dict build_info() {
  py::dict info;
#ifdef SOMVAE_EXT_WITH_CUDA
  info["cuda"] = true;
  info["cuda_version"] = SOMVAE_EXT_CUDA_VERSION;
  info["cuda_archs"] = py::str(SOMVAE_EXT_CUDA_ARCHS).attr("split")(";");
#else
  info["cuda"] = false;
  info["cuda_version"] = py::none();
  info["cuda_archs"] = py::list();
#endif
  info["simd"] = simd_level_name(simd_level());
  py::list levels;
  for (const SimdLevel level : simd_levels_available()) levels.append(simd_level_name(level));
  info["simd_available"] = levels;
  info["torch_version"] = TORCH_VERSION;
  info["pybind11_version"] = PYBIND11_TOSTRING(PYBIND11_VERSION_MAJOR) "." PYBIND11_TOSTRING(
      PYBIND11_VERSION_MINOR) "." PYBIND11_TOSTRING(PYBIND11_VERSION_PATCH);
  info["compiler"] = compiler();
  return info;
}

py::dict launch_limits() {
  py::dict limits;
  limits["codes"] = kMaxCodes;
  return limits;
}

// Calls a function of an op, converting arguments and results as the op's schema says.
py::object call(const NativeFunction& function, const py::args& args, const py::kwargs& kwargs) {
  torch::jit::Stack stack =
      torch::jit::createStackForSchema(function.op.schema(), torch::jit::tuple_slice(args), kwargs, std::nullopt);
  {
    const py::gil_scoped_release released;
    function.function.callBoxed(function.op, c10::DispatchKeySet(), &stack);
  }
  return torch::jit::createPyObjectForStack(std::move(stack));
}

py::dict work_of_bmu(const at::Tensor& z, const at::Tensor& codebook, int64_t k) {
  BmuWork work;
  {
    const py::gil_scoped_release released;
    work = bmu_work(z, codebook, k);
  }
  return py::dict(py::arg("kernel") = work.kernel, py::arg("rescored") = work.rescored, py::arg("dense") = work.dense,
                  py::arg("workspace_bytes") = work.workspace_bytes);
}

}  // namespace
}  // namespace somvae

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  namespace py = pybind11;
  module.doc() =
      "Native ops of somvae_ext. `bmu` and the like are differentiable; `bmu_forward` and `bmu_backward` are not.";
  module.def("build_info", &somvae::build_info);
  module.def("launch_limits", &somvae::launch_limits);
  module.def("bmu_work", &somvae::work_of_bmu, py::arg("z"), py::arg("codebook"), py::arg("k") = 1);

  for (const somvae::NativeFunction& function : somvae::native_functions()) {
    const auto bound = [&function](const py::args& args, const py::kwargs& kwargs) {
      return somvae::call(function, args, kwargs);
    };
    module.def(function.name.c_str(), bound, c10::toString(function.op.schema()).c_str());
  }
}
