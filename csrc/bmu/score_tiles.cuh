// Computes scores of a tile of rows with tiles of codes from differences: the work of one block of a search.
//
// Features arrive in shared memory by asynchronous copies, one stage ahead of the arithmetic. Each thread keeps a tile
// of scores in registers.
#pragma once
#include <cstdint>

#include "bmu/bmu.h"
#include "cuda/feature_stage.cuh"
#include "cuda/launch.cuh"
#include "device.h"

namespace somvae {

// 8 x 16 threads; thread (x, y) has rows y + 8 i and codes x + 16 j.
constexpr int kScoreSide = 16, kScoreHeight = 8;
constexpr int kScoreThreads = kScoreSide * kScoreHeight;

// float32 scores may round in any way (score_limit.h). float64 scores round as bmu.h defines.
__device__ inline float add_square(float sum, float t) { return fmaf(t, t, sum); }
__device__ inline double add_square(double sum, double t) { return __dadd_rn(sum, __dmul_rn(t, t)); }

template <class S, int rows, int codes>
struct ScoreTiles {
  static constexpr int kRows = rows, kCodes = codes;
  static constexpr int kRowsPerThread = rows / kScoreHeight, kCodesPerThread = codes / kScoreSide;
  using Stage = FeatureStage<S>;

  Stage row_stage[2][rows], code_stage[2][codes];

  // Calls take(tile, scores) for tiles [first, last) of codes. Row i of the tile of rows is row row_of(i), or absent if
  // row_of(i) is negative. Scores of codes past the end are undefined. `vectors` is chunks_are_aligned of rows and
  // codes.
  template <class T, class RowOf, class Take>
  __device__ inline void pass(const BmuArgs<T>& args, bool vectors, RowOf row_of, int first, int last, Take take) {
    const int x = threadIdx.x % kScoreSide, y = threadIdx.x / kScoreSide;
    const int stages = args.dim > 0 ? static_cast<int>((args.dim + Stage::kDepth - 1) / Stage::kDepth) : 1;

    // The stages of all tiles of codes form one sequence, so that copies continue across tiles.
    int copied_tile = first, copied_stage = 0;
    const auto copy_next = [&](int buffer) {
      if (copied_tile < last) {
        const int64_t d0 = int64_t(copied_stage) * Stage::kDepth, code0 = int64_t(copied_tile) * codes;
        copy_features<rows, kScoreThreads>(row_stage[buffer], args.z, d0, args.dim, vectors, row_of);
        copy_features<codes, kScoreThreads>(code_stage[buffer], args.codebook, d0, args.dim, vectors, [&](int item) {
          return code0 + item < args.codes ? code0 + item : int64_t{-1};
        });
        if (++copied_stage == stages) {
          copied_stage = 0;
          ++copied_tile;
        }
      }
      commit_copies();
    };

    int buffer = 0;
    copy_next(buffer);
    for (int tile = first; tile < last; ++tile) {
      S score[kRowsPerThread][kCodesPerThread] = {};
      for (int stage = 0; stage < stages; ++stage) {
        await_copies<0>();
        __syncthreads();  // all threads have copied this stage, and none still reads the other
        copy_next(buffer ^ 1);
#pragma unroll
        for (int chunk = 0; chunk < Stage::kChunks; ++chunk) {
          FeatureChunk<S> code[kCodesPerThread];
          for (int j = 0; j < kCodesPerThread; ++j) code[j] = code_stage[buffer][x + kScoreSide * j].chunk[chunk];
          for (int i = 0; i < kRowsPerThread; ++i) {
            const FeatureChunk<S> row = row_stage[buffer][y + kScoreHeight * i].chunk[chunk];
            for (int e = 0; e < FeatureChunk<S>::kSize; ++e) {
              for (int j = 0; j < kCodesPerThread; ++j) {
                score[i][j] = add_square(score[i][j], row.feature[e] - code[j].feature[e]);
              }
            }
          }
        }
        buffer ^= 1;
      }
      take(tile, score);
    }
    await_copies<0>();
    __syncthreads();  // before the next copies
  }
};

}  // namespace somvae
