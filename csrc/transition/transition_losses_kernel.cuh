// CUDA transition losses. The forward pass tiles places x codes, in slices of codes whose results are joined
// afterwards. The backward passes recompute probabilities and distances instead of storing [rows, nodes].
#pragma once
#include "cuda/distance_tile.cuh"
#include "cuda/launch.cuh"
#include "index_range.h"
#include "transition/softmax_row.cuh"
#include "transition/transition_losses.h"

namespace somvae {

constexpr int64_t kSliceCodes = 256;

// A slice's share of the softmax of a place: its largest logit, the sum of exp(logit - largest), and the sum of these
// terms times the distance.
struct SoftmaxShare {
  double largest, sum, weighted;
};

template <class T>
struct TransitionLossesPlan {
  TransitionLossesArgs<T> args;
  SoftmaxShare* share;  // [slices, rows], by place
  int64_t slices;
};

// One block per 64 places in `order` and slice of codes.
// Budget: 128 registers.
template <class T>
__global__ void __launch_bounds__(kTileThreads) transition_losses_partial_kernel(TransitionLossesPlan<T> plan) {
  using C = Compute<T>;
  const TransitionLossesArgs<T>& args = plan.args;
  __shared__ DistanceTile<C> tile;
  const int x = threadIdx.x % kTileSide, y = threadIdx.x / kTileSide;
  const int64_t tiles = (args.rows + kTile - 1) / kTile;
  for (int64_t block = blockIdx.x; block < tiles * plan.slices; block += gridDim.x) {
    const int64_t place0 = block % tiles * kTile, slice = block / tiles;
    const int64_t end = (slice + 1) * kSliceCodes < args.nodes ? (slice + 1) * kSliceCodes : args.nodes;
    C largest[kPerThread];
    double sum[kPerThread] = {}, weighted[kPerThread] = {};  // of places y + 16 i, over codes x + 16 j
    for (C& value : largest) value = -INFINITY;

    for (int64_t node0 = slice * kSliceCodes; node0 < end; node0 += kTile) {
      C distance[kPerThread][kPerThread];
      distance_tile(args.z, args.order, args.rows, place0, args.codebook, args.nodes, node0, args.dim, tile, distance);
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
        const int64_t place = place0 + y + kTileSide * i;
        if (place >= args.rows) continue;
        const int64_t prev = args.prev[args.order[place]];
        if (!in_range(prev, args.nodes)) continue;
#pragma unroll
        for (int j = 0; j < kPerThread; ++j) {
          const int64_t node = node0 + x + kTileSide * j;
          if (node >= end) continue;
          const C logit = load(args.logits[prev * args.nodes + node]);
          if (logit > largest[i]) {
            // Before the first finite logit the sums are 0, or NaN, which scaling would not change.
            const double scale = largest[i] == C(-INFINITY) ? 1 : double(exponential(largest[i] - logit));
            sum[i] *= scale;
            weighted[i] *= scale;
            largest[i] = logit;
          }
          if (logit == C(-INFINITY)) continue;  // -inf - -inf would be NaN
          const C value = exponential(logit - largest[i]);
          sum[i] += double(value);
          weighted[i] += double(value) * double(distance[i][j]);
        }
      }
    }

    // The 16 threads of a place are half a warp.
    for (int i = 0; i < kPerThread; ++i) {
      SoftmaxShare share{double(largest[i]), sum[i], weighted[i]};
      for (int offset = kTileSide / 2; offset > 0; offset /= 2) {
        const double other = __shfl_xor_sync(kFullWarp, share.largest, offset);
        if (other > share.largest) share.largest = other;
      }
      // Where no logit is finite, sums are 0 or NaN.
      const double scale = share.sum == 0 ? 0 : exp(double(largest[i]) - share.largest);
      const bool scaled = double(largest[i]) != share.largest;
      share.sum = scaled ? share.sum * scale : share.sum;
      share.weighted = scaled ? share.weighted * scale : share.weighted;
      for (int offset = kTileSide / 2; offset > 0; offset /= 2) {
        share.sum += __shfl_xor_sync(kFullWarp, share.sum, offset);
        share.weighted += __shfl_xor_sync(kFullWarp, share.weighted, offset);
      }
      const int64_t place = place0 + y + kTileSide * i;
      if (x == 0 && place < args.rows) plan.share[slice * args.rows + place] = share;
    }
  }
}

// One thread per place.
template <class T>
__global__ void transition_losses_join_kernel(TransitionLossesPlan<T> plan) {
  using C = Compute<T>;
  const TransitionLossesArgs<T>& args = plan.args;
  for (int64_t place = global_thread(); place < args.rows; place += total_threads()) {
    const int64_t row = args.order[place], prev = args.prev[row], cur = args.cur[row];
    C log_prob = NAN, expectation = NAN;
    double log_normalizer = NAN;
    if (in_range(prev, args.nodes)) {
      double largest = -INFINITY, sum = 0, weighted = 0;
      for (int64_t slice = 0; slice < plan.slices; ++slice) {
        const double candidate = plan.share[slice * args.rows + place].largest;
        if (candidate > largest) largest = candidate;
      }
      for (int64_t slice = 0; slice < plan.slices; ++slice) {
        const SoftmaxShare share = plan.share[slice * args.rows + place];
        const double scale = share.largest == largest ? 1 : exp(share.largest - largest);
        sum += share.sum * scale;
        weighted += share.weighted * scale;
      }
      log_normalizer = largest + log(sum);
      expectation = static_cast<C>(weighted / sum);
      if (in_range(cur, args.nodes)) {
        log_prob = static_cast<C>(double(load(args.logits[prev * args.nodes + cur])) - log_normalizer);
      }
    }
    args.log_prob[row] = log_prob;
    args.expectation[row] = expectation;
    args.log_normalizer[row] = log_normalizer;
  }
}

template <class T>
struct TransitionLossesBackwardPlan {
  TransitionLossesBackwardArgs<T> args;
  double* center;             // [dim] mean of the codes
  Compute<T>* weighted_rows;  // [groups, dim] sum over a group's rows of ge_n (z_n - center)
  double* weight;             // [groups] sum over a group's rows of ge_n
  double* mean;               // [slices, groups, dim] sum over a slice's codes of p_gj (e_j - center)
  int64_t slices;             // of blocks of kSliceCodes
};

// Whether a group takes part in sums over the batch: it has rows, and their prev is in range.
template <class T>
__device__ inline bool takes_part(const TransitionLossesBackwardArgs<T>& args, int64_t group) {
  const TouchedGroups& groups = args.groups;
  return groups.offsets[group] < groups.offsets[group + 1] &&
         in_range(args.prev[groups.order[groups.offsets[group]]], args.nodes);
}

constexpr int kCenterFeatures = 32, kCenterShares = 8;
static_assert(kCenterFeatures * kCenterShares == kThreads);

// One block per 32 features, with 8 threads per feature.
template <class T>
__global__ void __launch_bounds__(kThreads)
    transition_losses_backward_center_kernel(TransitionLossesBackwardPlan<T> plan) {
  const TransitionLossesBackwardArgs<T>& args = plan.args;
  __shared__ double sums[kCenterShares][kCenterFeatures];
  const int x = threadIdx.x % kCenterFeatures, y = threadIdx.x / kCenterFeatures;
  for (int64_t d0 = int64_t(blockIdx.x) * kCenterFeatures; d0 < args.dim; d0 += int64_t(gridDim.x) * kCenterFeatures) {
    double sum = 0;
    for (int64_t node = y; node < args.nodes && d0 + x < args.dim; node += kCenterShares) {
      sum += double(load(args.codebook[node * args.dim + d0 + x]));
    }
    sums[y][x] = sum;
    __syncthreads();
    if (y == 0 && d0 + x < args.dim) {
      for (int share = 1; share < kCenterShares; ++share) sum += sums[share][x];
      plan.center[d0 + x] = sum / double(args.nodes);
    }
    __syncthreads();
  }
}

// One thread per group and feature.
template <class T>
__global__ void transition_losses_backward_weighted_rows_kernel(TransitionLossesBackwardPlan<T> plan) {
  const TransitionLossesBackwardArgs<T>& args = plan.args;
  for (int64_t i = global_thread(); i < args.groups.count * args.dim; i += total_threads()) {
    const int64_t group = i / args.dim, d = i % args.dim;
    double weighted_rows = 0, weight = 0;
    if (takes_part(args, group)) {
      for (int64_t place = args.groups.offsets[group]; place < args.groups.offsets[group + 1]; ++place) {
        const int64_t row = args.groups.order[place];
        const double grad = args.grad_expectation[row];
        weight += grad;
        weighted_rows += grad * (double(load(args.z[row * args.dim + d])) - plan.center[d]);
      }
    }
    plan.weighted_rows[i] = static_cast<Compute<T>>(weighted_rows);
    if (d == 0) plan.weight[group] = weight;
  }
}

// Returns the first group that begins at `place` or after it, or the number of groups if none does.
__device__ inline int64_t group_from(const TouchedGroups& groups, int64_t place) {
  int64_t low = 0, high = groups.count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (groups.offsets[middle] < place) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// One block per 64 codes and 64 places: it writes the gradients of the groups that begin in these places. Groups that
// begin after the last place are empty. Their zeros in a sparse gradient are written by the block whose places include
// the group's number.
// Budget: 128 registers.
template <class T>
__global__ void __launch_bounds__(kTileThreads)
    transition_losses_backward_logits_kernel(TransitionLossesBackwardPlan<T> plan) {
  using C = Compute<T>;
  constexpr int shares = kTileThreads / kTile;  // threads per code; they take turns at the groups
  const TransitionLossesBackwardArgs<T>& args = plan.args;
  const TouchedGroups& groups = args.groups;
  __shared__ union {
    DistanceTile<C> operands;
    C distances[kTile][kTile + 1];  // after the last use of the operands
  } tile;
  const int x = threadIdx.x % kTileSide, y = threadIdx.x / kTileSide;
  const int code = threadIdx.x % kTile, share = threadIdx.x / kTile;
  const int64_t place_tiles = (args.rows + kTile - 1) / kTile, code_tiles = (args.nodes + kTile - 1) / kTile;
  for (int64_t block = blockIdx.x; block < place_tiles * code_tiles; block += gridDim.x) {
    const int64_t begin = block % place_tiles * kTile, node0 = block / place_tiles * kTile, node = node0 + code;
    const int64_t first = group_from(groups, begin);
    const int64_t last = group_from(groups, begin + kTile < args.rows ? begin + kTile : args.rows);  // no empty ones
    const int64_t end = last > first ? groups.offsets[last] : begin;

    int64_t group = first + share;  // the thread's next group
    double gradient = 0;            // sum over its rows of ge_n d_nj, so far
    for (int64_t place0 = last > first ? groups.offsets[first] : begin; place0 < end; place0 += kTile) {
      C distance[kPerThread][kPerThread];
      distance_tile(args.z, groups.order, args.rows, place0, args.codebook, args.nodes, node0, args.dim, tile.operands,
                    distance);
      for (int i = 0; i < kPerThread; ++i) {
        for (int j = 0; j < kPerThread; ++j) tile.distances[y + kTileSide * i][x + kTileSide * j] = distance[i][j];
      }
      __syncthreads();
      for (; group < last && groups.offsets[group] < place0 + kTile; group += shares) {
        const int64_t from = groups.offsets[group], to = groups.offsets[group + 1];
        const int64_t tile_end = to < place0 + kTile ? to : place0 + kTile;
        for (int64_t place = from > place0 ? from : place0; place < tile_end; ++place) {
          gradient += double(args.grad_expectation[groups.order[place]]) * double(tile.distances[place - place0][code]);
        }
        if (to > place0 + kTile) break;  // the group continues in the next tile
        const int64_t prev = args.prev[groups.order[from]];
        const bool valid = in_range(prev, args.nodes);
        double hit_grad = 0;
        for (int64_t place = from; place < to; ++place) {
          const int64_t row = groups.order[place], cur = args.cur[row];
          const double grad = in_range(cur, args.nodes) ? double(args.grad_log_prob[row]) : NAN;
          gradient -= double(args.grad_expectation[row]) * double(args.expectation[row]) + grad;
          if (cur == node) hit_grad += grad;
        }
        if (node < args.nodes && (valid || args.sparse)) {
          const double p =
              valid
                  ? double(probability(args.logits[prev * args.nodes + node], args.log_normalizer[groups.order[from]]))
                  : NAN;
          args.grad_logits[groups.gradient_row(group, args.sparse) * args.nodes + node] =
              store<T>(p * gradient + hit_grad);
        }
        gradient = 0;
      }
      __syncthreads();
    }

    const int64_t list_end = begin + kTile < groups.count ? begin + kTile : groups.count;
    for (int64_t g = begin + share; args.sparse && g < list_end; g += shares) {
      if (groups.offsets[g] == args.rows && node < args.nodes) args.grad_logits[g * args.nodes + node] = store<T>(0.0);
    }
  }
}

// The matrix products below have 64 x 64 results per block, 4 x 4 per thread, and load this many terms at a time.
constexpr int kProductDepth = 32;
static_assert(kSliceCodes % kProductDepth == 0);

// The probability of a code in the row of a group; 0 if the group takes no part.
template <class T>
__device__ inline Compute<T> probability_of(const TransitionLossesBackwardArgs<T>& args, int64_t group, int64_t node) {
  if (group >= args.groups.count || node >= args.nodes || !takes_part(args, group)) return 0;
  const int64_t row = args.groups.order[args.groups.offsets[group]];
  return probability(args.logits[args.prev[row] * args.nodes + node], args.log_normalizer[row]);
}

// One block per 64 groups, 64 features and slice of the codes. Two blocks fill a multiprocessor: with three, ptxas
// spills.
// Budget: 128 registers.
template <class T>
__global__ void __launch_bounds__(kTileThreads, 2)
    transition_losses_backward_means_kernel(TransitionLossesBackwardPlan<T> plan) {
  using C = Compute<T>;
  const TransitionLossesBackwardArgs<T>& args = plan.args;
  __shared__ C p[kTile][kProductDepth + 1];      // [group][code]
  __shared__ C codes[kProductDepth][kTile + 1];  // [code][feature], minus the center
  const int x = threadIdx.x % kTileSide, y = threadIdx.x / kTileSide;
  const int64_t group_tiles = (args.groups.count + kTile - 1) / kTile, feature_tiles = (args.dim + kTile - 1) / kTile;
  const int64_t code_blocks = (args.nodes + kSliceCodes - 1) / kSliceCodes;
  for (int64_t block = blockIdx.x; block < group_tiles * feature_tiles * plan.slices; block += gridDim.x) {
    const int64_t group0 = block % group_tiles * kTile, slice = block / group_tiles / feature_tiles;
    const int64_t d0 = block / group_tiles % feature_tiles * kTile;
    double mean[kPerThread][kPerThread] = {};  // of groups y + 16 i and features x + 16 j
    for (int64_t b = code_blocks * slice / plan.slices; b < code_blocks * (slice + 1) / plan.slices; ++b) {
      C sum[kPerThread][kPerThread] = {};
      for (int64_t node0 = b * kSliceCodes; node0 < (b + 1) * kSliceCodes; node0 += kProductDepth) {
        for (int e = threadIdx.x; e < kTile * kProductDepth; e += kTileThreads) {
          p[e / kProductDepth][e % kProductDepth] =
              probability_of(args, group0 + e / kProductDepth, node0 + e % kProductDepth);
          const int64_t node = node0 + e / kTile, d = d0 + e % kTile;
          codes[e / kTile][e % kTile] =
              node < args.nodes && d < args.dim
                  ? static_cast<C>(double(load(args.codebook[node * args.dim + d])) - plan.center[d])
                  : C(0);
        }
        __syncthreads();
        for (int k = 0; k < kProductDepth; ++k) {
#pragma unroll
          for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
            for (int j = 0; j < kPerThread; ++j) {
              sum[i][j] = fused_multiply_add(p[y + kTileSide * i][k], codes[k][x + kTileSide * j], sum[i][j]);
            }
          }
        }
        __syncthreads();
      }
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
        for (int j = 0; j < kPerThread; ++j) mean[i][j] += double(sum[i][j]);
      }
    }
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) {
        const int64_t group = group0 + y + kTileSide * i, d = d0 + x + kTileSide * j;
        if (group < args.groups.count && d < args.dim) {
          plan.mean[(slice * args.groups.count + group) * args.dim + d] = mean[i][j];
        }
      }
    }
  }
}

// One block per 64 codes and 64 features. It passes over the groups. Two blocks per multiprocessor, as above.
// Budget: 128 registers.
template <class T>
__global__ void __launch_bounds__(kTileThreads, 2)
    transition_losses_backward_codebook_kernel(TransitionLossesBackwardPlan<T> plan) {
  using C = Compute<T>;
  const TransitionLossesBackwardArgs<T>& args = plan.args;
  __shared__ C p[kProductDepth][kTile + 1];              // [group][code]
  __shared__ C weighted_rows[kProductDepth][kTile + 1];  // [group][feature]
  __shared__ double code_weight[kTile];                  // sum over groups of p_gj weight_g
  const int x = threadIdx.x % kTileSide, y = threadIdx.x / kTileSide;
  const int64_t code_tiles = (args.nodes + kTile - 1) / kTile, feature_tiles = (args.dim + kTile - 1) / kTile;
  for (int64_t block = blockIdx.x; block < code_tiles * feature_tiles; block += gridDim.x) {
    const int64_t node0 = block / feature_tiles * kTile, d0 = block % feature_tiles * kTile;
    double total[kPerThread][kPerThread] = {};  // of codes y + 16 i and features x + 16 j
    double weight = 0;                          // of code threadIdx.x
    for (int64_t begin = 0; begin < args.groups.count; begin += kSliceCodes) {
      C sum[kPerThread][kPerThread] = {};
      for (int64_t group0 = begin; group0 < begin + kSliceCodes && group0 < args.groups.count;
           group0 += kProductDepth) {
        for (int e = threadIdx.x; e < kTile * kProductDepth; e += kTileThreads) {
          const int64_t group = group0 + e / kTile, d = d0 + e % kTile;
          p[e / kTile][e % kTile] = probability_of(args, group, node0 + e % kTile);
          weighted_rows[e / kTile][e % kTile] =
              group < args.groups.count && d < args.dim ? plan.weighted_rows[group * args.dim + d] : C(0);
        }
        __syncthreads();
        for (int k = 0; k < kProductDepth; ++k) {
#pragma unroll
          for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
            for (int j = 0; j < kPerThread; ++j) {
              sum[i][j] = fused_multiply_add(p[k][y + kTileSide * i], weighted_rows[k][x + kTileSide * j], sum[i][j]);
            }
          }
          if (threadIdx.x < kTile && group0 + k < args.groups.count) {
            weight += double(p[k][threadIdx.x]) * plan.weight[group0 + k];
          }
        }
        __syncthreads();
      }
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
        for (int j = 0; j < kPerThread; ++j) total[i][j] += double(sum[i][j]);
      }
    }
    if (threadIdx.x < kTile) code_weight[threadIdx.x] = weight;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) {
        const int64_t node = node0 + y + kTileSide * i, d = d0 + x + kTileSide * j;
        if (node >= args.nodes || d >= args.dim) continue;
        const double centered = double(load(args.codebook[node * args.dim + d])) - plan.center[d];
        args.grad_codebook[node * args.dim + d] =
            store<T>(2 * (centered * code_weight[y + kTileSide * i] - total[i][j]));
      }
    }
    __syncthreads();  // all threads have read code_weight
  }
}

// One thread per group and feature.
template <class T>
__global__ void transition_losses_backward_z_kernel(TransitionLossesBackwardPlan<T> plan) {
  const TransitionLossesBackwardArgs<T>& args = plan.args;
  for (int64_t i = global_thread(); i < args.groups.count * args.dim; i += total_threads()) {
    const int64_t group = i / args.dim, d = i % args.dim;
    double mean = 0;
    for (int64_t slice = 0; slice < plan.slices; ++slice) mean += plan.mean[slice * args.groups.count * args.dim + i];
    const bool valid = takes_part(args, group);
    for (int64_t place = args.groups.offsets[group]; place < args.groups.offsets[group + 1]; ++place) {
      const int64_t row = args.groups.order[place];
      const double weight = valid ? 2 * double(args.grad_expectation[row]) : NAN;
      const double z = double(load(args.z[row * args.dim + d])) - plan.center[d];
      args.grad_z[row * args.dim + d] = store<T>(weight * (z - mean));
    }
  }
}

}  // namespace somvae
