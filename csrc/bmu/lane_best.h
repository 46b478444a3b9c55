// The best codes in each lane. Included once per instruction level by kernel files (see cpu/foreach_level.h) after
// cpu/vector.h, so it has no include guard and includes nothing.

// The best k scores in each lane of a tile's rows, over the panels visited so far.
template <class C, int tile, int k>
struct LaneBest {
  using Vector = typename Simd<C>::Vector;
  using Mask = typename Simd<C>::Mask;
  Vector score[tile][k];
  Mask index[tile][k];

  LaneBest() {
    for (int r = 0; r < tile; ++r) {
      for (int i = 0; i < k; ++i) {
        score[r][i] = Vector{} + C(NAN);
        index[r][i] = Mask{};
      }
    }
  }

  // Offers the scores s of codes i, one per lane, to row r. Codes arrive in ascending order within a lane, so equal
  // scores keep the smaller index.
  SOMVAE_ALWAYS_INLINE void offer(int r, Vector s, Mask i) {
    const Mask number = s == s;
    const Mask first = ~(score[r][0] <= s) & number;
    if constexpr (k == 2) {
      const Mask second = ~(score[r][1] <= s) & number;
      score[r][1] = first ? score[r][0] : (second ? s : score[r][1]);
      index[r][1] = first ? index[r][0] : (second ? i : index[r][1]);
    }
    score[r][0] = first ? s : score[r][0];
    index[r][0] = first ? i : index[r][0];
  }

  // Merges the lanes of row r into distance[k] and best[k], the best codes of earlier panels, whose codes are all
  // smaller.
  void join(int r, C* distance, int64_t* best) const {
    const Mask number = score[r][0] == score[r][0];
    if (lane_bits(~(distance[k - 1] <= score[r][0]) & number) == 0) return;
    BestCodes<C, int64_t, k> merged;
    for (int i = 0; i < k; ++i) {
      merged.score[i] = distance[i];
      merged.index[i] = best[i];
    }
    for (int i = 0; i < k; ++i) {
      for (int l = 0; l < Simd<C>::lanes; ++l) merged.offer(score[r][i][l], int64_t(index[r][i][l]));
    }
    for (int i = 0; i < k; ++i) {
      distance[i] = merged.score[i];
      best[i] = merged.index[i];
    }
  }
};
