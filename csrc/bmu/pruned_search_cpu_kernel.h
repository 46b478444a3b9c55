// CPU pruned search: bounds and their proof are in map_index.h. Compiled once per instruction level by
// pruned_search_cpu.cpp.
//
// A thread takes its rows through these steps:
//   1. project them, and find for each a tile to begin with: its hint's, or the one nearest in the projection;
//   2. sort them by that tile, so that rows close to each other on the map come together, and take them by the batch;
//   3. score the first tile, which gives every row an upper bound of its best distance;
//   4. screen the other tiles of the map against it, by bounds (2) and (1): what is left are candidates;
//   5. score each row's most promising candidate, then all that the tighter bound still leaves, tile by tile, so that
//      the rows that visit a tile share its way into the cache.

#include "cpu/vector.h"
//
#include "cpu/panel_distances.h"
//
#include "bmu/lane_best.h"

template <class V>
struct Scratch {
  V* const data;
  explicit Scratch(int64_t count) : data(new V[count > 0 ? count : 1]) {}
  Scratch(const Scratch&) = delete;
  ~Scratch() { delete[] data; }
  V& operator[](int64_t i) const { return data[i]; }
};

constexpr double kSlack = 0x1p-11;  // a of bound (1)

template <class C>
constexpr double kRoundoff = std::numeric_limits<C>::epsilon() / 2;

// gamma_n = n u / (1 - n u), the relative error of n roundings.
inline double rounding(double n, double u) { return n * u / (1 - n * u); }

// What of a row's upper bound the bounds are compared with.
template <class C>
struct Limits {
  double score, tiny, basis;

  explicit Limits(const MapIndex<C>& map)
      : score(1 + 3 * rounding(double(map.dim + 2), kRoundoff<C>)),
        tiny(4 * double(map.dim) * std::numeric_limits<C>::min()),
        basis((1 + map.basis_error + map.basis_error * map.basis_error) * (1 + 64 * kRoundoff<C>)) {}

  double ball(C best) const { return (double(best) * score + tiny) * basis; }
  C code(double ball, double error) const {
    return static_cast<C>((ball + 2 * error * error / kSlack) * (1 + 4 * kRoundoff<C>));
  }
};

// What bounds need to know of a row besides its projection.
template <class C>
struct RowBounds {
  C q_lo, q_hi;
  double error;  // of a projected distance between the row and a code
};

template <class C>
RowBounds<C> row_bounds(const MapIndex<C>& map, double squared_norm, const C* p) {
  constexpr double u = kRoundoff<C>, exact = 0x1p-52;
  double squared_projection = 0;
  for (int64_t j = 0; j < map.rank; ++j) squared_projection += double(p[j]) * double(p[j]);
  // Sums of at most kDepth terms, then of their sums, of differences that are rounded themselves.
  const double terms = double(std::min(map.dim, kDepth) + map.dim / kDepth + 2);
  const double error =
      rounding(terms, u) * std::sqrt(double(map.rank)) * (1 + map.basis_error) * std::sqrt(squared_norm) * (1 + exact);
  const double of_norm = (4 * u + double(map.dim + 4) * exact) * squared_norm;
  const double of_projection =
      2 * std::sqrt(squared_projection) * error + error * error + (map.basis_error + 128 * exact) * squared_projection;
  const double q = squared_norm - squared_projection, uncertain = (of_norm + of_projection) * (1 + 16 * exact);
  return {static_cast<C>(std::sqrt(std::max(0.0, q - uncertain)) * (1 - 2 * u)),
          static_cast<C>(std::sqrt(std::max(0.0, q + uncertain)) * (1 + 2 * u)), error + map.code_error};
}

// p and bounds of `tile` rows; returns through `squared_norm` their |x|^2.
template <int tile, class T>
void project_rows(const MapIndex<Compute<T>>& map, const T* z, Compute<T>* p, double* squared_norm) {
  using C = Compute<T>;
  constexpr int lanes = 16;
  const int64_t panels = panel_count(map.rank);
  PanelScores<C, tile> products[kLargestRank / kPanelCodes] = {};
  double norms[tile][lanes] = {};
  RowBlock<C, tile> x;
  for_each_depth(map.dim, [&](int64_t d, int64_t depth) {
    for (int r = 0; r < tile; ++r) {
      x.load_row(r, z + r * map.dim, d, depth);
      C* const values = x.values[r];
      for (int64_t i = 0; i < depth; ++i) values[i] -= map.mean[d + i];
      for (int64_t i = depth; i % lanes != 0; ++i) values[i] = 0;
      for (int64_t i = 0; i < depth; i += lanes) {
        for (int l = 0; l < lanes; ++l) norms[r][l] += double(values[i + l]) * double(values[i + l]);
      }
    }
    for (int64_t panel = 0; panel < panels; ++panel) {
      PanelScores<C, tile> sum = {};
      sum.accumulate(x, map.basis + (panel * map.dim + d) * kPanelCodes, depth, Product());
      for (int r = 0; r < tile; ++r) {
        for (int v = 0; v < kPanelVectors<C>; ++v) products[panel].value[r][v] += sum.value[r][v];
      }
    }
  });
  for (int r = 0; r < tile; ++r) {
    for (int64_t j = 0; j < map.rank; ++j) {
      const int in_panel = static_cast<int>(j % kPanelCodes);
      p[r * map.rank + j] = products[j / kPanelCodes].value[r][in_panel / Simd<C>::lanes][in_panel % Simd<C>::lanes];
    }
    squared_norm[r] = 0;
    for (const double part : norms[r]) squared_norm[r] += part;
  }
}

// A tile of rows in the projection, and what their bounds are compared with.
template <class C, int tile>
struct ProjectedRows {
  using Vector = typename Simd<C>::Vector;
  using Mask = typename Simd<C>::Mask;
  RowBlock<C, tile> p;
  C q_lo[tile], q_hi[tile], error[tile], ball_limit[tile], code_limit[tile];

  static Vector at(const C* panel, int feature, int v) {
    Vector values;
    __builtin_memcpy(&values, panel + feature * kPanelCodes + v * Simd<C>::lanes, sizeof values);
    return values;
  }

  // The square of the gap between row r's q and the intervals of a panel.
  inline __attribute__((always_inline)) Vector gap(int r, const C* panel, int v) const {
    const Vector below = at(panel, 0, v) - q_hi[r], above = q_lo[r] - at(panel, 1, v);
    const Vector wider = below > above ? below : above;
    const Vector distance = wider > C(0) ? wider : Vector{};
    return distance * distance;
  }

  // Bound (2): one bit per ball of a panel that row r must visit.
  inline __attribute__((always_inline)) unsigned near_balls(int r, const C* panel,
                                                            const PanelScores<C, tile>& distances) const {
    unsigned bits = 0;
    for (int v = 0; v < kPanelVectors<C>; ++v) {
      const Vector room = ball_limit[r] - gap(r, panel, v);
      const Mask possible = room >= C(0);
      const Vector reach = at(panel, 2, v) + error[r] + square_root(possible ? room : Vector{});
      const Mask near = distances.value[r][v] <= reach * reach * C(1 + kSlack);
      bits |= lane_bits(near & possible) << v * Simd<C>::lanes;
    }
    return bits;
  }

  // Bound (1): the smallest among a tile's codes, infinite if it leaves none of them to row r.
  inline __attribute__((always_inline)) C nearest_code(int r, const C* panel,
                                                       const PanelScores<C, tile>& distances) const {
    Vector bound[kPanelVectors<C>];
    unsigned bits = 0;
    for (int v = 0; v < kPanelVectors<C>; ++v) {
      bound[v] = distances.value[r][v] * C(1 - kSlack) + gap(r, panel, v);
      bits |= lane_bits(bound[v] <= code_limit[r]) << v * Simd<C>::lanes;
    }
    C nearest = std::numeric_limits<C>::infinity();
    if (bits == 0) return nearest;
    for (int v = 0; v < kPanelVectors<C>; ++v) {
      for (int l = 0; l < Simd<C>::lanes; ++l) nearest = bound[v][l] < nearest ? bound[v][l] : nearest;
    }
    return nearest;
  }
};

// Rows whose best units are looked for together.
template <class T, int k>
class Batch {
  using C = Compute<T>;
  using Vector = typename Simd<C>::Vector;
  using Mask = typename Simd<C>::Mask;
  using Integer = typename Simd<C>::Integer;
  static constexpr int64_t kMostRows = 256, kMostCandidates = 1 << 20;
  static constexpr Integer kNoUnit = std::numeric_limits<int32_t>::max();

  struct Candidate {
    int32_t row, tile, next;
    C bound;
  };
  struct Lanes {  // the best k in each lane, of the tiles scored so far
    C score[k][kPanelCodes];
    Integer unit[k][kPanelCodes];
  };

 public:
  explicit Batch(const PrunedSearchArgs<T>& args, SearchWork& work)
      : args_(args),
        map_(args.map),
        limits_(args.map),
        work_(work),
        most_rows_(std::clamp<int64_t>(kMostCandidates / map_.tile_count, kTileRows<C>, kMostRows)),
        best_(most_rows_),
        ball_limit_(most_rows_),
        members_(std::max(most_rows_, int64_t(1))),
        nearest_(most_rows_),
        candidates_(most_rows_ * map_.tile_count),
        first_of_tile_(map_.tile_count),
        visited_(map_.tile_count) {
    for (int64_t tile = 0; tile < map_.tile_count; ++tile) first_of_tile_[tile] = -1;
  }

  int64_t most_rows() const { return most_rows_; }

  // rows[i]: the row's number among those projected at p and bounds; start[i]: its first tile, in ascending order.
  void search(int64_t first_row, const int32_t* rows, const int32_t* start, int64_t count, const C* p,
              const RowBounds<C>* bounds) {
    begin(first_row, rows, count);
    for (int64_t i = 0; i < count;) {
      int64_t same = i;
      for (; same < count && start[rows[same]] == start[rows[i]]; ++same) members_[same - i] = int32_t(same);
      score_tile(start[rows[i]], same - i);
      i = same;
    }
    for (int64_t i = 0; i < count; ++i) ball_limit_[i] = limits_.ball(upper_bound(i));
    candidate_count_ = 0;
    for (int64_t i = 0; i < count; i += kTileRows<C>) {
      screen(i, std::min<int64_t>(kTileRows<C>, count - i), start, p, bounds);
    }
    score_nearest_candidates();
    for (int64_t i = 0; i < count; ++i) ball_limit_[i] = limits_.ball(upper_bound(i));
    score_candidates([&](const Candidate& candidate) {
      return candidate.bound <= limits_.code(ball_limit_[candidate.row], bounds[rows_[candidate.row]].error);
    });
    finish();
  }

  // The same for rows that cannot be pruned: every tile is scored.
  void search_all(int64_t first_row, const int32_t* rows, int64_t count) {
    begin(first_row, rows, count);
    for (int64_t i = 0; i < count; ++i) members_[i] = int32_t(i);
    for (int64_t tile = 0; tile < map_.tile_count; ++tile) score_tile(tile, count);
    finish();
  }

 private:
  void begin(int64_t first_row, const int32_t* rows, int64_t count) {
    first_row_ = first_row;
    rows_ = rows;
    count_ = count;
    for (int64_t i = 0; i < count; ++i) {
      for (int n = 0; n < k; ++n) {
        for (int l = 0; l < kPanelCodes; ++l) {
          best_[i].score[n][l] = std::numeric_limits<C>::infinity();
          best_[i].unit[n][l] = kNoUnit;
        }
      }
    }
  }

  // Scores a tile for the rows in members_[0, count).
  void score_tile(int64_t tile, int64_t count) {
    constexpr int full = kTileRows<C>, half = full > 1 ? full / 2 : 1;
    int64_t i = 0;
    for (; count - i > half; i += full) score_rows<full>(tile, i, std::min<int64_t>(full, count - i));
    for (; i < count; i += half) score_rows<half>(tile, i, std::min<int64_t>(half, count - i));
  }

  template <int rows>
  void score_rows(int64_t tile, int64_t first, int64_t count) {
    RowBlock<C, rows> block;
    PanelScores<C, rows> scores = {};
    for_each_depth(map_.dim, [&](int64_t d, int64_t depth) {
      for (int r = 0; r < rows; ++r) {  // the last row fills the places of missing ones
        block.load_row(r, row(members_[first + std::min<int64_t>(r, count - 1)]), d, depth);
      }
      scores.accumulate(block, map_.packed + (tile * map_.dim + d) * kPanelCodes, depth);
    });
    for (int v = 0; v < kPanelVectors<C>; ++v) {
      Mask unit;
      for (int l = 0; l < Simd<C>::lanes; ++l) unit[l] = map_.tiles[tile * kTileCodes + v * Simd<C>::lanes + l];
      for (int r = 0; r < count; ++r) offer(best_[members_[first + r]], v, scores.value[r][v], unit);
    }
    work_.scored += rows * kTileCodes * map_.dim;
  }

  // Scores are never NaN here but for missing codes and rows with NaN, and those compare false.
  static inline __attribute__((always_inline)) void offer(Lanes& best, int v, Vector score, Mask unit) {
    for (int n = 0; n < k; ++n) {
      Vector other;
      Mask other_unit;
      __builtin_memcpy(&other, best.score[n] + v * Simd<C>::lanes, sizeof other);
      __builtin_memcpy(&other_unit, best.unit[n] + v * Simd<C>::lanes, sizeof other_unit);
      const Mask better = (score < other) | ((score == other) & (unit < other_unit));
      const Vector winner = better ? score : other;
      const Mask winning_unit = better ? unit : other_unit;
      __builtin_memcpy(best.score[n] + v * Simd<C>::lanes, &winner, sizeof winner);
      __builtin_memcpy(best.unit[n] + v * Simd<C>::lanes, &winning_unit, sizeof winning_unit);
      score = better ? other : score;  // goes on to the second place
      unit = better ? other_unit : unit;
    }
  }

  BestUnits<C, int64_t, k> join(int64_t i) const {
    BestUnits<C, int64_t, k> found;
    found.reset();
    for (int n = 0; n < k; ++n) {
      for (int l = 0; l < kPanelCodes; ++l) {
        if (best_[i].unit[n][l] != kNoUnit) found.offer(best_[i].score[n][l], int64_t(best_[i].unit[n][l]));
      }
    }
    return found;
  }

  // The k-th best score so far; infinite if there are fewer.
  C upper_bound(int64_t i) const {
    if constexpr (k == 1) {
      C least = best_[i].score[0][0];
      for (int l = 1; l < kPanelCodes; ++l) least = std::min(least, best_[i].score[0][l]);
      return least;
    } else {
      const C second = join(i).score[1];
      return second == second ? second : std::numeric_limits<C>::infinity();
    }
  }

  // Steps down from groups over tiles to codes for rows [i, i + count) of the batch, and lists the candidates.
  void screen(int64_t i, int64_t count, const int32_t* start, const C* p, const RowBounds<C>* bounds) {
    constexpr int tile_rows = kTileRows<C>;
    const int64_t rank = map_.rank, ball_size = (3 + rank) * kPanelCodes, code_size = (2 + rank) * kPanelCodes;
    ProjectedRows<C, tile_rows> rows;
    for (int r = 0; r < tile_rows; ++r) {
      const int64_t member = i + std::min<int64_t>(r, count - 1);
      const RowBounds<C>& bound = bounds[rows_[member]];
      rows.p.load_row(r, p + rows_[member] * rank, 0, rank);
      rows.q_lo[r] = bound.q_lo;
      rows.q_hi[r] = bound.q_hi;
      rows.error[r] = static_cast<C>(bound.error * (1 + 2 * kRoundoff<C>));
      rows.ball_limit[r] = static_cast<C>(ball_limit_[member] * (1 + 2 * kRoundoff<C>));
      rows.code_limit[r] = limits_.code(ball_limit_[member], bound.error);
      nearest_[member] = -1;
    }
    int64_t panels = 0;
    for (int64_t first_group = 0; first_group * kGroupTiles < map_.tile_count; first_group += kPanelCodes) {
      const C* const group_balls = map_.group_balls + first_group / kPanelCodes * ball_size;
      unsigned groups = near_any(rows, group_balls, count, nullptr);
      ++panels;
      for (; groups != 0; groups &= groups - 1) {
        const int64_t group = first_group + __builtin_ctz(groups);
        unsigned near[tile_rows];
        unsigned tiles = near_any(rows, map_.tile_balls + group * ball_size, count, near);
        ++panels;
        for (; tiles != 0; tiles &= tiles - 1) {
          const int in_group = __builtin_ctz(tiles);
          const int64_t tile = group * kGroupTiles + in_group;
          const C* const codes = map_.projections + tile * code_size;
          PanelScores<C, tile_rows> distances = {};
          distances.accumulate(rows.p, codes + 2 * kPanelCodes, rank);
          ++panels;
          for (int r = 0; r < count; ++r) {
            if (!(near[r] >> in_group & 1) || start[rows_[i + r]] == tile) continue;
            const C bound = rows.nearest_code(r, codes, distances);
            if (bound <= rows.code_limit[r]) add_candidate(i + r, tile, bound);
          }
        }
      }
    }
    work_.screened += panels * kPanelCodes * rank * tile_rows;
  }

  template <int tile_rows>
  unsigned near_any(const ProjectedRows<C, tile_rows>& rows, const C* balls, int64_t count, unsigned* near) {
    PanelScores<C, tile_rows> distances = {};
    distances.accumulate(rows.p, balls + 3 * kPanelCodes, map_.rank);
    unsigned any = 0;
    for (int r = 0; r < count; ++r) {
      const unsigned bits = rows.near_balls(r, balls, distances);
      if (near != nullptr) near[r] = bits;
      any |= bits;
    }
    return any;
  }

  void add_candidate(int64_t row, int64_t tile, C bound) {
    if (nearest_[row] < 0 || bound < candidates_[nearest_[row]].bound) nearest_[row] = int32_t(candidate_count_);
    candidates_[candidate_count_++] = {int32_t(row), int32_t(tile), -1, bound};
  }

  // Scores the candidates that `wanted` accepts, tile by tile.
  template <class Wanted>
  void score_candidates(Wanted wanted) {
    int64_t visited = 0;
    for (int64_t c = 0; c < candidate_count_; ++c) {
      Candidate& candidate = candidates_[c];
      if (candidate.row < 0 || !wanted(candidate)) continue;
      enter(int32_t(c), visited);
    }
    score_entered(visited);
  }

  void score_nearest_candidates() {
    int64_t visited = 0;
    for (int64_t i = 0; i < count_; ++i) {
      if (nearest_[i] >= 0) enter(nearest_[i], visited);
    }
    score_entered(visited);
    for (int64_t i = 0; i < count_; ++i) {
      if (nearest_[i] >= 0) candidates_[nearest_[i]].row = -1;  // done with
    }
  }

  void enter(int32_t c, int64_t& visited) {
    int32_t& first = first_of_tile_[candidates_[c].tile];
    if (first < 0) visited_[visited++] = candidates_[c].tile;
    candidates_[c].next = first;
    first = c;
  }

  void score_entered(int64_t visited) {
    for (int64_t v = 0; v < visited; ++v) {
      int64_t count = 0;
      for (int32_t c = first_of_tile_[visited_[v]]; c >= 0; c = candidates_[c].next) {
        members_[count++] = candidates_[c].row;
      }
      first_of_tile_[visited_[v]] = -1;
      score_tile(visited_[v], count);
    }
  }

  void finish() {
    for (int64_t i = 0; i < count_; ++i) {
      const BestUnits<C, int64_t, k> found = join(i);
      for (int n = 0; n < k; ++n) {
        args_.distance[(first_row_ + rows_[i]) * k + n] = found.score[n];
        args_.index[(first_row_ + rows_[i]) * k + n] = found.index[n];
      }
    }
  }

  const T* row(int64_t i) const { return args_.z + (first_row_ + rows_[i]) * map_.dim; }

  const PrunedSearchArgs<T>& args_;
  const MapIndex<C>& map_;
  const Limits<C> limits_;
  SearchWork& work_;
  const int64_t most_rows_;
  Scratch<Lanes> best_;
  Scratch<double> ball_limit_;
  Scratch<int32_t> members_, nearest_;
  Scratch<Candidate> candidates_;
  Scratch<int32_t> first_of_tile_, visited_;
  int64_t first_row_ = 0, count_ = 0, candidate_count_ = 0;
  const int32_t* rows_ = nullptr;
};

// The tile whose ball's centre is nearest, among those of the nearest group.
template <int tile, class C>
void nearest_tiles(const MapIndex<C>& map, const C* p, int32_t* start, SearchWork& work) {
  using Mask = typename Simd<C>::Mask;
  constexpr int lanes = Simd<C>::lanes;
  const int64_t ball_size = (3 + map.rank) * kPanelCodes, groups = map.tile_count / kGroupTiles;
  Mask lane;
  for (int l = 0; l < lanes; ++l) lane[l] = l;
  RowBlock<C, tile> rows;
  for (int r = 0; r < tile; ++r) rows.load_row(r, p + r * map.rank, 0, map.rank);
  LaneBest<C, tile, 1> best_group;
  for (int64_t panel = 0; panel < panel_count(groups); ++panel) {
    PanelScores<C, tile> distances = {};
    distances.accumulate(rows, map.group_balls + panel * ball_size + 3 * kPanelCodes, map.rank);
    for (int v = 0; v < kPanelVectors<C>; ++v) {
      const Mask group = lane + static_cast<typename Simd<C>::Integer>(panel * kPanelCodes + v * lanes);
      for (int r = 0; r < tile; ++r) best_group.offer(r, distances.value[r][v], group);
    }
  }
  for (int r = 0; r < tile; ++r) {
    C distance = NAN;
    int64_t group = 0;
    best_group.join(r, &distance, &group);
    RowBlock<C, 1> row;
    row.load_row(0, p + r * map.rank, 0, map.rank);
    PanelScores<C, 1> distances = {};
    distances.accumulate(row, map.tile_balls + group * ball_size + 3 * kPanelCodes, map.rank);
    LaneBest<C, 1, 1> best_tile;
    for (int v = 0; v < kPanelVectors<C>; ++v) {
      best_tile.offer(0, distances.value[0][v], lane + static_cast<typename Simd<C>::Integer>(v * lanes));
    }
    distance = NAN;
    int64_t in_group = 0;
    best_tile.join(0, &distance, &in_group);
    start[r] = static_cast<int32_t>(group * kGroupTiles + in_group);
  }
  work.screened += (panel_count(groups) + 1) * kPanelCodes * map.rank * tile;
}

// Rows [first, last), as many as the scratch memory is made for.
template <class T, int k>
void search_chunk(const PrunedSearchArgs<T>& args, Batch<T, k>& batch, int64_t first, int64_t last, SearchWork& work) {
  using C = Compute<T>;
  const MapIndex<C>& map = args.map;
  const int64_t count = last - first;
  const Scratch<C> p(count * map.rank);
  const Scratch<RowBounds<C>> bounds(count);
  const Scratch<int32_t> start(count), order(count);
  for_each_tile<C>(0, count, [&]<int tile>(int64_t row) {
    double squared_norm[tile];
    project_rows<tile>(map, args.z + (first + row) * map.dim, p.data + row * map.rank, squared_norm);
    nearest_tiles<tile>(map, p.data + row * map.rank, start.data + row, work);
    for (int r = 0; r < tile; ++r) {
      bounds[row + r] = row_bounds(map, squared_norm[r], p.data + (row + r) * map.rank);
      if (args.hint != nullptr && in_range(args.hint[first + row + r], map.units)) {
        const int32_t hinted = map.tile_of[args.hint[first + row + r]];
        if (in_range(hinted, map.tile_count)) start[row + r] = hinted;
      }
      if (!(squared_norm[r] <= map.largest_norm)) start[row + r] = int32_t(map.tile_count);  // cannot be pruned
    }
  });
  work.projected += count * map.dim * panel_count(map.rank) * kPanelCodes;

  // Counting sort by first tile.
  const Scratch<int32_t> next(map.tile_count + 2);
  for (int64_t tile = 0; tile < map.tile_count + 2; ++tile) next[tile] = 0;
  for (int64_t row = 0; row < count; ++row) ++next[start[row] + 1];
  for (int64_t tile = 0; tile <= map.tile_count; ++tile) next[tile + 1] += next[tile];
  const int64_t prunable = next[map.tile_count];
  for (int64_t row = 0; row < count; ++row) order[next[start[row]]++] = int32_t(row);

  for (int64_t i = 0; i < prunable; i += batch.most_rows()) {
    batch.search(first, order.data + i, start.data, std::min(batch.most_rows(), prunable - i), p.data, bounds.data);
  }
  for (int64_t i = prunable; i < count; i += batch.most_rows()) {
    batch.search_all(first, order.data + i, std::min(batch.most_rows(), count - i));
  }
}

template <class T, int k>
SearchWork search_map(const PrunedSearchArgs<T>& args, int64_t first, int64_t last) {
  constexpr int64_t chunk = 1 << 16;  // rows: bounds the memory of their projections, and still groups them well
  SearchWork work;
  Batch<T, k> batch(args, work);
  for (; first < last; first += chunk) search_chunk(args, batch, first, std::min(last, first + chunk), work);
  return work;
}

template <class T>
SearchWork pruned_search(const PrunedSearchArgs<T>& args, int64_t first, int64_t last) {
  return args.k == 1 ? search_map<T, 1>(args, first, last) : search_map<T, 2>(args, first, last);
}
