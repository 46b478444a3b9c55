// CPU transition losses. Compiled once per instruction level by transition_losses_cpu.cpp.

#include "cpu/vector.h"

#include "cpu/exponential.h"
#include "cpu/pack_panel.h"
#include "cpu/panel_distances.h"
#include "cpu/scratch.h"

#include "transition/softmax_row_cpu.h"

static_assert(kLanes == kPanelCodes, "probabilities are computed for one panel at a time");
static_assert(kChunkStep == kDepth, "a block has as many codes as sums of products add at a time");

// All features of a tile of rows, in blocks of kDepth.
template <class C, int tile>
struct LoadedRows {
  int64_t dim;
  Scratch<RowBlock<C, tile>> blocks;

  template <class T>
  LoadedRows(const T* z, const int64_t* rows, int64_t dim) : dim(dim), blocks(dim / kDepth + 1) {
    for_each_depth(dim, [&](int64_t d, int64_t depth) {
      for (int r = 0; r < tile; ++r) blocks[d / kDepth].load_row(r, z + rows[r] * dim, d, depth);
    });
  }

  // Computes distance[r][l] of row r to code l of a panel; 0 for the missing codes of the last panel, which are NaN.
  SOMVAE_ALWAYS_INLINE void distances(const C* panel, int64_t codes, C (&distance)[tile][kLanes]) const {
    PanelScores<C, tile> scores;
    for_each_depth(
        dim, [&](int64_t d, int64_t depth) { scores.accumulate(blocks[d / kDepth], panel + d * kPanelCodes, depth); });
    static_assert(sizeof distance == sizeof scores.value);
    __builtin_memcpy(distance, scores.value, sizeof distance);
    if (codes >= kLanes) return;
    for (int r = 0; r < tile; ++r) {
      for (int64_t l = codes; l < kLanes; ++l) distance[r][l] = 0;
    }
  }
};

// Computes the losses of a tile of rows that are adjacent in `order`. The result of a row does not depend on its tile.
template <int tile, class T>
void losses_of_tile(const TransitionLossesArgs<T>& args, const Compute<T>* packed, const int64_t* rows) {
  using C = Compute<T>;
  const LoadedRows<C, tile> z(args.z, rows, args.dim);
  struct Group {
    int first, last;  // rows of the tile
    const T* logits;
    RunningSoftmax<C> softmax;
  };
  Group groups[tile];
  int count = 0;
  for (int first = 0, last; first < tile; first = last) {
    const int64_t prev = args.prev[rows[first]];
    last = first + 1;
    while (last < tile && args.prev[rows[last]] == prev) ++last;
    if (in_range(prev, args.nodes)) {
      groups[count++] = {first, last, args.logits + prev * args.nodes, {}};
      continue;
    }
    for (int r = first; r < last; ++r) {
      args.log_normalizer[rows[r]] = args.log_prob[rows[r]] = args.expectation[rows[r]] = NAN;
    }
  }

  double weighted[tile][kLanes] = {};
  for (int64_t node = 0; node < args.nodes; node += kLanes) {
    C distance[tile][kLanes];
    z.distances(packed + node * args.dim, args.nodes - node, distance);
    for (int g = 0; g < count; ++g) {
      Group& group = groups[g];
      // One stream per row is too much for the hardware prefetcher: without this the loop takes twice as long.
      __builtin_prefetch(group.logits + node + 4 * kLanes);
      C exponential[kLanes];
      load_logits(group.logits, node, args.nodes, exponential);
      group.softmax.add(exponential, [&](double factor) {
        for (int r = group.first; r < group.last; ++r) {
          for (int l = 0; l < kLanes; ++l) weighted[r][l] *= factor;
        }
      });
      for (int r = group.first; r < group.last; ++r) {
        for (int l = 0; l < kLanes; ++l) weighted[r][l] += double(exponential[l]) * double(distance[r][l]);
      }
    }
  }

  for (int g = 0; g < count; ++g) {
    const Group& group = groups[g];
    const double sum = group.softmax.total(), log_normalizer = group.softmax.log_normalizer();
    for (int r = group.first; r < group.last; ++r) {
      const int64_t row = rows[r], cur = args.cur[row];
      double total = 0;
      for (const double part : weighted[r]) total += part;
      args.expectation[row] = static_cast<C>(total / sum);
      args.log_normalizer[row] = log_normalizer;
      args.log_prob[row] =
          in_range(cur, args.nodes) ? static_cast<C>(double(load(group.logits[cur])) - log_normalizer) : C(NAN);
    }
  }
}

template <class T>
void transition_losses(const TransitionLossesArgs<T>& args, const Compute<T>* packed, int64_t first, int64_t last) {
  for_each_tile<Compute<T>>(first, last,
                            [&]<int tile>(int64_t place) { losses_of_tile<tile>(args, packed, args.order + place); });
}

// Whether a group takes part in sums over the batch: it has rows, and their prev is in range.
template <class T>
inline bool takes_part(const TransitionLossesBackwardArgs<T>& args, int64_t group) {
  const TouchedGroups& groups = args.groups;
  return groups.offsets[group] < groups.offsets[group + 1] &&
         in_range(args.prev[groups.order[groups.offsets[group]]], args.nodes);
}

template <class T>
void transition_losses_backward_prepare(const TransitionLossesBackwardArgs<T>& args,
                                        const TransitionBackwardWorkspace<Compute<T>>& workspace) {
  for (int64_t d = 0; d < args.dim; ++d) workspace.center[d] = 0;
  for (int64_t node = 0; node < args.nodes; ++node) {
    for (int64_t d = 0; d < args.dim; ++d) workspace.center[d] += double(load(args.codebook[node * args.dim + d]));
  }
  for (int64_t d = 0; d < args.dim; ++d) workspace.center[d] /= double(args.nodes);
  const Scratch<double> weighted_rows(args.dim);
  for (int64_t group = 0; group < args.groups.count; ++group) {
    workspace.weight[group] = 0;
    for (int64_t d = 0; d < args.dim; ++d) weighted_rows[d] = 0;
    for (int64_t i = args.groups.offsets[group]; takes_part(args, group) && i < args.groups.offsets[group + 1]; ++i) {
      const int64_t row = args.groups.order[i];
      const double grad = args.grad_expectation[row];
      workspace.weight[group] += grad;
      for (int64_t d = 0; d < args.dim; ++d) {
        weighted_rows[d] += grad * (double(load(args.z[row * args.dim + d])) - workspace.center[d]);
      }
    }
    Compute<T>* out = workspace.weighted_rows + group * workspace.pitch;
    for (int64_t d = 0; d < workspace.pitch; ++d) out[d] = d < args.dim ? static_cast<Compute<T>>(weighted_rows[d]) : 0;
  }
}

// The probability of code r of a block for group g of a block, from probabilities [groups][kRowPitch].
template <class C>
struct TransposedProbabilities {
  const C* values;
  SOMVAE_ALWAYS_INLINE C operator()(int r, int64_t g) const { return values[g * kRowPitch + r]; }
};
template <class C>
struct Probabilities {
  const C* values;
  SOMVAE_ALWAYS_INLINE C operator()(int r, int64_t j) const { return values[r * kRowPitch + j]; }
};

// A block of at most kDepth codes, from `node0` on, and its share of the backward pass.
template <class T>
class CodeBlock {
  using C = Compute<T>;
  using Args = TransitionLossesBackwardArgs<T>;
  static constexpr int lanes = kPanelCodes;

 public:
  CodeBlock(const Args& args, const TransitionBackwardWorkspace<C>& workspace)
      : args_(args),
        workspace_(workspace),
        feature_panels_(workspace.pitch / lanes),
        panels_(args.grad_logits ? kDepth * args.dim : 0),
        centered_(args.grad_z ? kDepth * workspace.pitch : 0),
        probability_(kDepth * kRowPitch),
        weighted_rows_(kDepth * workspace.pitch),
        code_weight_(kDepth),
        weighted_rows_of_code_(kDepth * workspace.pitch) {}

  void load(int64_t node0) {
    node0_ = node0;
    codes_ = std::min<int64_t>(kDepth, args_.nodes - node0);
    for (int64_t j = 0; args_.grad_logits && j < codes_; j += lanes) {
      pack_panel(args_.codebook, args_.nodes, args_.dim, (node0 + j) / lanes, panels_.data + j * args_.dim);
    }
    for (int64_t d = 0; args_.grad_z && d < args_.dim; d += lanes) {
      const int n = static_cast<int>(std::min<int64_t>(lanes, args_.dim - d));
      for (int64_t j = 0; j < codes_; ++j) {
        const T* code = args_.codebook + (node0 + j) * args_.dim + d;
        C* out = centered_.data + (d * kDepth + j * lanes);
        for (int l = 0; l < n; ++l) out[l] = static_cast<C>(double(somvae::load(code[l])) - workspace_.center[d + l]);
        for (int l = n; l < lanes; ++l) out[l] = 0;
      }
    }
    for (int64_t j = 0; j < kDepth; ++j) code_weight_[j] = 0;
    for (int64_t i = 0; i < kDepth * workspace_.pitch; ++i) weighted_rows_of_code_[i] = 0;
  }

  // Processes groups [first, last), at most kDepth. Adds this block's share to the `mean` [pitch] of each.
  void visit(int64_t first, int64_t last, double* mean) {
    fill_probabilities(first, last);
    if (args_.grad_codebook) sum_weighted_rows(first, last);
    if (args_.grad_z) add_means(first, last, mean);
  }

  void write_codes() const {
    for (int64_t d = 0; d < args_.dim; d += lanes) {
      const int n = static_cast<int>(std::min<int64_t>(lanes, args_.dim - d));
      for (int64_t j = 0; j < codes_; ++j) {
        const int64_t place = (node0_ + j) * args_.dim + d;
        const double* weighted_rows = weighted_rows_of_code_.data + (d * kDepth + j * lanes);
        for (int l = 0; l < n; ++l) {
          const double code = double(somvae::load(args_.codebook[place + l])) - workspace_.center[d + l];
          args_.grad_codebook[place + l] = store<T>(2 * (code * code_weight_[j] - weighted_rows[l]));
        }
      }
    }
  }

 private:
  // The logits of the block's codes in a group's row; null if the group takes no part.
  const T* logits_of(int64_t group) const {
    if (!takes_part(args_, group)) return nullptr;
    return args_.logits + args_.groups.node[group] * args_.nodes + node0_;
  }
  double log_normalizer_of(int64_t group) const {
    return args_.log_normalizer[args_.groups.order[args_.groups.offsets[group]]];
  }

  // Computes p_gj of the block's codes and, from the distances, the gradient of their logits.
  void fill_probabilities(int64_t first, int64_t last) {
    for (int64_t g = first; g < last; ++g) {
      const T* const logits = logits_of(g);
      C* p = probability_.data + (g - first) * kRowPitch;
      for (int64_t j = 0; j < codes_; j += lanes) {
        C values[lanes] = {};
        if (logits != nullptr) probabilities(logits, j, codes_, log_normalizer_of(g), values);
        __builtin_memcpy(p + j, values, sizeof values);
      }
    }
    if (!args_.grad_logits) return;
    GradientOfLogits gradient{*this, first};
    for_each_tile<C>(args_.groups.offsets[first], args_.groups.offsets[last], [&]<int tile>(int64_t place) {
      const int64_t* rows = args_.groups.order + place;
      const LoadedRows<C, tile> z(args_.z, rows, args_.dim);
      C distance[tile][kRowPitch];
      for (int64_t j = 0; j < codes_; j += lanes) {
        C values[tile][lanes];
        z.distances(panels_.data + j * args_.dim, codes_ - j, values);
        for (int r = 0; r < tile; ++r) __builtin_memcpy(&distance[r][j], values[r], sizeof values[r]);
      }
      for (int r = 0; r < tile; ++r) gradient.add_row(place + r, distance[r]);
    });
  }

  // Computes d loss / d logits of the block's codes, one group after another, from rows that are added in order.
  struct GradientOfLogits {
    const CodeBlock& block;
    const int64_t first_group;
    int64_t group = first_group;
    double constant = 0;           // sum over the group's rows of gl_n + ge_n expectation[n]
    double gradient[kDepth] = {};  // sum over them of ge_n d_nj

    void add_row(int64_t place, const C* distance) {
      const Args& args = block.args_;
      const TouchedGroups& groups = args.groups;
      while (groups.offsets[group + 1] <= place) ++group;
      const int64_t row = groups.order[place], begin = groups.offsets[group], end = groups.offsets[group + 1];
      const double grad = args.grad_expectation[row];
      if (place == begin) constant = 0;
      constant += grad * double(args.expectation[row]);
      constant += in_range(args.cur[row], args.nodes) ? double(args.grad_log_prob[row]) : NAN;

      const C* p = block.probability_.data + (group - first_group) * kRowPitch;
      const int64_t filled = (block.codes_ + lanes - 1) / lanes * lanes;  // whole panels
      if (begin + 1 == end) {                                             // the case of most groups
        for (int64_t j = 0; j < filled; ++j) gradient[j] = double(p[j]) * (grad * double(distance[j]) - constant);
      } else {
        for (int64_t j = 0; j < filled; ++j) {
          gradient[j] = (place == begin ? 0.0 : gradient[j]) + grad * double(distance[j]);
        }
        if (place + 1 < end) return;
        for (int64_t j = 0; j < filled; ++j) gradient[j] = double(p[j]) * (gradient[j] - constant);
      }
      for (int64_t i = begin; i < end; ++i) {
        const int64_t cur = args.cur[groups.order[i]], j = cur - block.node0_;
        if (in_range(j, block.codes_)) gradient[j] += double(args.grad_log_prob[groups.order[i]]);
      }
      const bool valid = takes_part(args, group);
      if (!valid && !args.sparse) return;
      T* out = args.grad_logits + groups.gradient_row(group, args.sparse) * args.nodes + block.node0_;
      for (int64_t j = 0; j < block.codes_; ++j) out[j] = store<T>(valid ? gradient[j] : NAN);
    }
  };

  // Adds the sums over groups of p_gj weight_g to code_weight_, and of p_gj weighted_rows_g to weighted_rows_of_code_.
  void sum_weighted_rows(int64_t first, int64_t last) {
    const int64_t groups = last - first;
    for (int64_t g = 0; g < groups; ++g) {
      const C* p = probability_.data + g * kRowPitch;
      const double weight = workspace_.weight[first + g];
      for (int64_t j = 0; j < codes_; ++j) code_weight_[j] += double(p[j]) * weight;
      const C* weighted_rows = workspace_.weighted_rows + (first + g) * workspace_.pitch;
      for (int64_t d = 0; d < workspace_.pitch; ++d)
        weighted_rows_[(d / lanes * kDepth + g) * lanes + d % lanes] = weighted_rows[d];
    }
    for_each_tile<C>(0, codes_, [&]<int tile>(int64_t j) {
      for (int64_t f = 0; f < feature_panels_; ++f) {
        PanelScores<C, tile> sum;
        sum.accumulate(TransposedProbabilities<C>{probability_.data + j}, weighted_rows_.data + f * kDepth * lanes,
                       groups, Product());
        add_sums(sum, weighted_rows_of_code_.data + (f * kDepth + j) * lanes, lanes);
      }
    });
  }

  void add_means(int64_t first, int64_t last, double* mean) {
    for_each_tile<C>(0, last - first, [&]<int tile>(int64_t g) {
      for (int64_t f = 0; f < feature_panels_; ++f) {
        PanelScores<C, tile> sum;
        sum.accumulate(Probabilities<C>{probability_.data + g * kRowPitch}, centered_.data + f * kDepth * lanes, codes_,
                       Product());
        add_sums(sum, mean + g * workspace_.pitch + f * lanes, workspace_.pitch);
      }
    });
  }

  template <int tile>
  static SOMVAE_ALWAYS_INLINE void add_sums(const PanelScores<C, tile>& sum, double* out, int64_t pitch) {
    C values[tile][lanes];
    static_assert(sizeof values == sizeof sum.value);
    __builtin_memcpy(values, sum.value, sizeof values);
    for (int r = 0; r < tile; ++r) {
      for (int l = 0; l < lanes; ++l) out[r * pitch + l] += double(values[r][l]);
    }
  }

  const Args& args_;
  const TransitionBackwardWorkspace<C>& workspace_;
  int64_t feature_panels_;
  int64_t node0_ = 0, codes_ = 0;
  Scratch<C> panels_;                      // as in cpu/codebook_panels.h, for distances
  Scratch<C> centered_;                    // [feature panel][code][16 features], minus the center
  Scratch<C> probability_;                 // [group][kRowPitch]
  Scratch<C> weighted_rows_;               // [feature panel][group][16 features]
  Scratch<double> code_weight_;            // [code]
  Scratch<double> weighted_rows_of_code_;  // [feature panel][code][16 features]
};

template <class T>
void transition_losses_backward_codes(const TransitionLossesBackwardArgs<T>& args,
                                      const TransitionBackwardWorkspace<Compute<T>>& workspace, int64_t first_chunk,
                                      int64_t last_chunk) {
  const int64_t blocks = (args.nodes + kDepth - 1) / kDepth, means = args.groups.count * workspace.pitch;
  CodeBlock<T> block(args, workspace);
  for (int64_t chunk = first_chunk; chunk < last_chunk; ++chunk) {
    double* mean = workspace.mean + chunk * means;
    for (int64_t i = 0; args.grad_z && i < means; ++i) mean[i] = 0;
    for (int64_t b = blocks * chunk / workspace.chunks; b < blocks * (chunk + 1) / workspace.chunks; ++b) {
      block.load(b * kDepth);
      for (int64_t g = 0; g < args.groups.count; g += kDepth) {
        block.visit(g, std::min(g + kDepth, args.groups.count), mean + g * workspace.pitch);
      }
      if (args.grad_codebook) block.write_codes();
    }
  }
}

template <class T>
void transition_losses_backward_z(const TransitionLossesBackwardArgs<T>& args,
                                  const TransitionBackwardWorkspace<Compute<T>>& workspace, int64_t first_group,
                                  int64_t last_group) {
  const int64_t means = args.groups.count * workspace.pitch;
  const Scratch<double> mean(args.dim);
  for (int64_t g = first_group; g < last_group; ++g) {
    for (int64_t d = 0; d < args.dim; ++d) mean[d] = 0;
    for (int64_t chunk = 0; chunk < workspace.chunks; ++chunk) {
      const double* share = workspace.mean + chunk * means + g * workspace.pitch;
      for (int64_t d = 0; d < args.dim; ++d) mean[d] += share[d];
    }
    const bool valid = takes_part(args, g);
    for (int64_t i = args.groups.offsets[g]; i < args.groups.offsets[g + 1]; ++i) {
      const int64_t row = args.groups.order[i];
      const double weight = valid ? 2 * double(args.grad_expectation[row]) : NAN;
      for (int64_t d = 0; d < args.dim; ++d) {
        const double z = double(load(args.z[row * args.dim + d])) - workspace.center[d];
        args.grad_z[row * args.dim + d] = store<T>(weight * (z - mean[d]));
      }
    }
  }
}
