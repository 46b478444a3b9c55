// Finds a tile near each row, in which the row's search begins. Included once per instruction level by
// pruned_search_cpu_kernel.h, so it has no include guard and includes nothing.

// Enough panels to hide latency by independent sums.
template <class C>
constexpr int kPanelsAtOnce = kPanelVectors<C> < 8 ? 8 / kPanelVectors<C> : 1;

// Squared distances of one row to the codes of several panels.
template <class C>
struct RowDistances {
  using Vector = typename Simd<C>::Vector;
  Vector value[kPanelsAtOnce<C>][kPanelVectors<C>];

  SOMVAE_ALWAYS_INLINE RowDistances(const C* row, const C* const (&panels)[kPanelsAtOnce<C>], int64_t dim) {
    Vector sum[kPanelsAtOnce<C>][kPanelVectors<C>];
#pragma GCC unroll 16
    for (int i = 0; i < kPanelsAtOnce<C>; ++i) {
#pragma GCC unroll 16
      for (int v = 0; v < kPanelVectors<C>; ++v) sum[i][v] = Vector{};
    }
    for (int64_t d = 0; d < dim; ++d) {
#pragma GCC unroll 16
      for (int i = 0; i < kPanelsAtOnce<C>; ++i) {
#pragma GCC unroll 16
        for (int v = 0; v < kPanelVectors<C>; ++v) {
          const Vector difference = panel_vector(panels[i], d, v) - row[d];
          sum[i][v] += difference * difference;
        }
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kPanelsAtOnce<C>; ++i) {
#pragma GCC unroll 16
      for (int v = 0; v < kPanelVectors<C>; ++v) value[i][v] = sum[i][v];
    }
  }
};

// The nearest center of each row in each lane, over the centers of several panels.
template <int rows, class C>
struct NearestCenters {
  LaneBest<C, rows, 1> best[kPanelVectors<C>];

  NearestCenters(const MapIndex<C>& map, const RowBlock<C, rows>& block, const C* centers, int64_t panels) {
    using Mask = typename Simd<C>::Mask;
    constexpr int lanes = Simd<C>::lanes;
    Mask lane;
    for (int l = 0; l < lanes; ++l) lane[l] = l;
    for (int64_t panel = 0; panel < panels; ++panel) {
      PanelScores<C, rows> distances;
      distances.accumulate(block, centers + panel * map.rank * kPanelCodes, map.rank);
      for (int v = 0; v < kPanelVectors<C>; ++v) {
        const Mask number = lane + static_cast<typename Simd<C>::Integer>(panel * kPanelCodes + v * lanes);
        for (int r = 0; r < rows; ++r) best[v].offer(r, distances.value[r][v], number);
      }
    }
  }
};

// Finds the tile with the nearest center for each of `rows` rows. In a map of many groups, searches only the groups
// with the nearest centers, one group per lane.
template <int rows, class C>
void near_tiles(const MapIndex<C>& map, const C* p, int32_t* start, SearchWork& work) {
  constexpr int lanes = Simd<C>::lanes, panels_at_once = kPanelsAtOnce<C>;
  constexpr int64_t few_groups = 64;
  const int64_t size = map.rank * kPanelCodes, groups = map.tile_count / kGroupTiles;
  RowBlock<C, rows> block;
  for (int r = 0; r < rows; ++r) block.load_row(r, p + r * map.rank, 0, map.rank);
  if (groups <= few_groups) {
    const NearestCenters<rows, C> nearest(map, block, map.tile_centers, groups);
    work.screened += groups * size * rows;
    for (int r = 0; r < rows; ++r) {
      C distance = NAN;
      int64_t tile = 0;
      for (const LaneBest<C, rows, 1>& best : nearest.best) best.join(r, &distance, &tile);
      start[r] = static_cast<int32_t>(tile);
    }
    return;
  }
  const int64_t panels = panel_count(groups);
  const NearestCenters<rows, C> nearest(map, block, map.group_centers, panels);
  work.screened += (panels + kPanelCodes) * size * rows;
  for (int r = 0; r < rows; ++r) {
    C distance = std::numeric_limits<C>::infinity();
    start[r] = 0;
    for (int first = 0; first < kPanelCodes; first += panels_at_once) {
      int64_t group[panels_at_once];
      const C* centers[panels_at_once];
      for (int n = 0; n < panels_at_once; ++n) {
        group[n] = nearest.best[(first + n) / lanes].index[r][0][(first + n) % lanes];
        centers[n] = map.tile_centers + group[n] * size;
      }
      const RowDistances<C> distances(p + r * map.rank, centers, map.rank);
      for (int n = 0; n < panels_at_once; ++n) {
        for (int v = 0; v < kPanelVectors<C>; ++v) {
          for (unsigned bits = lane_bits(distances.value[n][v] < distance); bits != 0; bits &= bits - 1) {
            const int l = __builtin_ctz(bits);
            if (!(distances.value[n][v][l] < distance)) continue;
            distance = distances.value[n][v][l];
            start[r] = static_cast<int32_t>(group[n] * kGroupTiles + v * lanes + l);
          }
        }
      }
    }
  }
}
