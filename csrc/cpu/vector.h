// Vector types and operations of an instruction level. Included once per level by kernel files (see
// cpu/foreach_level.h), so it has no include guard and includes nothing.

template <class C>
struct Simd {
  typedef C Vector __attribute__((vector_size(SIMD_BYTES)));
  using Integer = std::conditional_t<sizeof(C) == 8, int64_t, int32_t>;
  typedef Integer Mask __attribute__((vector_size(SIMD_BYTES)));
  static constexpr int lanes = SIMD_BYTES / sizeof(C);
};

// Returns one bit per lane of a mask, the lowest bit for the first lane.
template <class Mask>
SOMVAE_ALWAYS_INLINE unsigned lane_bits(Mask mask) {
  [[maybe_unused]] constexpr bool wide = sizeof mask[0] == 8;
#if defined(__x86_64__) && SIMD_BYTES == 64
  return wide ? _mm512_movepi64_mask((__m512i)mask) : _mm512_movepi32_mask((__m512i)mask);
#elif defined(__x86_64__) && SIMD_BYTES == 32
  return wide ? _mm256_movemask_pd((__m256d)mask) : _mm256_movemask_ps((__m256)mask);
#elif defined(__x86_64__)
  return wide ? _mm_movemask_pd((__m128d)mask) : _mm_movemask_ps((__m128)mask);
#else
  unsigned bits = 0;
  for (size_t i = 0; i < sizeof mask / sizeof mask[0]; ++i) bits |= unsigned(mask[i] & 1) << i;
  return bits;
#endif
}

// The square root of each lane. A loop of std::sqrt would call the library to set errno, and the unmasked 512-bit
// intrinsics cause warnings about undefined lanes.
template <class Vector>
SOMVAE_ALWAYS_INLINE Vector square_roots(Vector x) {
  [[maybe_unused]] constexpr bool wide = sizeof x[0] == 8;
#if defined(__x86_64__) && SIMD_BYTES == 64
  if constexpr (wide) return (Vector)_mm512_maskz_sqrt_pd(0xff, (__m512d)x);
  return (Vector)_mm512_maskz_sqrt_ps(0xffff, (__m512)x);
#elif defined(__x86_64__) && SIMD_BYTES == 32
  if constexpr (wide) return (Vector)_mm256_sqrt_pd((__m256d)x);
  return (Vector)_mm256_sqrt_ps((__m256)x);
#elif defined(__x86_64__)
  if constexpr (wide) return (Vector)_mm_sqrt_pd((__m128d)x);
  return (Vector)_mm_sqrt_ps((__m128)x);
#else
  for (size_t i = 0; i < sizeof x / sizeof x[0]; ++i) x[i] = std::sqrt(x[i]);
  return x;
#endif
}

// Converts 2 to 8 floats to a vector of doubles. The intrinsic is for 2 floats: the compiler would convert them one by
// one.
template <class Vector>
SOMVAE_ALWAYS_INLINE Vector doubles(const float* x) {
#if defined(__x86_64__)
  if constexpr (sizeof(Vector) == 16) return (Vector)_mm_cvtps_pd((__m128)_mm_loadl_epi64((const __m128i*)x));
#endif
  typedef float Floats __attribute__((vector_size(sizeof(Vector) / 2)));
  Floats values;
  __builtin_memcpy(&values, x, sizeof values);
  return __builtin_convertvector(values, Vector);
}
