// CUDA search by the tensor cores that returns what exact_search_kernel returns, bit for bit.
//
// 1. Approximate scores, a(row, code) = |e'|^2 - 2 z'.e', which differ from the true distance T by |z'|^2, the same for
//    all codes, and an error of at most beta. For float32, z' = z - mean and e' = e - mean, so that an offset that data
//    and codes share costs nothing, and each product is three of TF32 (hi hi + hi lo + lo hi). For 16-bit types, whose
//    products are exact, z' = z and e' = e: centred numbers would no longer be of the type.
// 2. Per row, the k codes with the smallest a, and the next smallest a, m.
// 3. The candidates' scores s as bmu.h defines them. If m exceeds the candidates' a by more than `gap`, no other code
//    can have a score as small as theirs, and the row is done.
// 4. The other rows (ties, near ties, NaN, infinities, overflow) are searched again by exact_search_kernel.
//
// The bound. u = 2^-24, R = |z'|, E = max |e'| over the codes, Q = (R + E)^2, S = sum_d |z'_d e'_d| <= R E <= Q / 4,
// D features. To first order; the constant below has more than enough room for the rest.
//   centring   z'_d and e'_d are rounded differences: |T - |z' - e'|^2| <= 2 u Q
//   |e'|^2     summed in float64, rounded once: u Q
//   splitting  hi = x cut off to 11 bits and lo = x - hi cut off to 11 bits leave out 2^-20 |x|, and the product lo lo
//              is left out, as |lo| < 2^-10 |x|: 3 * 2^-20 S = 48 u S in the dot product
//   tensor     NVIDIA documents no rounding for mma. Assumed: an instruction adds its 8 (TF32) or 16 products, exact,
//   cores      to the sum, in any order or all aligned to the largest, each of these 9 or 17 terms at a loss of no more
//              than 2^-22 of the largest intermediate magnitude (truncation to 24 bits is 2^-23, and published
//              measurements find no worse). A stage makes 6 instructions in TF32, 2 with 16-bit types, from a fresh
//              sum: 6 * 9 * 4 u S = 216 u S, or 2 * 17 * 4 u S = 136 u S
//   stages     their sums are added with rounding to nearest: (D / 16 + 1) u S
//   a          one more rounding: u Q
// The dot product counts twice, S <= Q / 4: beta <= (4 + (265 + D / 16) / 2) u Q < (137 + D / 32) u Q, and with room
//   beta = (150 + D / 16) u Q + D 2^-120,
// whose last term covers subnormal floats that are flushed to zero. (Those of float16 are assumed not to be.)
// A score s has D + 2 roundings in sequence: |s - T| <= g T, g = (D + 2) u. Let c be a candidate, j no candidate, and
// m - a_c > 2 beta + delta. Then T_j > T_c + delta, and s_j >= (1 - g) T_j > (1 + g) T_c >= s_c if delta >= 2 g T_c /
// (1 - g), for which 2.1 g s_c suffices up to D = 65536. A finite row scores a code with a NaN or infinity as NaN or
// infinity, which is worse than a finite candidate; such codes have no finite a, and no part in E.
#pragma once
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "bmu/bmu.h"
#include "bmu/bmu_policy.h"
#include "bmu/candidate_keys.cuh"
#include "cuda/async_copy.cuh"
#include "cuda/feature_stage.cuh"
#include "cuda/fused_multiply_add.cuh"
#include "cuda/launch.cuh"
#include "cuda/reduce.cuh"
#include "cuda/tensor_core.cuh"

namespace somvae {

constexpr int kTensorCoreThreads = 256;  // eight warps, each with 32 rows and 64 codes of the tile
constexpr int kStageChunks = 4;          // of 16 bytes, per item and stage
template <class T>
constexpr int kStageFeatures = kStageChunks * 16 / int(sizeof(T));

// dim up to a whole number of stages.
template <class T>
SOMVAE_HOST_DEVICE inline int64_t padded_dim(int64_t dim) {
  return (dim + kStageFeatures<T> - 1) / kStageFeatures<T> * kStageFeatures<T>;
}

template <class T>
struct TensorCoreSearch {
  BmuArgs<T> args;
  bool vectors;            // rows, and for 16-bit types codes, may be copied 16 bytes at a time
  Key* keys;               // [rows, k + 1] the smallest approximate scores
  Key* uncertain_count;    // [1]
  int64_t* uncertain;      // [rows] rows to be searched again, in any order
  uint32_t* largest_norm;  // [1] max |e'|^2, the bits of a float
  float* norm;             // [units] |e'|^2
  float* mean;             // [padded dim], zeros past the end; float32 only
  float* centred;          // [units, padded dim] e', zeros past the end; float32 only
};

SOMVAE_HOST_DEVICE inline bool is_finite(float value) { return fabsf(value) < INFINITY; }

// Nothing found yet.
template <int k>
__global__ void clear_tensor_core_search_kernel(Key* keys, int64_t rows, Key* uncertain_count, uint32_t* largest_norm) {
  for (int64_t i = global_thread(); i < rows * (k + 1); i += total_threads()) keys[i] = kNoKey;
  if (global_thread() == 0) {
    *uncertain_count = 0;
    *largest_norm = 0;
  }
}

// The mean of up to 256 codes' finite features: the bound holds for any `mean`, and is good for one amid the codes.
// A block has 32 features, eight threads for each.
constexpr int kMeanFeatures = 32, kMeanGroups = 8, kMeanCodes = 256;

template <class T>
__global__ void __launch_bounds__(kMeanFeatures* kMeanGroups) codebook_mean_kernel(TensorCoreSearch<T> search) {
  __shared__ double sums[kMeanGroups][kMeanFeatures];
  __shared__ int counts[kMeanGroups][kMeanFeatures];
  const BmuArgs<T>& args = search.args;
  const int x = threadIdx.x % kMeanFeatures, y = threadIdx.x / kMeanFeatures;
  const int64_t padded = padded_dim<T>(args.dim);
  const int64_t codes = args.units < kMeanCodes ? args.units : kMeanCodes;
  for (int64_t d0 = int64_t(blockIdx.x) * kMeanFeatures; d0 < padded; d0 += int64_t(gridDim.x) * kMeanFeatures) {
    const int64_t d = d0 + x;
    double sum = 0;
    int count = 0;
    for (int64_t i = y; i < codes && d < args.dim; i += kMeanGroups) {
      const float value = load(args.codebook[i * args.units / codes * args.dim + d]);
      if (!is_finite(value)) continue;
      sum += value;
      ++count;
    }
    sums[y][x] = sum;
    counts[y][x] = count;
    __syncthreads();
    if (y == 0) {
      for (int group = 1; group < kMeanGroups; ++group) {
        sum += sums[group][x];
        count += counts[group][x];
      }
      if (d < padded) search.mean[d] = count > 0 ? static_cast<float>(sum / count) : 0.0f;
    }
    __syncthreads();
  }
}

// |e'|^2 of every code, their maximum, and for float32 e' itself. A block per code.
constexpr int kNormThreads = 64;

template <class T>
__global__ void __launch_bounds__(kNormThreads) codebook_norm_kernel(TensorCoreSearch<T> search) {
  __shared__ double scratch[kNormThreads / 32];
  const BmuArgs<T>& args = search.args;
  const int64_t padded = padded_dim<T>(args.dim);
  for (int64_t unit = blockIdx.x; unit < args.units; unit += gridDim.x) {
    double sum = 0;
    bool all_finite = true;
    for (int64_t d = threadIdx.x; d < padded; d += kNormThreads) {
      float value = d < args.dim ? load(args.codebook[unit * args.dim + d]) : 0.0f;
      all_finite = all_finite && is_finite(value);
      if constexpr (std::is_same_v<T, float>) {
        value -= search.mean[d];
        search.centred[unit * padded + d] = value;
      }
      sum += double(value) * value;
    }
    sum = block_reduce<Sum, kNormThreads>(sum, scratch);
    all_finite = __syncthreads_and(all_finite);
    if (threadIdx.x == 0) {
      const float norm = static_cast<float>(sum);
      search.norm[unit] = norm;
      if (all_finite) atomicMax(search.largest_norm, float_to_bits(norm));
    }
  }
}

// The k smallest approximate scores of a row with their codes, and the next smallest score. NaN is never among them.
template <int k>
struct SmallestApproximations {
  float value[k + 1];
  int index[k];

  __device__ inline void reset() {
    for (int n = 0; n <= k; ++n) value[n] = INFINITY;
    for (int n = 0; n < k; ++n) index[n] = kNoIndex;
  }

  __device__ inline void offer(float a, int i) {
#pragma unroll
    for (int n = 0; n < k; ++n) {
      const bool smaller = a < value[n];
      const float rest = smaller ? value[n] : a;
      const int rest_index = smaller ? index[n] : i;
      value[n] = smaller ? a : value[n];
      index[n] = smaller ? i : index[n];
      a = rest;
      i = rest_index;
    }
    value[k] = fminf(value[k], a);
  }

  __device__ inline void offer(const SmallestApproximations& other) {
    for (int n = 0; n < k; ++n) offer(other.value[n], other.index[n]);
    value[k] = fminf(value[k], other.value[k]);
  }

  // The next score's key has an index past all codes, so that it does not come before that of a code.
  __device__ inline void insert_into(Key* slots) const {
    for (int n = 0; n <= k; ++n) {
      if (value[n] < INFINITY) insert_key<k + 1>(slots, signed_key(value[n], n < k ? index[n] : kNoIndex));
    }
  }

 private:
  static constexpr int kNoIndex = 2147483647;
};

// The words of a chunk that one thread holds, as the tensor cores take them.
__device__ inline void words_of(uint4 chunk, uint32_t (&word)[4]) {
  word[0] = chunk.x;
  word[1] = chunk.y;
  word[2] = chunk.z;
  word[3] = chunk.w;
}

// value = hi + lo, up to 2^-20 of it. Cutting bits off is cheaper than rounding, which takes three instructions.
__device__ inline void split(float value, uint32_t& hi, uint32_t& lo) {
  const float part = truncate_to_tf32(value);
  hi = float_to_bits(part);
  lo = float_to_bits(truncate_to_tf32(value - part));
}

// A stage of a tile: 64 bytes of each row and code, in chunks of 16. Eight threads read at a time, either the chunks of
// two consecutive items or the same chunk of eight; swapped about like this, no two of them are in the same banks.
__device__ inline int place_of_chunk(int item, int chunk) { return chunk ^ (item / 2 % kStageChunks); }

struct TensorCoreStage {
  uint4 rows[kTensorCoreTile][kStageChunks];
  uint4 codes[kTensorCoreTile][kStageChunks];
};

// Begins to copy features [d0, d0 + kStageFeatures) of 128 items; item i is row first + i of matrix [count, dim].
template <class T>
__device__ inline void copy_words(uint4 (&to)[kTensorCoreTile][kStageChunks], const T* matrix, int64_t first,
                                  int64_t count, int64_t d0, int64_t dim, bool vectors) {
  constexpr int kSize = 16 / int(sizeof(T));
  const int chunk = threadIdx.x % kStageChunks;
  const int64_t d = d0 + chunk * kSize;
#pragma unroll 1
  for (int item = threadIdx.x / kStageChunks; item < kTensorCoreTile; item += kTensorCoreThreads / kStageChunks) {
    const bool present = first + item < count;
    const T* from = matrix + (present ? (first + item) * dim : 0);
    uint4& place = to[item][place_of_chunk(item, chunk)];
    if (vectors) {
      const bool inside = present && d < dim;
      async_copy<16>(&place, inside ? from + d : matrix, inside);
    } else if constexpr (sizeof(T) == 4) {
      for (int e = 0; e < kSize; ++e) {
        const bool inside = present && d + e < dim;
        async_copy<4>(reinterpret_cast<T*>(&place) + e, inside ? from + d + e : matrix, inside);
      }
    } else {  // rows may begin at any even address
      uint32_t word[4];
      for (int w = 0; w < 4; ++w) {
        const uint32_t low = present && d + 2 * w < dim ? from[d + 2 * w].bits : 0;
        const uint32_t high = present && d + 2 * w + 1 < dim ? from[d + 2 * w + 1].bits : 0;
        word[w] = high << 16 | low;
      }
      place = make_uint4(word[0], word[1], word[2], word[3]);
    }
  }
}

// Steps 1 and 2. A block owns 128 rows and passes over a slice of the codebook.
template <class T, int k>
__global__ void __launch_bounds__(kTensorCoreThreads) tensor_core_search_kernel(TensorCoreSearch<T> search) {
  constexpr bool kSplit = std::is_same_v<T, float>;  // into hi and lo
  constexpr int kBuffers = kSplit ? 2 : 3;           // what fits into 48 KiB with the mean
  constexpr int kRowBlocks = 2, kCodeBlocks = 8;     // of 16 rows and 8 codes, per warp
  constexpr int kHalves = kSplit ? 2 : 1;            // hi and lo
  __shared__ TensorCoreStage stages[kBuffers];
  __shared__ uint4 means[kSplit ? kBuffers : 1][kStageChunks];

  const BmuArgs<T>& args = search.args;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int group = lane / 4, member = lane % 4;
  const int row_in_tile = warp / 2 * 32 + group, code_in_tile = warp % 2 * 64 + group;
  const int64_t padded = padded_dim<T>(args.dim), stage_count = padded / kStageFeatures<T>;
  const int64_t code_tiles = (args.units + kTensorCoreTile - 1) / kTensorCoreTile;
  const int64_t first_tile = code_tiles * blockIdx.y / gridDim.y;
  const int64_t last_tile = code_tiles * (blockIdx.y + 1) / gridDim.y;

  for (int64_t row0 = int64_t(blockIdx.x) * kTensorCoreTile; row0 < args.rows;
       row0 += int64_t(gridDim.x) * kTensorCoreTile) {
    SmallestApproximations<k> best[kRowBlocks][2];  // of rows `group` and `group + 8` of each block
    for (int m = 0; m < kRowBlocks; ++m) {
      for (int half = 0; half < 2; ++half) best[m][half].reset();
    }

    int64_t copied_tile = first_tile, copied_stage = 0;
    int copied_buffer = 0;
    const auto copy_next = [&] {
      if (copied_tile < last_tile) {
        TensorCoreStage& to = stages[copied_buffer];
        const int64_t d0 = copied_stage * kStageFeatures<T>, unit0 = copied_tile * kTensorCoreTile;
        copy_words(to.rows, args.z, row0, args.rows, d0, args.dim, search.vectors);
        if constexpr (kSplit) {
          copy_words(to.codes, search.centred, unit0, args.units, d0, padded, true);
          if (threadIdx.x < kStageChunks) {
            async_copy<16>(&means[copied_buffer][threadIdx.x], search.mean + d0 + 4 * threadIdx.x, true);
          }
        } else {
          copy_words(to.codes, args.codebook, unit0, args.units, d0, args.dim, search.vectors);
        }
        copied_buffer = copied_buffer + 1 < kBuffers ? copied_buffer + 1 : 0;
        if (++copied_stage == stage_count) {
          copied_stage = 0;
          ++copied_tile;
        }
      }
      commit_copies();
    };

    for (int ahead = 0; ahead < kBuffers - 1; ++ahead) copy_next();
    int buffer = 0;
    for (int64_t tile = first_tile; tile < last_tile; ++tile) {
      float dot[kRowBlocks][kCodeBlocks][4] = {};
      for (int64_t stage = 0; stage < stage_count; ++stage) {
        await_copies<kBuffers - 2>();
        __syncthreads();  // all have copied this stage, and none still reads the one before
        copy_next();

        const TensorCoreStage& from = stages[buffer];
        // a[m][part][step] and b[part][step]: the operands of the stage's two instructions.
        uint32_t a[kRowBlocks][kHalves][2][4];
        for (int m = 0; m < kRowBlocks; ++m) {
          const int item = row_in_tile + 16 * m;
          if constexpr (kSplit) {
            uint32_t mean[4], word[4];
            words_of(means[buffer][member], mean);
            for (int half = 0; half < 2; ++half) {
              words_of(from.rows[item + 8 * half][place_of_chunk(group, member)], word);
              for (int w = 0; w < 4; ++w) {
                const float centred = bits_to_float(word[w]) - bits_to_float(mean[w]);
                split(centred, a[m][0][w / 2][half + w % 2 * 2], a[m][1][w / 2][half + w % 2 * 2]);
              }
            }
          } else {
            const int mine = item - group + lane % 16;
            for (int step = 0; step < 2; ++step) {
              load_matrices(a[m][0][step], &from.rows[mine][place_of_chunk(lane % 8, 2 * step + lane / 16)]);
            }
          }
        }
#pragma unroll
        for (int n = 0; n < kCodeBlocks; ++n) {
          const int item = code_in_tile + 8 * n;
          uint32_t word[4], b[kHalves][2][2];
          if constexpr (kSplit) {
            words_of(from.codes[item][place_of_chunk(group, member)], word);
            for (int w = 0; w < 4; ++w) split(bits_to_float(word[w]), b[0][w / 2][w % 2], b[1][w / 2][w % 2]);
          } else {
            load_matrices(word, &from.codes[item - group + lane % 8][place_of_chunk(lane % 8, lane / 8)]);
            for (int w = 0; w < 4; ++w) b[0][w / 2][w % 2] = word[w];
          }
          // A stage's sum begins afresh, which keeps the tensor cores' error from growing with the features.
          float sum[kRowBlocks][4] = {};
          for (int step = 0; step < 2; ++step) {
            for (int m = 0; m < kRowBlocks; ++m) {
              if constexpr (kSplit) {
                multiply_accumulate<T>(sum[m], a[m][0][step], b[1][step]);
                multiply_accumulate<T>(sum[m], a[m][1][step], b[0][step]);
              }
              multiply_accumulate<T>(sum[m], a[m][0][step], b[0][step]);
            }
          }
          for (int m = 0; m < kRowBlocks; ++m) {
            for (int i = 0; i < 4; ++i) dot[m][n][i] += sum[m][i];
          }
        }
        buffer = buffer + 1 < kBuffers ? buffer + 1 : 0;
      }
      for (int n = 0; n < kCodeBlocks; ++n) {
        for (int column = 0; column < 2; ++column) {
          const int64_t unit = tile * kTensorCoreTile + code_in_tile - group + 8 * n + 2 * member + column;
          const float norm = unit < args.units ? search.norm[unit] : INFINITY;
          for (int m = 0; m < kRowBlocks; ++m) {
            for (int half = 0; half < 2; ++half) {
              best[m][half].offer(fmaf(-2.0f, dot[m][n][2 * half + column], norm), static_cast<int>(unit));
            }
          }
        }
      }
    }
    await_copies<0>();
    __syncthreads();  // before the next rows' copies

    // The four members of a group have the same rows.
    for (int m = 0; m < kRowBlocks; ++m) {
      for (int half = 0; half < 2; ++half) {
        SmallestApproximations<k>& mine = best[m][half];
        for (int offset = 1; offset < 4; offset *= 2) {
          SmallestApproximations<k> other;
          for (int n = 0; n <= k; ++n) other.value[n] = __shfl_xor_sync(kFullWarp, mine.value[n], offset);
          for (int n = 0; n < k; ++n) other.index[n] = __shfl_xor_sync(kFullWarp, mine.index[n], offset);
          mine.offer(other);
        }
        const int64_t row = row0 + row_in_tile + 16 * m + 8 * half;
        if (member == 0 && row < args.rows) mine.insert_into(search.keys + row * (k + 1));
      }
    }
  }
}

// Steps 3 and 4: a thread per row writes its result, or appends it to `uncertain` and clears its keys.
constexpr int kCertifyRows = 128;

template <class T, int k>
__global__ void __launch_bounds__(kCertifyRows) certify_kernel(TensorCoreSearch<T> search) {
  using Stage = FeatureStage<float>;
  __shared__ Stage rows[kCertifyRows], codes[k][kCertifyRows];
  __shared__ int64_t candidates[k][kCertifyRows];
  const BmuArgs<T>& args = search.args;
  const int self = threadIdx.x;

  for (int64_t row0 = int64_t(blockIdx.x) * kCertifyRows; row0 < args.rows; row0 += int64_t(gridDim.x) * kCertifyRows) {
    const int64_t row = row0 + self;
    Key key[k + 1];
    for (int n = 0; n <= k; ++n) key[n] = row < args.rows ? search.keys[row * (k + 1) + n] : kNoKey;
    for (int n = 0; n < k; ++n) candidates[n][self] = key[n] == kNoKey ? -1 : key_index(key[n]);
    __syncthreads();

    float score[k] = {}, row_norm = 0;
    for (int64_t d0 = 0; d0 < args.dim; d0 += Stage::kDepth) {
      copy_features<kCertifyRows, kCertifyRows>(rows, args.z, d0, args.dim, search.vectors, [&](int item) {
        return row0 + item < args.rows ? row0 + item : int64_t{-1};
      });
      for (int n = 0; n < k; ++n) {
        copy_features<kCertifyRows, kCertifyRows>(codes[n], args.codebook, d0, args.dim, search.vectors,
                                                  [&](int item) { return candidates[n][item]; });
      }
      commit_copies();
      await_copies<0>();
      __syncthreads();
      for (int chunk = 0; chunk < Stage::kChunks; ++chunk) {
        const FeatureChunk<float> features = rows[self].chunk[chunk];
        for (int n = 0; n < k; ++n) {
          const FeatureChunk<float> code = codes[n][self].chunk[chunk];
          for (int e = 0; e < FeatureChunk<float>::kSize; ++e) {
            const float difference = features.feature[e] - code.feature[e];
            score[n] = fmaf(difference, difference, score[n]);
          }
        }
        for (int e = 0; e < FeatureChunk<float>::kSize; ++e) {
          float centred = features.feature[e];
          if constexpr (std::is_same_v<T, float>) {
            const int64_t d = d0 + chunk * FeatureChunk<float>::kSize + e;
            centred -= d < args.dim ? search.mean[d] : 0.0f;
          }
          row_norm = fmaf(centred, centred, row_norm);
        }
      }
      __syncthreads();
    }
    if (row >= args.rows) continue;

    // The comment above has the bound; the factors 1.01 are for the roundings of the bound itself.
    constexpr float u = 0x1p-24f;
    const float dim = static_cast<float>(args.dim);
    const float norms = sqrtf(row_norm * (1.0f + 0x1p-22f * dim)) + sqrtf(bits_to_float(*search.largest_norm));
    const float q = norms * norms;
    const float beta = 1.01f * ((150.0f + dim / 16.0f) * u * q + dim * 0x1p-120f);
    float worst = score[0];
    bool certain = key[k - 1] != kNoKey && is_finite(4.0f * q);  // no approximate score has overflowed
    for (int n = 0; n < k; ++n) {
      certain = certain && is_finite(score[n]);
      worst = score[n] > worst ? score[n] : worst;
    }
    const float gap = 1.01f * (2.0f * beta + 2.1f * (dim + 2.0f) * u * worst);
    const float next = key[k] == kNoKey ? INFINITY : signed_value(key[k]);
    certain = certain && is_finite(gap) && next - signed_value(key[k - 1]) > gap;
    if (!certain) {
      for (int n = 0; n <= k; ++n) search.keys[row * (k + 1) + n] = kNoKey;
      search.uncertain[atomicAdd(search.uncertain_count, Key{1})] = row;
      continue;
    }
    bool swap = false;  // the approximate order of the two candidates is not the scores'
    if constexpr (k == 2) {
      swap = score[1] < score[0] || (score[1] == score[0] && key_index(key[1]) < key_index(key[0]));
    }
    for (int n = 0; n < k; ++n) {
      const int from = swap ? k - 1 - n : n;
      args.distance[row * k + n] = from == 0 ? score[0] : score[k - 1];
      args.index[row * k + n] = from == 0 ? key_index(key[0]) : key_index(key[k - 1]);
    }
  }
}

}  // namespace somvae
