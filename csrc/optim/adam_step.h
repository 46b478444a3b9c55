// The factors of one step of Adam, which all values of a table share, computed in double.
#pragma once
#include <cmath>

#include "optim/adam_rows.h"

namespace somvae {

template <class C>
struct AdamStep {
  C one_minus_beta1;
  C beta2;
  C one_minus_beta2;
  C rate;        // lr / (1 - beta1^step)
  C correction;  // 1 / sqrt(1 - beta2^step)
  C eps;
};

// base^exponent by squaring. On a GPU, pow() would be a function call that needs a stack.
SOMVAE_HOST_DEVICE inline double power(double base, int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent /= 2, base *= base) {
    if (exponent % 2 == 1) result *= base;
  }
  return result;
}

template <class T>
SOMVAE_HOST_DEVICE inline AdamStep<Compute<T>> adam_step(const AdamRowsArgs<T>& args) {
  using C = Compute<T>;
  const int64_t step = *args.step;
  const double lr = args.lr_value != nullptr ? *args.lr_value : args.lr;
  return {C(1 - args.beta1),
          C(args.beta2),
          C(1 - args.beta2),
          C(lr / (1 - power(args.beta1, step))),
          C(1 / sqrt(1 - power(args.beta2, step))),
          C(args.eps)};
}

}  // namespace somvae
