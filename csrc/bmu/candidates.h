// Keeps the codes that can win a row while a search passes over the codebook. Included once per instruction level by
// kernel files (see cpu/foreach_level.h) after cpu/vector.h, so it has no include guard and includes nothing.

template <class C, int k>
class Candidates {
  using Vector = typename Simd<C>::Vector;
  static constexpr int lanes = Simd<C>::lanes;

 public:
  static constexpr int32_t kCapacity = 16;  // of the list

  C best[k];  // scores that the k best codes so far do not exceed, ascending
  C limit;    // of bmu/score_limit.h: no code with a higher score can win
  int32_t count;
  int32_t code[kCapacity];
  C score[kCapacity];

  void reset() {
    for (C& value : best) value = std::numeric_limits<C>::infinity();
    limit = std::numeric_limits<C>::infinity();
    count = 0;
    lost_ = C(NAN);
  }

  void take_all_codes() { lost_ = 0; }
  // Whether a code that can win was dropped for lack of room, so that all codes have to be scored.
  bool are_all_codes() const { return lost_ <= limit; }

  // Lowers the limit, given the least of some more scores in each lane.
  SOMVAE_ALWAYS_INLINE void lower(Vector least, const ScoreLimit<C>& limits) {
    Vector next = Vector{} + std::numeric_limits<C>::infinity();
    fold<lanes / 2>(least, next, std::make_integer_sequence<int, lanes>());
    if constexpr (k == 2) {
      const C larger = best[0] < least[0] ? least[0] : best[0];
      const C second = best[1] < next[0] ? best[1] : next[0];
      best[1] = larger < second ? larger : second;
    }
    best[0] = least[0] < best[0] ? least[0] : best[0];
    limit = limits(best[k - 1]);
  }

  void add(int32_t index, C value) {
    if (lost_ <= value) return;  // a dropped code can win if this one can
    if (count == kCapacity) drop_losers();
    if (count == kCapacity) {
      lost_ = value;
      return;
    }
    code[count] = index;
    score[count++] = value;
  }

  void drop_losers() {
    int32_t end = 0;
    for (int32_t i = 0; i < count; ++i) {
      if (!(score[i] <= limit)) continue;
      code[end] = code[i];
      score[end++] = score[i];
    }
    count = end;
  }

 private:
  C lost_;  // the least score of the codes dropped for lack of room; NaN if there are none

  // Reduces over the lanes: every lane of `least` becomes the least value of all, and every lane of `next` the second
  // least. Needs least <= next in each lane.
  template <int half, int... lane>
  static SOMVAE_ALWAYS_INLINE void fold(Vector& least, Vector& next, std::integer_sequence<int, lane...> all) {
    if constexpr (half > 0) {
      const Vector other = __builtin_shufflevector(least, least, (lane ^ half)...);
      if constexpr (k == 2) {
        const Vector other_next = __builtin_shufflevector(next, next, (lane ^ half)...);
        const Vector larger = least < other ? other : least;
        const Vector second = next < other_next ? next : other_next;
        next = larger < second ? larger : second;
      }
      least = other < least ? other : least;
      fold<half / 2>(least, next, all);
    }
  }
};
