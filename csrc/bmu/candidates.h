// The codes that can win a row, as a search goes over the codes. Included once per instruction level by kernel files
// (see cpu/foreach_level.h) after cpu/vector.h, so it has no include guard and includes nothing.

template <class C, int k>
struct Candidates {
  static constexpr int kMost = 16;
  static constexpr int32_t kAllCodes = kMost + 1;  // as a count: too many to list

  C best[k];  // scores that the k best codes so far do not exceed, ascending
  C limit;    // of bmu/score_limit.h: no code with a higher score can win
  int32_t count;
  int32_t code[kMost];
  C score[kMost];

  void reset() {
    for (C& value : best) value = std::numeric_limits<C>::infinity();
    limit = std::numeric_limits<C>::infinity();
    count = 0;
  }

  void take_all_codes() {
    limit = -1;  // below every score: nothing comes any more
    count = kAllCodes;
  }

  // Scores of other codes, of which `least` are the least in each lane.
  inline __attribute__((always_inline)) void lower(typename Simd<C>::Vector least, const ScoreLimit<C>& limits) {
    constexpr int lanes = Simd<C>::lanes;
    C first[lanes], second[lanes];
    __builtin_memcpy(first, &least, sizeof first);
    for (int l = 0; l < lanes; ++l) second[l] = std::numeric_limits<C>::infinity();
#pragma GCC unroll 4
    for (int half = lanes / 2; half > 0; half /= 2) {
      for (int l = 0; l < half; ++l) merge(first[l], second[l], first[l + half], second[l + half]);
    }
    C so_far = k == 2 ? best[k - 1] : std::numeric_limits<C>::infinity();
    merge(best[0], so_far, first[0], second[0]);
    if constexpr (k == 2) best[1] = so_far;
    limit = limits(best[k - 1]);
  }

  void add(int32_t unit, C value) {
    if (count == kMost) drop_losers();
    if (count >= kMost) return take_all_codes();
    code[count] = unit;
    score[count++] = value;
  }

  void drop_losers() {
    int32_t kept = 0;
    for (int32_t i = 0; i < count; ++i) {
      if (!(score[i] <= limit)) continue;
      code[kept] = code[i];
      score[kept++] = score[i];
    }
    count = kept;
  }

 private:
  // The two least of (first, second) and (other, next), both ascending.
  static inline __attribute__((always_inline)) void merge(C& first, C& second, C other, C next) {
    if constexpr (k == 2) {
      const C larger = first < other ? other : first;
      const C smaller_second = second < next ? second : next;
      second = larger < smaller_second ? larger : smaller_second;
    }
    first = other < first ? other : first;
  }
};
