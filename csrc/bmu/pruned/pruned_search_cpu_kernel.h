// Pruned search on the CPU. The bounds and their proof are in map_index.h. Compiled once per instruction level by
// pruned_search_cpu.cpp.
//
// A thread takes its rows through these steps:
//   1. Project the rows, and find each row's first tile: that of its hint, or the one with the nearest center.
//   2. Sort the rows by first tile, which brings together rows that are close on the map. Process them in batches:
//   3. Score the first tile of every row, which gives an upper bound of the row's best distance.
//   4. List for every tile the rows that its box does not rule out, group after group.
//   5. For each tile in turn, score the listed rows that the bounds of its codes do not rule out either. These rows
//      share the tile in the cache, and their upper bounds decrease from tile to tile.
//   6. Choose among each row's candidates by exact scores.

#include "cpu/vector.h"

#include "cpu/panel_distances.h"
#include "cpu/scratch.h"

#include "bmu/candidates.h"
#include "bmu/lane_best.h"
#include "bmu/pruned/map_projection.h"

#include "bmu/decide.h"
#include "bmu/pruned/map_bounds.h"
#include "bmu/pruned/near_tiles.h"

// A batch of rows that are searched together.
template <class T, int k>
class Batch {
  using C = Compute<T>;
  // Large enough for rows to share what they read, small enough for the cache and, without projections, for 32 MiB of
  // memory per thread.
  static constexpr int64_t kMostRows = 1024, kMostListed = 1 << 23, kMostValues = 1 << 21;

 public:
  Batch(const PrunedSearchArgs<T>& args, SearchWork& work)
      : args_(args),
        map_(args.map),
        score_limit_(args.map.dim),
        bound_limit_(args.map),
        work_(work),
        most_rows_(
            std::clamp<int64_t>(std::min(kMostListed / map_.tile_count, kMostValues / std::max<int64_t>(1, map_.dim)),
                                kTileRows<C>, kMostRows)),
        candidates_(most_rows_),
        z_(most_rows_ * map_.dim),
        state_(most_rows_),
        p_(most_rows_ * map_.rank),
        all_(most_rows_),
        listed_(most_rows_ * map_.tile_count),
        listed_count_(map_.tile_count),
        visited_(map_.tile_count) {
    for (int64_t i = 0; i < most_rows_; ++i) all_[i] = static_cast<int16_t>(i);
    for (int64_t tile = 0; tile < map_.tile_count; ++tile) listed_count_[tile] = 0;
  }

  int64_t most_rows() const { return most_rows_; }

  // Searches `count` rows: row i of the batch is row rows[i] of p, bounds and start. start[rows[i]] is its first tile,
  // which must ascend with i.
  void search(int64_t first_row, const int32_t* rows, int64_t count, const int32_t* start, const C* p,
              const RowBounds<C>* bounds) {
    begin(first_row, rows, count);
    for (int64_t i = 0; i < count; ++i) {
      const RowBounds<C>& bound = bounds[rows[i]];
      constexpr C unknown = std::numeric_limits<C>::infinity();
      state_[i] = {bound.q_lo, bound.q_hi, unknown, start[rows[i]], bound.error};
      for (int64_t j = 0; j < map_.rank; ++j) p_[i * map_.rank + j] = p[rows[i] * map_.rank + j];
    }
    for (int64_t i = 0; i < count;) {
      int64_t same = i;
      while (same < count && state_[same].start == state_[i].start) ++same;
      score_tile(state_[i].start, all_.data + i, same - i);
      i = same;
    }
    for (int64_t i = 0; i < count; i += Simd<C>::lanes) list_tiles(i, std::min<int64_t>(Simd<C>::lanes, count - i));
    for (int64_t v = 0; v < visited_count_; ++v) {
      score_near_rows(visited_[v], listed_.data + visited_[v] * most_rows_, listed_count_[visited_[v]]);
      listed_count_[visited_[v]] = 0;
    }
    visited_count_ = 0;
    finish();
  }

  // Searches rows that cannot be pruned: infinite or huge rows are scored against all codes, those with a NaN against
  // none.
  void search_all(int64_t first_row, const int32_t* rows, int64_t count, const double* squared_norm) {
    begin(first_row, rows, count);
    for (int64_t i = 0; i < count; ++i) {
      if (!std::isnan(squared_norm[rows[i]])) candidates_[i].take_all_codes();
    }
    finish();
  }

 private:
  void begin(int64_t first_row, const int32_t* rows, int64_t count) {
    first_row_ = first_row;
    rows_ = rows;
    count_ = count;
    for (int64_t i = 0; i < count; ++i) {
      const T* const row = args_.z + (first_row + rows[i]) * map_.dim;
      if (i + 4 < count) {
        const char* const ahead = reinterpret_cast<const char*>(args_.z + (first_row + rows[i + 4]) * map_.dim);
        for (int64_t byte = 0; byte < map_.dim * int64_t(sizeof(T)); byte += 64) __builtin_prefetch(ahead + byte);
      }
      for (int64_t d = 0; d < map_.dim; ++d) z_[i * map_.dim + d] = load(row[d]);
      candidates_[i].reset();
    }
  }

  // Step 4 for rows [i, i + count) of the batch.
  void list_tiles(int64_t i, int64_t count) {
    const int64_t box_size = (2 + 2 * map_.rank) * kPanelCodes;
    const LaneRows<C> rows(p_.data + i * map_.rank, state_.data + i, count, map_.rank);
    const unsigned present = (1u << count) - 1;
    int64_t panels = 0;
    for (int64_t first_group = 0; first_group * kGroupTiles < map_.tile_count; first_group += kPanelCodes) {
      unsigned near[kPanelCodes];
      unsigned groups = rows.near_boxes(map_.group_boxes + first_group / kPanelCodes * box_size, near);
      ++panels;
      for (; groups != 0; groups &= groups - 1) {
        const int64_t group = first_group + __builtin_ctz(groups);
        unsigned tiles = rows.near_boxes(map_.tile_boxes + group * box_size, near);
        ++panels;
        for (; tiles != 0; tiles &= tiles - 1) {
          const int in_group = __builtin_ctz(tiles);
          list_rows(group * kGroupTiles + in_group, i, near[in_group] & present);
        }
      }
    }
    work_.screened += panels * kPanelCodes * map_.rank * count;
  }

  void list_rows(int64_t tile, int64_t i, unsigned rows) {
    int32_t& count = listed_count_[tile];
    int16_t* const list = listed_.data + tile * most_rows_;
    const bool was_empty = count == 0;
    for (; rows != 0; rows &= rows - 1) {
      const int64_t row = i + __builtin_ctz(rows);
      list[count] = static_cast<int16_t>(row);
      count += state_[row].start != tile;  // the first tile has been scored already
    }
    if (was_empty && count != 0) visited_[visited_count_++] = static_cast<int32_t>(tile);
  }

  // Step 5 for one tile and the rows listed for it.
  void score_near_rows(int64_t tile, const int16_t* members, int64_t count) {
    constexpr int rows = kTileRows<C>;
    const C* const codes = map_.projections + tile * (2 + map_.rank) * kPanelCodes;
    int16_t near[rows + kMostRows];
    int64_t near_count = 0;
    for (int64_t i = 0; i < count; i += rows) {
      RowBlock<C, rows> block;
      for (int r = 0; r < rows; ++r) {
        block.load_row(r, p_.data + members[std::min(i + r, count - 1)] * map_.rank, 0, map_.rank);
      }
      PanelScores<C, rows> distances;
      distances.accumulate(block, codes + 2 * kPanelCodes, map_.rank);
      for (int64_t r = 0; r < rows && i + r < count; ++r) {
        near[near_count] = members[i + r];
        near_count += state_[members[i + r]].near_codes(codes, distances.value[r]) != 0;
      }
    }
    work_.screened += count * kPanelCodes * map_.rank;
    score_tile(tile, near, near_count);
  }

  // Scores a tile for some rows of the batch.
  void score_tile(int64_t tile, const int16_t* members, int64_t count) {
    constexpr int full = kTileRows<C>, half = full > 1 ? full / 2 : 1;
    int64_t i = 0;
    for (; count - i > half; i += full) score_rows<full>(tile, members + i, std::min<int64_t>(full, count - i));
    for (; i < count; i += half) score_rows<half>(tile, members + i, std::min<int64_t>(half, count - i));
  }

  template <int rows>
  void score_rows(int64_t tile, const int16_t* members, int64_t count) {
    RowBlock<C, rows> block;
    PanelScores<C, rows> scores;
    for_each_depth(map_.dim, [&](int64_t d, int64_t depth) {
      for (int r = 0; r < rows; ++r) {
        block.load_row(r, z_.data + members[std::min<int64_t>(r, count - 1)] * map_.dim, d, depth);
      }
      scores.accumulate(block, map_.packed + (tile * map_.dim + d) * kPanelCodes, depth);
    });
    for (int r = 0; r < count; ++r) offer(tile, members[r], scores.value[r]);
    work_.scored += count * kTileCodes * map_.dim;
  }

  // Offers a tile's scores to a row. The scores of missing codes are NaN, which compares false.
  SOMVAE_ALWAYS_INLINE void offer(int64_t tile, int64_t row,
                                  const typename Simd<C>::Vector (&score)[kPanelVectors<C>]) {
    constexpr int lanes = Simd<C>::lanes;
    Candidates<C, k>& candidates = candidates_[row];
    typename Simd<C>::Vector least = typename Simd<C>::Vector{} + std::numeric_limits<C>::infinity();
    for (int v = 0; v < kPanelVectors<C>; ++v) least = score[v] < least ? score[v] : least;
    if (lane_bits(least <= candidates.limit) == 0) return;
    candidates.lower(least, score_limit_);
    for (int v = 0; v < kPanelVectors<C>; ++v) {
      for (unsigned bits = lane_bits(score[v] <= candidates.limit); bits != 0; bits &= bits - 1) {
        const int l = __builtin_ctz(bits);
        const int32_t code = map_.tiles[tile * kTileCodes + v * lanes + l];
        if (in_range(code, map_.codes)) candidates.add(code, score[v][l]);
      }
    }
    RowState<C>& state = state_[row];
    state.limit = bound_limit_(candidates.limit, state.error);
  }

  void finish() {
    const SearchedCodes<T> codes = {args_.codebook, map_.codes, map_.dim, 0, panel_count(map_.codes)};
    decide<k>(
        codes, candidates_.data, count_, [&](int64_t i) { return args_.z + (first_row_ + rows_[i]) * map_.dim; },
        [&](int64_t i, const BestCodes<double, int64_t, k>& best) {
          for (int n = 0; n < k; ++n) {
            args_.distance[(first_row_ + rows_[i]) * k + n] = static_cast<C>(best.score[n]);
            args_.index[(first_row_ + rows_[i]) * k + n] = best.index[n];
          }
        });
  }

  const PrunedSearchArgs<T>& args_;
  const MapIndex<C>& map_;
  const ScoreLimit<C> score_limit_;
  const BoundLimit<C> bound_limit_;
  SearchWork& work_;
  const int64_t most_rows_;
  Scratch<Candidates<C, k>> candidates_;
  Scratch<C> z_;  // [most_rows, dim] copies of the rows, which are far apart in memory and read many times
  Scratch<RowState<C>> state_;
  Scratch<C> p_;             // [most_rows, rank]
  Scratch<int16_t> all_;     // 0, 1, 2, ...
  Scratch<int16_t> listed_;  // [tile_count, most_rows] rows of the batch that must visit a tile
  Scratch<int32_t> listed_count_, visited_;
  int64_t first_row_ = 0, count_ = 0, visited_count_ = 0;
  const int32_t* rows_ = nullptr;
};

// Searches rows [first, last), whose projections and bounds are kept in scratch memory.
template <class T, int k>
void search_chunk(const PrunedSearchArgs<T>& args, Batch<T, k>& batch, int64_t first, int64_t last, SearchWork& work) {
  using C = Compute<T>;
  const MapIndex<C>& map = args.map;
  const int64_t count = last - first;
  const Scratch<C> p(count * map.rank);
  const Scratch<double> squared_norm(count);
  const Scratch<RowBounds<C>> bounds(count);
  const Scratch<int32_t> start(count), order(count);
  for_each_tile<C>(0, count, [&]<int tile>(int64_t row) {
    project_rows<tile>(map, args.z + (first + row) * map.dim, p.data + row * map.rank, squared_norm.data + row);
    if (args.hint == nullptr) {
      near_tiles<tile>(map, p.data + row * map.rank, start.data + row, work);
    }
    for (int r = 0; r < tile; ++r) {
      bounds[row + r] = row_bounds(map, squared_norm[row + r], p.data + (row + r) * map.rank);
      if (args.hint != nullptr) {
        const int32_t hinted = map.tile_of[args.hint[first + row + r]];
        start[row + r] = in_range(hinted, map.tile_count) ? hinted : 0;
      }
      if (!(squared_norm[row + r] <= map.largest_norm)) start[row + r] = int32_t(map.tile_count);  // cannot be pruned
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
    batch.search(first, order.data + i, std::min(batch.most_rows(), prunable - i), start.data, p.data, bounds.data);
  }
  for (int64_t i = prunable; i < count; i += batch.most_rows()) {
    batch.search_all(first, order.data + i, std::min(batch.most_rows(), count - i), squared_norm.data);
  }
}

template <class T, int k>
SearchWork search_map(const PrunedSearchArgs<T>& args, int64_t first, int64_t last) {
  // Small enough to bound the memory of the projections, large enough to bring together rows that are close on the map.
  const int64_t chunk = std::max<int64_t>(4096, (int64_t(1) << 16) / args.threads);
  SearchWork work;
  Batch<T, k> batch(args, work);
  for (; first < last; first += chunk) search_chunk(args, batch, first, std::min(last, first + chunk), work);
  return work;
}

template <class T>
SearchWork pruned_search(const PrunedSearchArgs<T>& args, int64_t first, int64_t last) {
  return args.k == 1 ? search_map<T, 1>(args, first, last) : search_map<T, 2>(args, first, last);
}
