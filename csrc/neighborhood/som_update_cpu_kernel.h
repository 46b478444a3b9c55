// CPU weighted sums of rows, in double. Keeps the sums of a few targets x a few vectors of features in registers, so
// that each value is loaded once for all of these targets. Compiled once per instruction level by som_update_cpu.cpp.

#include "cpu/vector.h"

#include "cpu/scratch.h"

using Doubles = Simd<double>::Vector;
constexpr int kDoubles = Simd<double>::lanes;
constexpr int kSumVectors = 3;
// The sums (targets x 3 vectors), 3 vectors of values and a weight fit in 32 or 16 registers.
constexpr int kSumTargets = SIMD_BYTES == 64 ? 8 : 4;

// The weights of a group of targets. An incomplete group repeats its last target.
struct TargetWeights {
  const double* row[kSumTargets];
  int64_t count;        // of targets
  int64_t first, last;  // outside this range all weights are zero
};

// Groups the targets whose weights begin at weights, weights + stride and so on into target_groups(targets) groups.
inline void group_targets(const double* weights, int64_t stride, int64_t targets, int64_t sources,
                          TargetWeights* groups) {
  for (int64_t begin = 0; begin < targets; begin += kSumTargets) {
    TargetWeights& group = *groups++;
    group.count = std::min<int64_t>(kSumTargets, targets - begin);
    group.first = sources;
    group.last = 0;
    for (int t = 0; t < kSumTargets; ++t) {
      const double* const row = weights + (begin + std::min<int64_t>(t, group.count - 1)) * stride;
      group.row[t] = row;
      int64_t first = 0, last = sources;
      while (first < group.first && row[first] == 0) ++first;
      while (last > group.last && row[last - 1] == 0) --last;
      group.first = first;
      group.last = last;
    }
  }
}

inline int64_t target_groups(int64_t targets) { return (targets + kSumTargets - 1) / kSumTargets; }

inline int64_t whole_vectors(int64_t features) { return (features + kDoubles - 1) / kDoubles * kDoubles; }

inline bool all_zero(const Doubles& values) {
  for (int i = 0; i < kDoubles; ++i) {
    if (values[i] != 0) return false;
  }
  return true;
}

// Packs rows of n features in double, `pitch` = whole_vectors(n) apart and padded with zeros. Returns whether all
// values are finite.
template <class T>
bool pack_values(const T* from, int64_t stride, int64_t rows, int64_t n, int64_t pitch, double* to) {
  typedef T Values __attribute__((vector_size(kDoubles * sizeof(T))));
  Doubles check = {};
  for (int64_t row = 0; row < rows; ++row, from += stride, to += pitch) {
    __builtin_prefetch(from + rows * stride);  // the rows to pack next
    for (int64_t d = 0; d < pitch; d += kDoubles) {
      Values values = {};
      if (d + kDoubles <= n) {
        __builtin_memcpy(&values, from + d, sizeof values);
      } else {
        for (int64_t i = 0; d + i < n; ++i) values[i] = from[d + i];
      }
      const Doubles wide = __builtin_convertvector(values, Doubles);
      check += wide - wide;
      __builtin_memcpy(to + d, &wide, sizeof wide);
    }
  }
  return all_zero(check);
}

// out[t][...] = sum over l in [first, last) of weight[t][l] * values[l][...] for a few vectors, or += if `add`.
// `guarded` skips values of weight zero, which is needed if values may not be finite.
template <int vectors, bool guarded>
SOMVAE_ALWAYS_INLINE void add_products(const TargetWeights& targets, int64_t first, int64_t last, const double* values,
                                       int64_t pitch, bool add, double* out, int64_t out_pitch) {
  Doubles sum[kSumTargets][vectors];
  const double* weight[kSumTargets];
#pragma GCC unroll 8
  for (int t = 0; t < kSumTargets; ++t) {
    weight[t] = targets.row[t] + first;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) {
      sum[t][v] = Doubles{};
      if (add && t < targets.count) __builtin_memcpy(&sum[t][v], out + t * out_pitch + v * kDoubles, sizeof(Doubles));
    }
  }
  for (int64_t l = 0; l < last - first; ++l, values += pitch) {
    Doubles value[vectors];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) __builtin_memcpy(&value[v], values + v * kDoubles, sizeof(Doubles));
#pragma GCC unroll 8
    for (int t = 0; t < kSumTargets; ++t) {
      const double w = weight[t][l];
      if (guarded && w == 0) continue;
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[t][v] += value[v] * w;
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < kSumTargets; ++t) {
    if (t >= targets.count) break;
#pragma GCC unroll 4
    for (int v = 0; v < vectors; ++v) __builtin_memcpy(out + t * out_pitch + v * kDoubles, &sum[t][v], sizeof(Doubles));
  }
}

template <int vectors>
inline void add_products(const TargetWeights& targets, int64_t first, int64_t last, const double* values, int64_t pitch,
                         bool finite, bool add, double* out, int64_t out_pitch) {
  if (finite) {
    add_products<vectors, false>(targets, first, last, values, pitch, add, out, out_pitch);
  } else {
    add_products<vectors, true>(targets, first, last, values, pitch, add, out, out_pitch);
  }
}

// add_products for all vectors of the values; `values` is the row of source `first`.
inline void weighted_sums(const TargetWeights& targets, int64_t first, int64_t last, const double* values,
                          int64_t pitch, bool finite, bool add, double* out, int64_t out_pitch) {
  for (int64_t d = 0; d < pitch;) {
    const int64_t vectors = std::min<int64_t>(kSumVectors, (pitch - d) / kDoubles);
    switch (vectors) {
      case 1:
        add_products<1>(targets, first, last, values + d, pitch, finite, add, out + d, out_pitch);
        break;
      case 2:
        add_products<2>(targets, first, last, values + d, pitch, finite, add, out + d, out_pitch);
        break;
      default:
        add_products<3>(targets, first, last, values + d, pitch, finite, add, out + d, out_pitch);
    }
    d += vectors * kDoubles;
  }
}

// Writes n new features of a node.
template <class B>
SOMVAE_ALWAYS_INLINE void finish_features(const SomUpdateFinish<B>& finish, int64_t node, int64_t feature, int64_t n,
                                          const double* num) {
  B* const out = finish.out + node * finish.dim + feature;
  if (finish.codebook == nullptr) {
    for (int64_t d = 0; d < n; ++d) out[d] = store<B>(num[d]);
    return;
  }
  const B* const code = finish.codebook + node * finish.dim + feature;
  if (finish.den_width != 1) {
    const double* const den = finish.den + node * finish.den_width + feature;
    for (int64_t d = 0; d < n; ++d) out[d] = finish(num[d], den[d], code[d]);
    return;
  }
  const double den = finish.den[node];
  if (finish.by_rate) {
    for (int64_t d = 0; d < n; ++d) out[d] = finish(num[d], den, code[d]);
  } else if (finish.suffices(den)) {  // tested once, so the division is vectorized
    for (int64_t d = 0; d < n; ++d) out[d] = store<B>(num[d] / den);
  } else if (out != code) {
    for (int64_t d = 0; d < n; ++d) out[d] = code[d];
  }
}

// Along the axes of a grid, a narrow neighborhood is a band of few weights, and neighboring targets share most of their
// sources, but not all. So the kernels below process fewer targets and more vectors at a time than those above.
constexpr int kAxisTargets = SIMD_BYTES == 64 ? 4 : 2;
constexpr int kAxisVectors = 6;
constexpr int64_t kGroupsAtOnce = 8;
constexpr int64_t kMostScattered = 96;  // rows on separate pages; a first-level TLB has about 64 entries
constexpr int kAxisRanges = 4;          // a periodic grid's edge cuts a band in two; the buffer's end may cut once more

// Sources [first, first + count), whose values start at row `at` of a buffer.
struct SourceRange {
  int64_t first, at, count;
};

// The weights of a group of targets along an axis. An incomplete group repeats its last target.
struct AxisTargets {
  const double* row[kAxisTargets];
  int64_t count;   // of targets
  int64_t ranges;  // outside these ranges all weights are zero
  SourceRange range[kAxisRanges + 1];

  int64_t weight_count() const {
    int64_t sources = 0;
    for (int64_t i = 0; i < ranges; ++i) sources += range[i].count;
    return sources;
  }
  int64_t first() const { return ranges > 0 ? range[0].first : 0; }
  int64_t last() const { return ranges > 0 ? range[ranges - 1].first + range[ranges - 1].count : 0; }
};

inline int64_t axis_groups(int64_t targets) { return (targets + kAxisTargets - 1) / kAxisTargets; }

// Groups the targets whose weights begin at weights, weights + stride and so on into axis_groups(targets) groups.
inline void group_axis_targets(const double* weights, int64_t stride, int64_t targets, int64_t sources,
                               AxisTargets* groups) {
  for (int64_t begin = 0; begin < targets; begin += kAxisTargets) {
    AxisTargets& group = *groups++;
    group.count = std::min<int64_t>(kAxisTargets, targets - begin);
    group.ranges = 0;
    for (int t = 0; t < kAxisTargets; ++t) {
      group.row[t] = weights + (begin + std::min<int64_t>(t, group.count - 1)) * stride;
    }
    bool inside = false;
    for (int64_t l = 0; l < sources; ++l) {
      bool any_weight = false;
      for (int t = 0; t < kAxisTargets; ++t) any_weight = any_weight || group.row[t][l] != 0;
      if (any_weight && !inside && group.ranges < kAxisRanges) group.range[group.ranges++] = {l, l, 0};
      if (any_weight) {
        SourceRange& range = group.range[group.ranges - 1];  // the last range takes all that remains
        range.count = l + 1 - range.first;
      }
      inside = any_weight;
    }
  }
}

// Maps the ranges to a buffer that holds source l in row l % buffer_rows, and cuts the range that wraps around.
inline void wrap_ranges(int64_t buffer_rows, AxisTargets& group) {
  for (int64_t i = 0; i < group.ranges; ++i) {
    SourceRange& range = group.range[i];
    range.at = range.first % buffer_rows;
    const int64_t left = buffer_rows - range.at;
    if (left < range.count) {
      for (int64_t later = group.ranges++; later > i + 1; --later) group.range[later] = group.range[later - 1];
      group.range[i + 1] = {range.first + left, 0, range.count - left};
      range.count = left;
      ++i;
    }
  }
}

// Keeps compilers from reloading a value for each target: loads are as scarce as multiply-adds.
SOMVAE_ALWAYS_INLINE void keep_in_register([[maybe_unused]] Doubles& value) {
#if defined(__x86_64__)
  asm("" : "+v"(value));
#endif
}

// Sums a few vectors for the targets of some groups. The targets' sums follow each other in `out`:
//   out[t][...] = sum over l of weight[t][l] * values[l][...]
// Rows of values lie `pitch` apart, rows of out `out_pitch`. `guarded` skips values of weight zero, which is needed
// if values may not be finite. Returns whether all sums are finite.
template <int vectors, bool guarded>
bool sum_groups(const AxisTargets* groups, int64_t count, const double* values, int64_t pitch, double* out,
                int64_t out_pitch) {
  Doubles check = {};
  for (const AxisTargets* group = groups; group < groups + count; ++group) {
    Doubles sum[kAxisTargets][vectors] = {};
    for (const SourceRange* range = group->range; range < group->range + group->ranges; ++range) {
      const double* value_row = values + range->at * pitch;
      const double* weight[kAxisTargets];
#pragma GCC unroll 4
      for (int t = 0; t < kAxisTargets; ++t) weight[t] = group->row[t] + range->first;
      for (int64_t l = 0; l < range->count; ++l, value_row += pitch) {
        double w[kAxisTargets];
#pragma GCC unroll 4
        for (int t = 0; t < kAxisTargets; ++t) w[t] = weight[t][l];
#pragma GCC unroll 6
        for (int v = 0; v < vectors; ++v) {
          Doubles value;
          __builtin_memcpy(&value, value_row + v * kDoubles, sizeof value);
          keep_in_register(value);
#pragma GCC unroll 4
          for (int t = 0; t < kAxisTargets; ++t) {
            if (!guarded || w[t] != 0) sum[t][v] += value * w[t];
          }
        }
      }
    }
#pragma GCC unroll 4
    for (int t = 0; t < kAxisTargets; ++t) {
      if (t >= group->count) break;
#pragma GCC unroll 6
      for (int v = 0; v < vectors; ++v) {
        check += sum[t][v] - sum[t][v];
        __builtin_memcpy(out + t * out_pitch + v * kDoubles, &sum[t][v], sizeof(Doubles));
      }
    }
    out += kAxisTargets * out_pitch;
  }
  return all_zero(check);
}

template <bool guarded>
bool sum_groups(int64_t vectors, const AxisTargets* groups, int64_t count, const double* values, int64_t pitch,
                double* out, int64_t out_pitch) {
  switch (vectors) {
    case 1:
      return sum_groups<1, guarded>(groups, count, values, pitch, out, out_pitch);
    case 2:
      return sum_groups<2, guarded>(groups, count, values, pitch, out, out_pitch);
    case 3:
      return sum_groups<3, guarded>(groups, count, values, pitch, out, out_pitch);
    case 4:
      return sum_groups<4, guarded>(groups, count, values, pitch, out, out_pitch);
    case 5:
      return sum_groups<5, guarded>(groups, count, values, pitch, out, out_pitch);
    default:
      return sum_groups<6, guarded>(groups, count, values, pitch, out, out_pitch);
  }
}

// sum_groups for n features, a whole number of vectors, in shares of nearly equal size.
inline bool sum_groups(const AxisTargets* groups, int64_t count, const double* values, int64_t pitch, bool finite,
                       int64_t n, double* out, int64_t out_pitch) {
  bool finite_sums = true;
  int64_t vectors = n / kDoubles;
  for (int64_t shares = (vectors + kAxisVectors - 1) / kAxisVectors; shares > 0; --shares) {
    const int64_t share = (vectors + shares - 1) / shares;
    const bool finite_share = finite ? sum_groups<false>(share, groups, count, values, pitch, out, out_pitch)
                                     : sum_groups<true>(share, groups, count, values, pitch, out, out_pitch);
    finite_sums = finite_sums && finite_share;
    vectors -= share;
    values += share * kDoubles;
    out += share * kDoubles;
  }
  return finite_sums;
}

// Groups of target rows that are computed together from source rows within [first, last).
struct RowBlock {
  int64_t first_group, last_group;  // of each phase
  int64_t first, last;
};

// The plan of the second pass: all groups of rows, in blocks. A block is about as high as a band of weights: then
// several groups use the sums of the first pass while they are in the cache, and a group leaves few of them unused.
struct RowPlan {
  const Scratch<AxisTargets> targets;  // [phases][groups]
  const Scratch<RowBlock> blocks;
  int64_t phases, groups, block_count;
  int64_t buffer_rows;   // source rows that the buffer holds
  int64_t most_weights;  // the largest number of weighted rows of a group

  explicit RowPlan(const GridAxes& axes)
      : targets(axes.phases * axis_groups(axes.rows_of_phase(0))),
        blocks(axis_groups(axes.rows_of_phase(0))),
        phases(axes.phases),
        groups(axis_groups(axes.rows_of_phase(0))),
        block_count(0),
        buffer_rows(1),
        most_weights(0) {
    int64_t widest = 1;
    for (int64_t phase = 0; phase < phases; ++phase) {
      AxisTargets* const of_phase = targets.data + phase * groups;
      for (int64_t g = 0; g < groups; ++g) of_phase[g].count = of_phase[g].ranges = 0;
      group_axis_targets(axes.row_weights + phase * axes.rows, phases * axes.rows, axes.rows_of_phase(phase), axes.rows,
                         of_phase);
      for (int64_t g = 0; g < groups; ++g) {
        widest = std::max(widest, of_phase[g].last() - of_phase[g].first());
        most_weights = std::max(most_weights, of_phase[g].weight_count());
      }
    }
    const int64_t block_groups = (widest + kAxisTargets * phases - 1) / (kAxisTargets * phases);
    for (int64_t g = 0; g < groups; g += block_groups) {
      RowBlock& block = blocks[block_count++];
      block = {g, std::min(groups, g + block_groups), axes.rows, 0};
      for_each_group(block, [&](AxisTargets& group) {
        if (group.ranges == 0) return;
        block.first = std::min(block.first, group.first());
        block.last = std::max(block.last, group.last());
      });
    }
    // Source rows are computed in ascending order, and each stays until no later block reads it.
    for (int64_t b = 1; b < block_count; ++b) blocks[b].last = std::max(blocks[b].last, blocks[b - 1].last);
    for (int64_t b = block_count - 1; b > 0; --b) {
      blocks[b - 1].first = std::min(blocks[b - 1].first, blocks[b].first);
    }
    for (int64_t b = 0; b < block_count; ++b) buffer_rows = std::max(buffer_rows, blocks[b].last - blocks[b].first);
    for (int64_t i = 0; i < phases * groups; ++i) wrap_ranges(buffer_rows, targets[i]);
  }

  template <class Use>
  void for_each_group(const RowBlock& block, const Use& use) const {
    for (int64_t phase = 0; phase < phases; ++phase) {
      for (int64_t g = block.first_group; g < block.last_group; ++g) use(targets[phase * groups + g]);
    }
  }
};

template <class T, class B>
void som_update_axes(const SomUpdateAxesArgs<T, B>& args, int64_t item_features, int64_t first_item,
                     int64_t last_item) {
  const GridAxes& axes = args.axes;
  const int64_t columns = axes.columns, phases = axes.phases, dim = args.dim;
  const int64_t column_groups = axis_groups(columns);
  const Scratch<AxisTargets> column_targets(phases * phases * column_groups);  // [source phase][target phase][group]
  for (int64_t pair = 0; pair < phases * phases; ++pair) {
    group_axis_targets(axes.column_weights + pair * columns * columns, columns, columns, columns,
                       column_targets.data + pair * column_groups);
  }
  const RowPlan plan(axes);

  // partial[target phase][buffer row][column][feature]. Rows are padded by a cache line, so they do not compete for the
  // same lines of the caches.
  const int64_t max_pitch = whole_vectors(std::min(item_features, dim));
  const int64_t row_size = columns * max_pitch + 64 / int64_t(sizeof(double));
  const Scratch<double> values(columns * max_pitch), partial(phases * plan.buffer_rows * row_size);
  const Scratch<bool> finite(phases * plan.buffer_rows);
  const bool gathers = plan.most_weights > kMostScattered;
  const Scratch<double> gathered(gathers ? plan.buffer_rows * kSomUpdateFeatures : 0);
  double sums[kGroupsAtOnce * kAxisTargets * kSomUpdateFeatures];

  for (int64_t item = first_item; item < last_item; ++item) {
    const int64_t feature = item * item_features, n = std::min(item_features, dim - feature);
    const int64_t whole = whole_vectors(n);
    // Columns of less than a vector are packed, so the second pass can process several at once. The first pass stores
    // whole vectors, and the next column overwrites the excess.
    const int64_t pitch = n < kDoubles ? n : whole;
    const int64_t columns_at_once = n < kDoubles ? kSomUpdateFeatures / n : 1;
    int64_t source = plan.blocks[0].first;
    for (int64_t b = 0; b < plan.block_count; ++b) {
      const RowBlock& block = plan.blocks[b];
      for (; source < block.last; ++source) {
        const bool finite_values =
            pack_values(args.values + source * columns * dim + feature, dim, columns, n, whole, values.data);
        for (int64_t phase = 0; phase < phases; ++phase) {
          const AxisTargets* const groups = column_targets.data + (source % phases * phases + phase) * column_groups;
          const int64_t slot = phase * plan.buffer_rows + source % plan.buffer_rows;
          finite[slot] = sum_groups(groups, column_groups, values.data, whole, finite_values, whole,
                                    partial.data + slot * row_size, pitch);
        }
      }
      for (int64_t phase = 0; phase < phases; ++phase) {
        const double* const rows = partial.data + phase * plan.buffer_rows * row_size;
        bool finite_rows = true;
        for (int64_t row = block.first; row < block.last; ++row) {
          finite_rows = finite_rows && finite[phase * plan.buffer_rows + row % plan.buffer_rows];
        }
        for (int64_t column = 0; column < columns; column += columns_at_once) {
          const int64_t column_count = std::min(columns_at_once, columns - column);
          const int64_t sums_pitch = whole_vectors(column_count * pitch);
          const double* window = rows + column * pitch;
          int64_t window_pitch = row_size;
          if (gathers) {
            for (int64_t row = 0; row < plan.buffer_rows; ++row) {
              __builtin_memcpy(gathered.data + row * sums_pitch, window + row * row_size, sums_pitch * sizeof(double));
            }
            window = gathered.data;
            window_pitch = sums_pitch;
          }
          for (int64_t g = block.first_group; g < block.last_group; g += kGroupsAtOnce) {
            const AxisTargets* const groups = plan.targets.data + phase * plan.groups + g;
            const int64_t count = std::min(kGroupsAtOnce, block.last_group - g);
            sum_groups(groups, count, window, window_pitch, finite_rows, sums_pitch, sums, sums_pitch);
            for (int64_t i = 0; i < count; ++i) {
              for (int64_t t = 0; t < groups[i].count; ++t) {
                const int64_t row = phase + ((g + i) * kAxisTargets + t) * phases;
                for (int64_t c = 0; c < column_count; ++c) {
                  finish_features(args.finish, row * columns + column + c, feature, n,
                                  sums + (i * kAxisTargets + t) * sums_pitch + c * pitch);
                }
              }
            }
          }
        }
      }
    }
  }
}

template <class T, class B>
void som_update(const SomUpdateArgs<T, B>& args, int64_t item_targets, int64_t first_item, int64_t last_item) {
  constexpr int64_t depth = 128;  // sources at a time: a panel of them and a few targets' weights fit into L1
  constexpr int64_t panel_size = depth * kSomUpdateFeatures;
  constexpr int64_t most = kSomUpdatePanels * kSomUpdateFeatures;
  const int64_t feature_blocks = (args.dim + most - 1) / most;
  const Scratch<TargetWeights> groups(target_groups(item_targets));
  const Scratch<double> values(kSomUpdatePanels * panel_size), sums(item_targets * most);
  bool finite[kSomUpdatePanels];

  for (int64_t item = first_item; item < last_item; ++item) {
    const int64_t target = item / feature_blocks * item_targets, feature = item % feature_blocks * most;
    const int64_t targets = std::min(item_targets, args.targets - target), n = std::min(most, args.dim - feature);
    const int64_t panels = (n + kSomUpdateFeatures - 1) / kSomUpdateFeatures;
    const auto features_of = [&](int64_t panel) {
      return std::min(kSomUpdateFeatures, n - panel * kSomUpdateFeatures);
    };
    group_targets(args.weights + target * args.sources, args.sources, targets, args.sources, groups.data);
    int64_t begin = args.sources, end = 0;
    for (int64_t g = 0; g < target_groups(targets); ++g) {
      begin = std::min(begin, groups[g].first);
      end = std::max(end, groups[g].last);
    }
    memset(sums.data, 0, targets * most * sizeof(double));
    for (int64_t source = begin; source < end; source += depth) {
      const int64_t sources = std::min(depth, end - source);
      for (int64_t p = 0; p < panels; ++p) {
        double* const panel = values.data + p * panel_size;
        const int64_t pitch = whole_vectors(features_of(p));
        finite[p] = pack_values(args.values + source * args.dim + feature + p * kSomUpdateFeatures, args.dim, sources,
                                features_of(p), pitch, panel);
      }
      for (int64_t g = 0; g < target_groups(targets); ++g) {
        const int64_t first = std::max(groups[g].first, source), last = std::min(groups[g].last, source + sources);
        if (first >= last) continue;
        for (int64_t p = 0; p < panels; ++p) {
          const int64_t pitch = whole_vectors(features_of(p));
          weighted_sums(groups[g], first, last, values.data + p * panel_size + (first - source) * pitch, pitch,
                        finite[p], true, sums.data + g * kSumTargets * most + p * kSomUpdateFeatures, most);
        }
      }
    }
    for (int64_t t = 0; t < targets; ++t) {
      finish_features(args.finish, target + t, feature, n, sums.data + t * most);
    }
  }
}
