// Every native op on one page. Each is registered as torch.ops.somvae_ext.<name> and exposed by the module _C.
//
// N rows, D features, K nodes of the map, each with its code, S neighbor slots. "floating" is float32, float64,
// float16 or bfloat16, the same for all floating arguments of a call; "compute" is float64 for float64, otherwise
// float32; indices are int64. The functions run below autograd, on CPU, CUDA and meta tensors (for which they compute
// only shapes). An op's derivative is registered beside its definition.
#pragma once
#include <ATen/core/Tensor.h>
#include <c10/core/SymInt.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>

namespace somvae {

using at::Tensor;

// z floating [N, D], codebook floating [K, D], k 1 or 2
// -> distance compute [N] or [N, 2], index [N] or [N, 2]
std::tuple<Tensor, Tensor> bmu(const Tensor& z, const Tensor& codebook, int64_t k);
// How much work a search did after its first pass, for tests and benchmarks.
struct BmuWork {
  std::string kernel;  // of the first pass: cpu, exact, ffma or tensor_core (bmu/bmu_policy.h)
  // These two may differ a little from run to run:
  int64_t rescored = 0;  // pairs of a row and a code that were scored again in float32
  int64_t dense = 0;     // rows for which all codes were scored in float64
  int64_t workspace_bytes = 0;
};
// Runs the same search as bmu and waits for the device. Counts nothing on the CPU. Exposed only by _C.
BmuWork bmu_work(const Tensor& z, const Tensor& codebook, int64_t k);
// bmu with a BMUIndex (somvae_ext/ops/_bmu_index.py), given by its tensors. hint [N] or none. CPU only.
// -> distance, index, work int64 [3]: multiply-adds spent on projecting rows, on screening and on scores
std::tuple<Tensor, Tensor, Tensor> bmu_pruned(const Tensor& z, const Tensor& codebook, at::TensorList index_parts,
                                              const std::optional<Tensor>& hint, int64_t k);
// grad compute, index as returned by bmu -> grad_z [N, D], grad_codebook [K, D], undefined where output_mask is false
std::tuple<Tensor, Tensor> bmu_backward(const Tensor& grad, const Tensor& z, const Tensor& codebook,
                                        const Tensor& index, std::array<bool, 2> output_mask);

// codebook floating [K, D], index [N], neighbors [K, S] (symmetric, no repeats; values outside [0, K): no neighbor)
// -> floating [N, 1 + S, D]
Tensor som_gather(const Tensor& codebook, const Tensor& index, const Tensor& neighbors);
// grad floating [N, 1 + S, D] -> grad_codebook [K, D]
Tensor som_gather_backward(const Tensor& grad, const Tensor& index, const Tensor& neighbors);

// z floating [N, D], codebook floating [K, D], neighbors [K, S]
// -> quantized floating [N, D], commitment, som compute [N], index [N]
std::tuple<Tensor, Tensor, Tensor, Tensor> som_head(const Tensor& z, const Tensor& codebook, const Tensor& neighbors,
                                                    bool mask_border, bool straight_through);
// The losses of som_head for known winners. index [N] -> commitment, som compute [N]
std::tuple<Tensor, Tensor> som_losses(const Tensor& z, const Tensor& codebook, const Tensor& index,
                                      const Tensor& neighbors, bool mask_border);
// Backward of som_head and som_losses. A missing gradient is treated as zero. grad_quantized floating [N, D],
// grad_commitment, grad_som compute [N]
// -> grad_z [N, D], grad_codebook [K, D], undefined where output_mask is false
std::tuple<Tensor, Tensor> som_head_backward(const std::optional<Tensor>& grad_quantized,
                                             const std::optional<Tensor>& grad_commitment,
                                             const std::optional<Tensor>& grad_som, const Tensor& z,
                                             const Tensor& codebook, const Tensor& index, const Tensor& neighbors,
                                             bool straight_through, std::array<bool, 2> output_mask);

// x floating [N, D], index [N] -> sum compute [num_segments, D], count int64 [num_segments]
std::tuple<Tensor, Tensor> segment_sum(const Tensor& x, const Tensor& index, c10::SymInt num_segments);
// grad compute [K, D], index [N] -> grad_x [N, D] of type `dtype`
Tensor segment_sum_backward(const Tensor& grad, const Tensor& index, at::ScalarType dtype);

// codebook floating [M, D], total float32 or float64 [K, D], count int64, float32 or float64 [K] or [K, D], weights
// float32 or float64 [M, K] -> new codes floating [M, D]; not differentiable
Tensor som_update(const Tensor& codebook, const Tensor& total, const Tensor& count, const Tensor& weights,
                  std::optional<double> rate);
// The same with weights that separate along the axes of a grid: rows [R, R], columns [P, P, C, C], K = M = R * C
Tensor som_update_axes(const Tensor& codebook, const Tensor& total, const Tensor& count, const Tensor& rows,
                       const Tensor& columns, std::optional<double> rate);
// Updates the moving averages ema_counts and ema_sums in place with the counts and sums of a batch. Then updates the
// codes in place from the averages as som_update_axes does, except those of nodes whose weighted average count is at
// most least_share times the mean average count.
// codebook floating [K, D]; ema_counts float32 or float64 [K], ema_sums the same dtype [K, D]; counts int64, float32 or
// float64 [K], sums float32 or float64 [K, D]; rows [R, R], columns [P, P, C, C] as above
void som_ema_update(const Tensor& codebook, const Tensor& ema_counts, const Tensor& ema_sums, const Tensor& counts,
                    const Tensor& sums, const Tensor& rows, const Tensor& columns, double decay, double least_share);

// For their backward passes, the ops below save which rows of the table an index prev [N] touches
// (tensor/touched_rows.h): touched_node [N], touched_order [N], touched_offsets [N + 1], all int64. Given sparse_rows,
// a backward pass returns only the first sparse_rows touched rows of the gradient, [sparse_rows, K]; otherwise the
// gradient of the whole table.
using TransitionLogProb = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor>;
using TransitionLosses = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

// logits floating [K, K], prev [N], cur [N]
// -> log_prob compute [N]; not differentiable: log_normalizer float64 [N], touched rows
TransitionLogProb transition_log_prob(const Tensor& logits, const Tensor& prev, const Tensor& cur, bool sparse_grad);
// -> grad_logits
Tensor transition_log_prob_backward(const Tensor& grad, const Tensor& logits, const Tensor& prev, const Tensor& cur,
                                    const Tensor& log_normalizer, const Tensor& touched_node,
                                    const Tensor& touched_order, const Tensor& touched_offsets,
                                    std::optional<c10::SymInt> sparse_rows);

// logits floating [K, K], prev [N], cur [N], z floating [N, D], codebook floating [K, D]
// -> log_prob, expectation compute [N]; not differentiable: log_normalizer float64 [N], touched rows
TransitionLosses transition_losses(const Tensor& logits, const Tensor& prev, const Tensor& cur, const Tensor& z,
                                   const Tensor& codebook, bool sparse_grad);
// -> grad_logits, grad_z [N, D], grad_codebook [K, D], undefined where output_mask is false
std::tuple<Tensor, Tensor, Tensor> transition_losses_backward(
    const Tensor& grad_log_prob, const Tensor& grad_expectation, const Tensor& logits, const Tensor& prev,
    const Tensor& cur, const Tensor& z, const Tensor& codebook, const Tensor& expectation, const Tensor& log_normalizer,
    const Tensor& touched_node, const Tensor& touched_order, const Tensor& touched_offsets,
    std::optional<c10::SymInt> sparse_rows, std::array<bool, 3> output_mask);

// logits floating [K, W + 1], prev [N], cur [N], z floating [N, D], codebook floating [K, D], K = rows * cols, and the
// windows of the nodes (somvae_ext/grid.py): offsets int64 [2, W, 2], mirror int64 [W]
// -> log_prob, expectation compute [N]; not differentiable: log_normalizer float64 [N], the probability of each single
// node outside the window float64 [N], moments of the codebook float64 [2 D + 1], touched rows
using LocalTransitionLosses = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;
LocalTransitionLosses local_transition_losses(const Tensor& logits, const Tensor& prev, const Tensor& cur,
                                              const Tensor& z, const Tensor& codebook, const Tensor& offsets,
                                              const Tensor& mirror, int64_t rows, int64_t cols, bool periodic,
                                              bool sparse_grad);
// -> grad_logits, grad_z [N, D], grad_codebook [K, D], undefined where output_mask is false
std::tuple<Tensor, Tensor, Tensor> local_transition_losses_backward(
    const Tensor& grad_log_prob, const Tensor& grad_expectation, const Tensor& logits, const Tensor& prev,
    const Tensor& cur, const Tensor& z, const Tensor& codebook, const Tensor& offsets, const Tensor& mirror,
    const Tensor& expectation, const Tensor& log_normalizer, const Tensor& outside, const Tensor& moments,
    const Tensor& touched_node, const Tensor& touched_order, const Tensor& touched_offsets, int64_t rows, int64_t cols,
    bool periodic, std::optional<c10::SymInt> sparse_rows, std::array<bool, 3> output_mask);

// Takes one step of Adam in place on rows index [M] of param floating [K, ...], with gradients grad [M, ...]. Gradients
// of a repeated row are added up. exp_avg, exp_avg_sq compute [K, ...]; step int64 [], 1 in the first step
void adam_rows_(const Tensor& param, const Tensor& exp_avg, const Tensor& exp_avg_sq, const Tensor& step,
                const Tensor& index, const Tensor& grad, double lr, double beta1, double beta2, double eps);
// The same with a tensor lr floating [], which a captured graph reads on each replay
void adam_rows_tensor_lr_(const Tensor& param, const Tensor& exp_avg, const Tensor& exp_avg_sq, const Tensor& step,
                          const Tensor& index, const Tensor& grad, const Tensor& lr, double beta1, double beta2,
                          double eps);

}  // namespace somvae
