// The vectors of an instruction level. Included once per level by kernel files (see cpu/foreach_level.h), so it has no
// include guard and includes nothing.

template <class C>
struct Simd {
  typedef C Vector __attribute__((vector_size(SIMD_BYTES)));
  using Integer = std::conditional_t<sizeof(C) == 8, int64_t, int32_t>;
  typedef Integer Mask __attribute__((vector_size(SIMD_BYTES)));
  static constexpr int lanes = SIMD_BYTES / sizeof(C);
};

// Is any lane of a mask set?
template <class Mask>
inline __attribute__((always_inline)) bool any(Mask mask) {
  int64_t words[sizeof mask / sizeof(int64_t)], all = 0;
  __builtin_memcpy(words, &mask, sizeof words);
  for (const int64_t word : words) all |= word;
  return all != 0;
}
