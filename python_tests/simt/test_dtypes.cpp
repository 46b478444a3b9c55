// dtypes.h: the 16-bit types against their definition, for every bit pattern.
#include <cmath>

#include "dtypes.h"
#include "harness.h"

using namespace somvae;
using namespace somvae::test;

namespace {

// The number encoded by sign, exponent and fraction bits.
double decode(uint32_t bits, int exponent_bits, int fraction_bits) {
  const uint32_t exponent_mask = (1u << exponent_bits) - 1, fraction_mask = (1u << fraction_bits) - 1;
  const uint32_t exponent = bits >> fraction_bits & exponent_mask, fraction = bits & fraction_mask;
  const int bias = static_cast<int>(exponent_mask >> 1);
  const double sign = bits >> (exponent_bits + fraction_bits) & 1 ? -1 : 1;
  if (exponent == exponent_mask) return fraction ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp(fraction + (1u << fraction_bits), static_cast<int>(exponent) - bias - fraction_bits);
}

template <class T>
void check(Report& report, int exponent_bits) {
  const int fraction_bits = 15 - exponent_bits;
  report.group(std::string(dtype_name<T>()) + ", load and store");
  const uint16_t infinity = static_cast<uint16_t>(((1u << exponent_bits) - 1) << fraction_bits);
  for (uint32_t bits = 0; bits < 0x10000u; ++bits) {
    const T stored = {static_cast<uint16_t>(bits)};
    const double value = decode(bits, exponent_bits, fraction_bits);
    const std::string what = "bits " + std::to_string(bits);
    if (std::isnan(value)) {
      report.require(std::isnan(load(stored)) && std::isnan(load(store<T>(value))), what + ": NaN must stay NaN");
      continue;
    }
    report.require(load(stored) == value && std::signbit(load(stored)) == std::signbit(value), what + ": load");
    report.require(store<T>(value).bits == bits, what + ": store does not give the bits back");
    if ((bits & 0x7fff) >= infinity) continue;
    // Midway between this number and the next (or where the next would be), ties go to the even one.
    const bool largest = (bits & 0x7fff) == infinity - 1u;
    const double step = value - decode(bits - 1, exponent_bits, fraction_bits);
    const double next = largest ? value + step : decode(bits + 1, exponent_bits, fraction_bits);
    const double middle = (value + next) / 2;
    const uint16_t even = static_cast<uint16_t>(bits % 2 == 0 ? bits : bits + 1);
    report.require(store<T>(middle).bits == even, what + ": a tie must go to the even neighbor");
    report.require(store<T>(std::nextafterf(static_cast<float>(middle), static_cast<float>(value))).bits == bits,
                   what + ": below the middle");
    report.require(store<T>(std::nextafterf(static_cast<float>(middle), static_cast<float>(next))).bits == bits + 1,
                   what + ": above the middle");
  }
}

}  // namespace

int main() {
  Report report;
  check<Float16>(report, 5);
  check<BFloat16>(report, 8);
  return report.finish();
}
