#include "neighborhood/som_update.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_to_copy.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "neighborhood/neighborhood.h"
#include "ops.h"
#include "tensor/checks.h"
#include "tensor/elements.h"
#include "tensor/parallel.h"
#include "tensor/registration.h"
#include "tensor/run_on_cuda.h"

namespace somvae {

namespace {

constexpr double kWeightedPair = 0.03;  // nanoseconds, for `parallel`: a multiply-add in double

std::string text(const c10::SymInt& size) {
  std::ostringstream stream;
  stream << size;
  return stream.str();
}

int64_t round_up(int64_t number, int64_t multiple) { return (number + multiple - 1) / multiple * multiple; }
int64_t divide_up(int64_t number, int64_t divisor) { return (number + divisor - 1) / divisor; }

// Features per item of work on the CPU: as many as a panel holds, unless that leaves threads idle or makes the sums
// between the two passes too large.
int64_t axes_item_features(int64_t nodes, int64_t phases, int64_t dim) {
  constexpr int64_t vector = 8, max_values = 2 << 20;
  const int64_t max_features = nodes * phases * kSomUpdateFeatures <= max_values ? kSomUpdateFeatures : vector;
  const int64_t items = round_up(divide_up(dim, max_features), at::get_num_threads());
  return std::clamp(round_up(divide_up(dim, items), vector), vector, max_features);
}

// Targets per item: a panel of values in the cache should serve many targets, but every thread needs work.
int64_t item_targets(int64_t targets, int64_t dim) {
  constexpr int64_t least = 32, most = 128;
  const int64_t blocks = divide_up(dim, kSomUpdatePanels * kSomUpdateFeatures);
  return std::clamp(round_up(divide_up(targets * blocks, at::get_num_threads()), least), least, most);
}

// Features per pass on CUDA: as many as keep the sums between the two passes within 256 MiB, but at least one.
int64_t features_at_a_time(int64_t nodes, int64_t phases, int64_t dim) {
  constexpr int64_t max_values = 32 << 20;
  return std::clamp<int64_t>(max_values / (nodes * phases), 1, dim);
}

template <class T, class B>
void run(const SomUpdateArgs<T, B>& args, const Tensor& values) {
  if (values.is_cuda()) {
    RUN_ON_CUDA(values, som_update_cuda(args, stream));
    return;
  }
  const int64_t targets = item_targets(args.targets, args.dim);
  const int64_t features = std::min(args.dim, kSomUpdatePanels * kSomUpdateFeatures);
  const int64_t items = divide_up(args.targets, targets) * divide_up(args.dim, kSomUpdatePanels * kSomUpdateFeatures);
  parallel(items, kWeightedPair * targets * args.sources * features,
           [&](int64_t first, int64_t last) { som_update_cpu(args, targets, first, last); });
}

template <class T, class B>
void run(const SomUpdateAxesArgs<T, B>& args, const Tensor& values) {
  const int64_t nodes = args.axes.rows * args.axes.columns;
  if (values.is_cuda()) {
    const int64_t count = features_at_a_time(nodes, args.axes.phases, args.dim);
    const Tensor partial = at::empty({args.axes.phases * nodes * count}, values.options().dtype(at::kDouble));
    for (int64_t first = 0; first < args.dim; first += count) {
      RUN_ON_CUDA(values, som_update_axes_cuda(args, mutable_elements<double>(partial), first,
                                               std::min(count, args.dim - first), stream));
    }
    return;
  }
  const int64_t features = axes_item_features(nodes, args.axes.phases, args.dim);
  parallel(divide_up(args.dim, features),
           kWeightedPair * nodes * (args.axes.phases * args.axes.columns + args.axes.rows) * features,
           [&](int64_t first, int64_t last) { som_update_axes_cpu(args, features, first, last); });
}

// Computes the weighted sums of values [K, dim] and turns them into codes with `finish`.
template <class T, class B>
void weighted_sums(const Neighborhood& neighborhood, const Tensor& values, const SomUpdateFinish<B>& finish) {
  const int64_t dim = finish.dim;
  const auto& [weights, rows, columns] = neighborhood;
  if (weights.defined()) {
    run(SomUpdateArgs<T, B>{elements<T>(values), elements<double>(weights), finish, weights.size(0), weights.size(1),
                            dim},
        values);
  } else {
    const GridAxes axes{elements<double>(rows), elements<double>(columns), rows.size(0), columns.size(2),
                        columns.size(0)};
    run(SomUpdateAxesArgs<T, B>{elements<T>(values), axes, finish, dim}, values);
  }
}

template <class B>
void weighted_sums(const Neighborhood& neighborhood, const Tensor& values, const SomUpdateFinish<B>& finish) {
  if (values.scalar_type() == at::kDouble) {
    weighted_sums<double, B>(neighborhood, values, finish);
  } else {
    weighted_sums<float, B>(neighborhood, values, finish);
  }
}

Tensor as_double(const Tensor& tensor) { return tensor.contiguous().to(at::kDouble); }

// Computes the new codes for both ops, after each has checked its weights.
Tensor update(const Neighborhood& neighborhood, const Tensor& codebook, const Tensor& total, const Tensor& count,
              std::optional<double> rate) {
  const Tensor out = at::empty_symint(codebook.sym_sizes(), codebook.options());
  if (codebook.is_meta() || out.numel() == 0) return out;
  update_codes(neighborhood, codebook.contiguous(), total.contiguous(), as_double(count), rate, Tensor(), out);
  return out;
}

void check_sums(ArgumentChecks& check, const Tensor& total, const Tensor& count, std::optional<double> rate) {
  check.dtype("total", total, {at::kFloat, at::kDouble});
  check.shape("total", total, "KD");
  check.dtype("count", count, {at::kLong, at::kFloat, at::kDouble});
  check.shape("count", count, count.dim() == 2 ? "KD" : "K");
  if (rate.has_value() && !std::isfinite(*rate)) check.fail("rate", "be finite", std::to_string(*rate));
}

}  // namespace

void check_axis_weights(ArgumentChecks& check, const Tensor& rows, const Tensor& columns) {
  check.dtype("rows", rows, {at::kFloat, at::kDouble});
  check.shape("rows", rows, "RR");
  check.dtype("columns", columns, {at::kFloat, at::kDouble});
  check.shape("columns", columns, "PPCC");
  const c10::SymInt phases = check.size('P'), nodes = check.size('R') * check.size('C');
  if (phases != 1 && phases != 2) check.fail("columns", "have 1 or 2 phases", text(phases));
  if (nodes != check.size('K')) {
    check.fail("codebook", "have a row for each node of the grid of rows and columns, " + text(nodes),
               text(check.size('K')));
  }
}

Neighborhood axis_neighborhood(const Tensor& rows, const Tensor& columns) {
  return {{}, as_double(rows), as_double(columns)};
}

void update_codes(const Neighborhood& neighborhood, const Tensor& codes, const Tensor& total, const Tensor& count,
                  std::optional<double> rate, const Tensor& least, const Tensor& out) {
  const int64_t width = count.dim() == 1 ? 1 : count.size(1);
  const Tensor den = at::empty({codes.size(0), width}, count.options().dtype(at::kDouble));
  weighted_sums(neighborhood, count,
                SomUpdateFinish<double>{nullptr, nullptr, mutable_elements<double>(den), width, 1, false, 0});
  dispatch_floating(codes.scalar_type(), [&]<class B>() {
    weighted_sums(neighborhood, total,
                  SomUpdateFinish<B>{elements<B>(codes), elements<double>(den), mutable_elements<B>(out), codes.size(1),
                                     width, rate.has_value(), rate.value_or(0), elements<double>(least)});
  });
}

Tensor som_update(const Tensor& codebook, const Tensor& total, const Tensor& count, const Tensor& weights,
                  std::optional<double> rate) {
  const at::NoGradGuard no_grad;
  ArgumentChecks check("som_update");
  check.floating("codebook", codebook);
  check.shape("codebook", codebook, "MD");
  check_sums(check, total, count, rate);
  check.dtype("weights", weights, {at::kFloat, at::kDouble});
  check.shape("weights", weights, "MK");
  const bool meta = codebook.is_meta();
  return update({meta ? weights : as_double(weights), {}, {}}, codebook, total, count, rate);
}

Tensor som_update_axes(const Tensor& codebook, const Tensor& total, const Tensor& count, const Tensor& rows,
                       const Tensor& columns, std::optional<double> rate) {
  const at::NoGradGuard no_grad;
  ArgumentChecks check("som_update");
  check.floating("codebook", codebook);
  check.shape("codebook", codebook, "KD");
  check_sums(check, total, count, rate);
  check_axis_weights(check, rows, columns);
  const bool meta = codebook.is_meta();
  return update(meta ? Neighborhood{} : axis_neighborhood(rows, columns), codebook, total, count, rate);
}

}  // namespace somvae

TORCH_LIBRARY_FRAGMENT(somvae_ext, library) {
  using namespace somvae;
  OpRegistration(library,
                 "som_update(Tensor codebook, Tensor total, Tensor count, Tensor weights, float? rate=None) "
                 "-> Tensor")
      .on_all_devices(&som_update)
      .without_derivatives();
  OpRegistration(library,
                 "som_update_axes(Tensor codebook, Tensor total, Tensor count, Tensor rows, Tensor columns, "
                 "float? rate=None) "
                 "-> Tensor")
      .on_all_devices(&som_update_axes)
      .without_derivatives();
}
