// Computes e^x of 16 values at a time. Included once per instruction level by kernel files (see cpu/foreach_level.h),
// so it has no include guard and includes nothing.

constexpr int kLanes = 16;

// Replaces each x by e^x, to within 2 units in the last place; by 0 below x = -87.336, where e^x is subnormal. x must
// be at most about 88, which a softmax guarantees by subtracting the maximum. NaN stays NaN.
SOMVAE_ALWAYS_INLINE void exponentials(float (&x)[kLanes]) {
  using Vector = Simd<float>::Vector;
  using Mask = Simd<float>::Mask;
  for (int i = 0; i < kLanes; i += Simd<float>::lanes) {
    Vector v;
    __builtin_memcpy(&v, x + i, sizeof v);
    // e^v = 2^n e^r with n = round(v / ln 2), |r| <= ln(2) / 2. Adding 1.5 * 2^23 rounds, and leaves n in the low bits.
    constexpr float rounder = 12582912.0f;
    const Vector shifted = v * 1.44269504f + rounder;
    const Vector n = shifted - rounder;
    const Vector r = (v - n * 0.693359375f) - n * -2.12194440e-4f;  // ln 2 in two parts; n times the first is exact
    // Taylor series to r^7: its remainder is below 2^-27 of the value.
    Vector p = r * (1.0f / 5040) + (1.0f / 720);
    p = p * r + (1.0f / 120);
    p = p * r + (1.0f / 24);
    p = p * r + (1.0f / 6);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    const Mask power = (Mask)shifted << 23;  // shifts n into the exponent and the other bits out
    const Mask scaled = (Mask)p + power;
    v = v < -87.336f ? Vector{} : (v == v ? (Vector)scaled : v);
    __builtin_memcpy(x + i, &v, sizeof v);
  }
}

inline void exponentials(double (&x)[kLanes]) {
  for (double& value : x) value = std::exp(value);
}
