// CUDA's built-in functions in host C++: arithmetic, bit casts, atomics.
#pragma once
#include <math.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

template <class A, class B>
  requires(std::is_arithmetic_v<A> && std::is_arithmetic_v<B>)
constexpr std::common_type_t<A, B> min(A a, B b) {
  using C = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<C>) {
    return std::fmin(static_cast<C>(a), static_cast<C>(b));  // prefers a number to NaN, as CUDA's min does
  } else {
    return static_cast<C>(b) < static_cast<C>(a) ? static_cast<C>(b) : static_cast<C>(a);
  }
}

template <class A, class B>
  requires(std::is_arithmetic_v<A> && std::is_arithmetic_v<B>)
constexpr std::common_type_t<A, B> max(A a, B b) {
  using C = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<C>) {
    return std::fmax(static_cast<C>(a), static_cast<C>(b));
  } else {
    return static_cast<C>(a) < static_cast<C>(b) ? static_cast<C>(b) : static_cast<C>(a);
  }
}

namespace somvae::simt {

template <class To, class From>
To bit_cast(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  memcpy(&result, &value, sizeof result);
  return result;
}

// Atomically replaces *address with update(*address) and returns the old value. As in CUDA, it orders no other access.
template <class T, class Update>
T replace(T* address, Update update) {
  T expected;
  __atomic_load(address, &expected, __ATOMIC_RELAXED);
  for (;;) {
    T desired = update(expected);
    if (__atomic_compare_exchange(address, &expected, &desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
      return expected;
    }
  }
}

}  // namespace somvae::simt

inline unsigned __float_as_uint(float value) { return ::somvae::simt::bit_cast<unsigned>(value); }
inline int __float_as_int(float value) { return ::somvae::simt::bit_cast<int>(value); }
inline float __uint_as_float(unsigned bits) { return ::somvae::simt::bit_cast<float>(bits); }
inline float __int_as_float(int bits) { return ::somvae::simt::bit_cast<float>(bits); }
inline long long __double_as_longlong(double value) { return ::somvae::simt::bit_cast<long long>(value); }
inline double __longlong_as_double(long long bits) { return ::somvae::simt::bit_cast<double>(bits); }

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }

// Never fused: kernels are compiled for the emulation without contraction.
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }

template <class T>
T __ldg(const T* address) {
  return *address;
}

template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return ::somvae::simt::replace(address, [value](T old) { return static_cast<T>(old + value); });
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  return ::somvae::simt::replace(address, [value](T old) { return value < old ? value : old; });
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return ::somvae::simt::replace(address, [value](T old) { return old < value ? value : old; });
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> compare, std::type_identity_t<T> value) {
  return ::somvae::simt::replace(address, [=](T old) { return old == compare ? value : old; });
}
