// Chooses the winners among the listed candidates of each row by exact scores (bmu.h). Leaves rows with more candidates
// than a list holds to exact_search_kernel.
#pragma once
#include <cmath>
#include <cstdint>

#include "bmu/best_codes.h"
#include "bmu/bmu.h"
#include "bmu/candidate_keys.cuh"
#include "bmu/score_limit.h"
#include "bmu/score_tiles.cuh"
#include "cuda/feature_stage.cuh"
#include "cuda/launch.cuh"

namespace somvae {

template <class T>
struct Decide {
  BmuArgs<T> args;
  bool vectors;  // chunks_are_aligned
  ScoreLimit<float> limits;
  CandidateLists lists;
  SearchCounters* counters;
};

constexpr int kDecidedRows = 64;

// One thread per row. The features of the row and of a candidate pass through shared memory, one stage ahead of the
// arithmetic, so that warps read whole cache lines.
// Budget: 96 registers.
template <class T, int k>
__global__ void __launch_bounds__(kDecidedRows) decide_kernel(Decide<T> decide) {
  using Stage = FeatureStage<Compute<T>>;
  __shared__ Stage rows[2][kDecidedRows], codes[2][kDecidedRows];
  __shared__ int64_t index[kDecidedRows];
  const BmuArgs<T>& args = decide.args;
  const int self = threadIdx.x;
  const int stages = static_cast<int>((args.dim + Stage::kDepth - 1) / Stage::kDepth);

  for (int64_t row0 = int64_t(blockIdx.x) * kDecidedRows; row0 < args.rows; row0 += int64_t(gridDim.x) * kDecidedRows) {
    const int64_t row = row0 + self;
    const Key* list = decide.lists.key + row * kMostCandidates;
    int count = row < args.rows ? decide.lists.count[row] : 0;
    const bool too_many = count > kMostCandidates;
    if (too_many) {
      decide.lists.dense[atomicAdd(decide.lists.dense_count, Key{1})] = row;
      atomicAdd(&decide.counters->dense, Key{1});
      count = 0;
    }
    // The final limit: some candidates were listed before it was reached.
    Key smallest[k];
    for (int n = 0; n < k; ++n) smallest[n] = kNoKey;
    for (int c = 0; c < count; ++c) {
      Key key = list[c];
      for (int n = 0; n < k; ++n) {
        const Key larger = max(smallest[n], key);
        smallest[n] = min(smallest[n], key);
        key = larger;
      }
    }
    const float limit = decide.limits(key_score(smallest[k - 1]));

    BestCodes<double, int64_t, k> best;
    best.reset();
    for (int c = 0;; ++c) {
      while (c < count && !(key_score(list[c]) <= limit)) ++c;
      if (!__syncthreads_or(c < count)) break;
      index[self] = c < count ? key_index(list[c]) : -1;
      __syncthreads();
      const auto copy = [&](int stage) {
        if (stage < stages) {
          const int64_t d0 = int64_t(stage) * Stage::kDepth;
          copy_features<kDecidedRows, kDecidedRows>(
              rows[stage % 2], args.z, d0, args.dim, decide.vectors,
              [&](int item) { return index[item] >= 0 ? row0 + item : int64_t{-1}; });
          copy_features<kDecidedRows, kDecidedRows>(codes[stage % 2], args.codebook, d0, args.dim, decide.vectors,
                                                    [&](int item) { return index[item]; });
        }
        commit_copies();
      };
      copy(0);
      double score = 0;
      for (int stage = 0; stage < stages; ++stage) {
        await_copies<0>();
        __syncthreads();  // all threads have copied this stage, and none still reads the other
        copy(stage + 1);
        for (int chunk = 0; chunk < Stage::kChunks; ++chunk) {
          const auto features = rows[stage % 2][self].chunk[chunk], code = codes[stage % 2][self].chunk[chunk];
          for (int e = 0; e < features.kSize; ++e) {
            score = add_square(score, double(features.feature[e]) - double(code.feature[e]));
          }
        }
      }
      await_copies<0>();
      if (c < count) best.offer(score, index[self]);
    }
    if (row >= args.rows || too_many) continue;
    for (int n = 0; n < k; ++n) {
      args.distance[row * k + n] = static_cast<Compute<T>>(best.score[n]);
      args.index[row * k + n] = best.index[n];
    }
  }
}

}  // namespace somvae
