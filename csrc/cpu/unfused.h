// Arithmetic that is rounded operation by operation. Included once per instruction level by kernel files (see
// cpu/foreach_level.h) after cpu/vector.h, so it has no include guard and includes nothing.

// A product as it is once rounded: the compiler, which may fuse a multiplication with an addition (setup.py), cannot
// see through this.
template <class Value>
inline __attribute__((always_inline)) Value unfused(Value product) {
#if defined(__x86_64__)
  asm("" : "+v"(product));
#elif defined(__aarch64__)
  asm("" : "+w"(product));
#else
  asm("" : "+m"(product));
#endif
  return product;
}

struct UnfusedSquaredDifference {
  template <class Vector, class C>
  inline __attribute__((always_inline)) void operator()(Vector& sum, Vector codes, C row) const {
    const Vector difference = codes - row;
    sum += unfused(difference * difference);
  }
};
