// CUDA local transitions. Each pass recomputes probabilities and distances in the windows instead of storing
// [samples, slots].
#pragma once
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"
#include "transition/codebook_moments_kernel.cuh"
#include "transition/local_transition_losses.h"
#include "transition/softmax_row.cuh"

namespace somvae {

constexpr int kWarps = kRowThreads / 32;

// A lane's share of |z - e|^2, in double: the lanes of a warp divide the features.
template <class T>
__device__ inline double distance_share(const LocalTransition<T>& in, int64_t sample, int64_t node) {
  double sum = 0;
  for (int64_t d = threadIdx.x % 32; d < in.dim; d += 32) {
    const double difference = double(load(in.z[sample * in.dim + d])) - double(load(in.codebook[node * in.dim + d]));
    sum += difference * difference;
  }
  return sum;
}

// A lane's share of the sum of squared distances of a sample to all codes.
template <class T>
__device__ inline double distance_to_all_share(const LocalTransition<T>& in, int64_t sample) {
  const CodebookMoments moments(in.moments, in.dim);
  double sum = threadIdx.x % 32 == 0 ? *moments.spread : 0;
  for (int64_t d = threadIdx.x % 32; d < in.dim; d += 32) {
    const double centered = double(load(in.z[sample * in.dim + d])) - moments.center[d];
    sum += centered * (double(in.nodes) * centered - 2 * moments.residual[d]);
  }
  return sum;
}

template <class T>
__device__ inline const T* row_of_logits(const LocalTransition<T>& in, int64_t node) {
  return in.logits + node * (in.window.slots + 1);
}

// One block per sample.
template <class T>
__global__ void __launch_bounds__(kRowThreads, 8) local_transition_losses_kernel(LocalTransitionLossesArgs<T> args) {
  using C = Compute<T>;
  __shared__ double scratch[kWarps];
  const LocalTransition<T>& in = args.in;
  const int64_t slots = in.window.slots;
  for (int64_t sample = blockIdx.x; sample < in.samples; sample += gridDim.x) {
    const int64_t prev = in.prev[sample], cur = in.cur[sample];
    if (!in_range(prev, in.nodes)) {  // the same for the whole block
      if (threadIdx.x == 0) {
        args.log_prob[sample] = args.expectation[sample] = C(NAN);
        args.log_normalizer[sample] = args.outside[sample] = NAN;
      }
      continue;
    }
    const T* row = row_of_logits(in, prev);

    // Over the thread's slots: the number present, the slot of cur, the largest logit, the sum of exp(logit - largest).
    double present = 0, hit = -1, largest = -INFINITY, sum = 0;
    const auto add_logit = [&](double logit) {
      if (logit > largest) {
        if (largest != double(-INFINITY)) sum *= double(exponential(C(largest - logit)));
        largest = logit;
      }
      if (logit != double(-INFINITY)) sum += double(exponential(C(logit - largest)));
    };
    for (int64_t slot = threadIdx.x; slot < slots; slot += kRowThreads) {
      const int64_t node = window_node(in.window, prev, slot);
      if (node < 0) continue;
      present += 1;
      if (node == cur) hit = double(slot);
      add_logit(double(load(row[slot])));
    }
    present = block_reduce<Sum, kRowThreads>(present, scratch);
    hit = block_reduce<Maximum, kRowThreads>(hit, scratch);
    const double nodes_outside = double(in.nodes) - present, remainder = double(load(row[slots]));
    if (threadIdx.x == 0 && nodes_outside > 0) add_logit(remainder);
    const double log_normalizer = join_softmax(largest, sum, scratch);
    const double q = nodes_outside > 0 ? exp(remainder - log_normalizer) / nodes_outside : 0;

    const int warp = threadIdx.x / 32;
    double expectation = warp == 0 && q > 0 ? q * distance_to_all_share(in, sample) : 0;
    for (int64_t slot = warp; slot < slots; slot += kWarps) {
      const int64_t node = window_node(in.window, prev, slot);
      if (node < 0) continue;
      expectation += (double(probability(row[slot], log_normalizer)) - q) * distance_share(in, sample, node);
    }
    expectation = block_reduce<Sum, kRowThreads>(expectation, scratch);
    if (threadIdx.x == 0) {
      const double logit = hit >= 0                  ? double(load(row[int64_t(hit)]))
                           : in_range(cur, in.nodes) ? remainder - log(nodes_outside)
                                                     : NAN;
      args.log_prob[sample] = static_cast<C>(logit - log_normalizer);
      args.expectation[sample] = static_cast<C>(expectation);
      args.log_normalizer[sample] = log_normalizer;
      args.outside[sample] = q;
    }
  }
}

// Computes the gradient of one row of logits, for a group whose prev is in range, by one block.
template <class T>
__device__ inline void gradient_of_row(const LocalTransitionLossesBackwardArgs<T>& args, int64_t begin, int64_t end,
                                       int64_t prev, T* out, double* scratch) {
  const LocalTransition<T>& in = args.in;
  const int64_t slots = in.window.slots;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const T* row = row_of_logits(in, prev);
  const int64_t first = in.groups.order[begin];
  const double log_normalizer = args.log_normalizer[first], q = args.outside[first];

  // Sums over samples: u, v times the expectation, and v times the sum of squared distances to all codes.
  double sum_log_prob = 0, sum_expectation = 0, far = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += kRowThreads) {
    const int64_t sample = in.groups.order[i];
    sum_log_prob += in_range(in.cur[sample], in.nodes) ? double(args.grad_log_prob[sample]) : NAN;
    sum_expectation += double(args.grad_expectation[sample]) * double(args.expectation[sample]);
  }
  for (int64_t i = begin + warp; i < end; i += kWarps) {
    const int64_t sample = in.groups.order[i];
    far += double(args.grad_expectation[sample]) * distance_to_all_share(in, sample);
  }
  sum_log_prob = block_reduce<Sum, kRowThreads>(sum_log_prob, scratch);
  sum_expectation = block_reduce<Sum, kRowThreads>(sum_expectation, scratch);
  far = block_reduce<Sum, kRowThreads>(far, scratch);

  // Sums over slots: the number present, v times the squared distances to their codes, and u of the samples whose cur
  // is their node.
  double present = 0, near = 0, hit = 0;
  for (int64_t slot = warp; slot < slots; slot += kWarps) {
    const int64_t node = window_node(in.window, prev, slot);
    double pull = 0, node_u = 0;
    for (int64_t i = begin; node >= 0 && i < end; ++i) {
      const int64_t sample = in.groups.order[i];
      pull += double(args.grad_expectation[sample]) * distance_share(in, sample, node);
      node_u += in.cur[sample] == node ? double(args.grad_log_prob[sample]) : 0;
    }
    pull = warp_reduce<Sum>(pull);
    const double p = node >= 0 ? double(probability(row[slot], log_normalizer)) : 0;
    if (lane == 0) {
      out[slot] = store<T>(node >= 0 ? node_u + p * (pull - sum_expectation - sum_log_prob) : 0);
      present += node >= 0 ? 1 : 0;
      near += pull;
      hit += node_u;
    }
  }
  present = block_reduce<Sum, kRowThreads>(present, scratch);
  near = block_reduce<Sum, kRowThreads>(near, scratch);
  hit = block_reduce<Sum, kRowThreads>(hit, scratch);
  if (threadIdx.x == 0) {
    const double nodes_outside = double(in.nodes) - present;
    const double pull = q > 0 ? q * (far - near - nodes_outside * (sum_expectation + sum_log_prob)) : 0;
    out[slots] = store<T>(nodes_outside > 0 ? sum_log_prob - hit + pull : 0);
  }
}

// One block per group.
// Budget: 128 registers.
template <class T>
__global__ void __launch_bounds__(kRowThreads, 4)
    local_transition_losses_backward_logits_kernel(LocalTransitionLossesBackwardArgs<T> args) {
  __shared__ double scratch[kWarps];
  const LocalTransition<T>& in = args.in;
  const int64_t slots = in.window.slots;
  for (int64_t group = blockIdx.x; group < in.groups.count; group += gridDim.x) {
    const int64_t begin = in.groups.offsets[group], end = in.groups.offsets[group + 1];
    const bool empty = begin == end;
    const int64_t prev = empty ? -1 : in.prev[in.groups.order[begin]];
    T* out = args.grad_logits + in.groups.gradient_row(group, args.sparse) * (slots + 1);
    if (in_range(prev, in.nodes)) {
      gradient_of_row(args, begin, end, prev, out, scratch);
    } else if (args.sparse) {
      for (int64_t slot = threadIdx.x; slot <= slots; slot += kRowThreads) out[slot] = store<T>(empty ? 0.0 : NAN);
    }
  }
}

// One block per sample and 128 features, one thread per feature. It passes over the window 128 slots at a time.
template <class T>
__global__ void __launch_bounds__(kRowThreads)
    local_transition_losses_backward_z_kernel(LocalTransitionLossesBackwardArgs<T> args) {
  __shared__ double weights[kRowThreads];
  __shared__ int64_t nodes[kRowThreads];
  const LocalTransition<T>& in = args.in;
  const CodebookMoments moments(in.moments, in.dim);
  const int64_t slots = in.window.slots, chunks = (in.dim + kRowThreads - 1) / kRowThreads;
  for (int64_t block = blockIdx.x; block < in.samples * chunks; block += gridDim.x) {
    const int64_t sample = block / chunks, d = block % chunks * kRowThreads + threadIdx.x;
    const int64_t prev = in.prev[sample];
    const bool valid = in_range(prev, in.nodes);
    const double q = args.outside[sample];
    const double z = d < in.dim ? double(load(in.z[sample * in.dim + d])) : 0;
    double sum = NAN;
    if (valid && d < in.dim) sum = q * (double(in.nodes) * (z - moments.center[d]) - moments.residual[d]);
    for (int64_t slot0 = 0; valid && slot0 < slots; slot0 += kRowThreads) {
      const int64_t slot = slot0 + threadIdx.x;
      const int64_t node = slot < slots ? window_node(in.window, prev, slot) : -1;
      nodes[threadIdx.x] = node;
      if (node >= 0) {
        const T logit = row_of_logits(in, prev)[slot];
        weights[threadIdx.x] = double(probability(logit, args.log_normalizer[sample])) - q;
      }
      __syncthreads();
      for (int j = 0; d < in.dim && j < kRowThreads; ++j) {
        if (nodes[j] >= 0) sum += weights[j] * (z - double(load(in.codebook[nodes[j] * in.dim + d])));
      }
      __syncthreads();
    }
    if (d < in.dim) args.grad_z[sample * in.dim + d] = store<T>(2 * double(args.grad_expectation[sample]) * sum);
  }
}

// One thread per element d of a group's sums; d = dim is the sum of 2 v. Also records each prev's group in group_of.
template <class T>
__global__ void __launch_bounds__(kThreads)
    local_transition_losses_backward_sums_kernel(LocalTransitionLossesBackwardArgs<T> args, int64_t* group_of) {
  const LocalTransition<T>& in = args.in;
  const int64_t columns = in.dim + 1;
  for (int64_t i = global_thread(); i < in.groups.count * columns; i += total_threads()) {
    const int64_t group = i / columns, d = i % columns;
    const int64_t begin = in.groups.offsets[group], end = in.groups.offsets[group + 1];
    const int64_t prev = begin < end ? in.prev[in.groups.order[begin]] : -1;
    double sum = 0;
    if (in_range(prev, in.nodes)) {
      for (int64_t j = begin; j < end; ++j) {
        const int64_t sample = in.groups.order[j];
        const double centered = d < in.dim ? double(load(in.z[sample * in.dim + d])) - in.moments[d] : 1;
        sum += 2 * double(args.grad_expectation[sample]) * centered;
      }
      if (d == in.dim) group_of[prev] = group;
    }
    args.group_sums[i] = sum;
  }
}

// Sums the groups' sums, weighted by the probability of a node outside the window.
template <class T>
__global__ void __launch_bounds__(kThreads)
    local_transition_losses_backward_total_kernel(LocalTransitionLossesBackwardArgs<T> args) {
  __shared__ double scratch[kMomentLanes][kMomentFeatures];
  const LocalTransition<T>& in = args.in;
  const int feature = threadIdx.x % kMomentFeatures, lane = threadIdx.x / kMomentFeatures;
  const int64_t columns = in.dim + 1;
  for (int64_t d0 = int64_t(blockIdx.x) * kMomentFeatures; d0 < columns; d0 += int64_t(gridDim.x) * kMomentFeatures) {
    const int64_t d = d0 + feature;
    double sum = 0;
    for (int64_t group = lane; d < columns && group < in.groups.count; group += kMomentLanes) {
      const int64_t begin = in.groups.offsets[group];
      if (begin == in.groups.offsets[group + 1] || !in_range(in.prev[in.groups.order[begin]], in.nodes)) continue;
      sum += args.outside[in.groups.order[begin]] * args.group_sums[group * columns + d];
    }
    sum = sum_of_lanes(sum, scratch);
    if (lane == 0 && d < columns) args.group_sums[in.groups.count * columns + d] = sum;
  }
}

constexpr int kPullFeatures = 4;  // per lane

// One warp per code and 128 features, 4 per lane. It searches the code's window, 32 slots at a time, for nodes that are
// the prev of a sample. That finds every sample whose window holds the code, because windows are symmetric.
template <class T>
__global__ void __launch_bounds__(kThreads)
    local_transition_losses_backward_codebook_kernel(LocalTransitionLossesBackwardArgs<T> args,
                                                     const int64_t* group_of) {
  const LocalTransition<T>& in = args.in;
  const int lane = threadIdx.x % 32;
  const int64_t columns = in.dim + 1, width = 32 * kPullFeatures, chunks = (in.dim + width - 1) / width;
  const double* total = args.group_sums + in.groups.count * columns;
  for (int64_t item = global_thread() / 32; item < in.nodes * chunks; item += total_threads() / 32) {
    const int64_t node = item / chunks, d0 = item % chunks * width + lane;
    double weight = total[in.dim], sum[kPullFeatures];
    for (int k = 0; k < kPullFeatures; ++k) sum[k] = d0 + 32 * k < in.dim ? total[d0 + 32 * k] : 0;
    for (int64_t slot0 = 0; slot0 < in.window.slots; slot0 += 32) {
      const int64_t slot = slot0 + lane;
      const int64_t neighbor = slot < in.window.slots ? window_node(in.window, node, slot) : -1;
      const int64_t group = neighbor >= 0 ? group_of[neighbor] : -1;
      double share = 0;
      if (group >= 0) {
        const int64_t sample = in.groups.order[in.groups.offsets[group]];
        const T logit = row_of_logits(in, neighbor)[in.window.mirror[slot]];
        share = double(probability(logit, args.log_normalizer[sample])) - args.outside[sample];
      }
      unsigned left = __ballot_sync(kFullWarp, group >= 0);
      for (int source = 0; left != 0; ++source, left >>= 1) {
        if ((left & 1) == 0) continue;
        const double of_source = __shfl_sync(kFullWarp, share, source);
        const double* sums = args.group_sums + __shfl_sync(kFullWarp, group, source) * columns;
        weight += of_source * sums[in.dim];
        for (int k = 0; k < kPullFeatures; ++k) {
          if (d0 + 32 * k < in.dim) sum[k] += of_source * sums[d0 + 32 * k];
        }
      }
    }
    for (int k = 0; k < kPullFeatures; ++k) {
      const int64_t d = d0 + 32 * k;
      if (d >= in.dim) continue;
      const double centered = double(load(in.codebook[node * in.dim + d])) - in.moments[d];
      args.grad_codebook[node * in.dim + d] = store<T>(weight * centered - sum[k]);
    }
  }
}

}  // namespace somvae
