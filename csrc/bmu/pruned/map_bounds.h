// Evaluates the bounds of bmu/pruned/map_index.h, for a row against codes and for rows against boxes. Included once per
// instruction level by pruned_search_cpu_kernel.h, so it has no include guard and includes nothing.

// The parts of a row's lower bounds, and the limit that they are compared with.
template <class C>
struct RowState {
  C q_lo, q_hi, limit;
  int32_t start;  // the tile that is scored first
  double error;

  // Evaluates bound (1) for the codes of a panel: `bounds` holds their q_lo and q_hi, `distances` |p_x - p_y|^2.
  // Returns a bit for each code that may win the row.
  SOMVAE_ALWAYS_INLINE unsigned near_codes(const C* bounds,
                                           const typename Simd<C>::Vector (&distances)[kPanelVectors<C>]) const {
    using Vector = typename Simd<C>::Vector;
    unsigned bits = 0;
    for (int v = 0; v < kPanelVectors<C>; ++v) {
      const Vector below = panel_vector(bounds, 0, v) - q_hi, above = q_lo - panel_vector(bounds, 1, v);
      const Vector wider = below > above ? below : above;
      const Vector gap = wider > C(0) ? wider : Vector{};
      bits |= lane_bits(distances[v] * C(1 - kSlack) + gap * gap <= limit) << v * Simd<C>::lanes;
    }
    return bits;
  }
};

// Evaluates bound (2) for several rows, one per lane.
template <class C>
struct LaneRows {
  using Vector = typename Simd<C>::Vector;
  static constexpr int rows = Simd<C>::lanes;
  Vector p[kLargestRank], q_lo, q_hi, limit;
  int64_t rank;

  // Lanes past the last row repeat it.
  LaneRows(const C* projections, const RowState<C>* states, int64_t count, int64_t rank) : rank(rank) {
    for (int l = 0; l < rows; ++l) {
      const int64_t row = std::min<int64_t>(l, count - 1);
      for (int64_t j = 0; j < rank; ++j) p[j][l] = projections[row * rank + j];
      q_lo[l] = states[row].q_lo;
      q_hi[l] = states[row].q_hi;
      limit[l] = states[row].limit;
    }
  }

  // Sets in rows_near[b] a bit for each row that must visit box b of a panel. Returns a bit for each box that some row
  // must visit.
  unsigned near_boxes(const C* boxes, unsigned (&rows_near)[kPanelCodes]) const {
    constexpr int boxes_at_once = SIMD_BYTES == 64 ? 16 : 8;
    unsigned visited = 0;
    for (int first = 0; first < kPanelCodes; first += boxes_at_once) {
      Vector sum[boxes_at_once];
#pragma GCC unroll 16
      for (int b = 0; b < boxes_at_once; ++b) sum[b] = Vector{};
      const C* feature = boxes + 2 * kPanelCodes + first;
      for (int64_t j = 0; j < rank; ++j, feature += 2 * kPanelCodes) {
        const Vector x = p[j];
#pragma GCC unroll 16
        for (int b = 0; b < boxes_at_once; ++b) {
          const Vector lo = feature[b] - Vector{}, hi = feature[kPanelCodes + b] - Vector{};  // broadcast to all lanes
          const Vector above = x > lo ? x : lo;
          const Vector difference = x - (above < hi ? above : hi);
          sum[b] += difference * difference;
        }
      }
#pragma GCC unroll 16
      for (int b = 0; b < boxes_at_once; ++b) {
        const Vector below = boxes[first + b] - q_hi, above = q_lo - boxes[kPanelCodes + first + b];
        const Vector wider = below > above ? below : above;
        const Vector gap = wider > C(0) ? wider : Vector{};
        rows_near[first + b] = lane_bits(sum[b] * C(1 - kSlack) + gap * gap <= limit);
        visited |= unsigned(rows_near[first + b] != 0) << (first + b);
      }
    }
    return visited;
  }
};
