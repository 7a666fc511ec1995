#include "data/recipe/exact_math.h"

#include <cmath>

namespace lf {

// x = k ln 2 + r with |r| <= ln 2 / 2, Taylor's series of e^r.
double exact_exp(double x) {
  constexpr double kLn2High = 0x1.62e42fee00000p-1, kLn2Low = 0x1.a39ef35793c76p-33;
  const double k = std::floor(x * 0x1.71547652b82fep+0 + 0.5);
  const double r = (x - k * kLn2High) - k * kLn2Low;
  double sum = 1;
  for (int n = 15; n >= 1; --n) sum = 1 + sum * r / n;
  return std::ldexp(sum, static_cast<int>(k));
}

// x = 2^e m with m near 1, ln m = 2 artanh((m - 1) / (m + 1)).
double exact_log(double x) {
  constexpr double kLn2High = 0x1.62e42fee00000p-1, kLn2Low = 0x1.a39ef35793c76p-33;
  int e = 0;
  double m = std::frexp(x, &e);
  if (m < 0x1.6a09e667f3bcdp-1) {
    m *= 2;
    --e;
  }
  const double t = (m - 1) / (m + 1), square = t * t;
  double sum = 0;
  for (int n = 25; n >= 1; n -= 2) sum = sum * square + 1.0 / n;
  return e * kLn2High + (2 * t * sum + e * kLn2Low);
}

double exact_pow(double x, double y) { return y == 0 ? 1 : exact_exp(y * exact_log(x)); }

// The angle is reduced to the first octant in integers, then Taylor's series.
double exact_cos_pi(int64_t p, int64_t q) {
  p %= 2 * q;
  if (p < 0) p += 2 * q;
  if (p > q) p = 2 * q - p;  // cos(2 pi - a) = cos a
  const bool negative = 2 * p > q;
  if (negative) p = q - p;  // cos(pi - a) = -cos a
  const bool sine = 4 * p > q;
  const double fraction =  // of a half turn
      sine ? static_cast<double>(q - 2 * p) / static_cast<double>(2 * q)
           : static_cast<double>(p) / static_cast<double>(q);
  const double x = 0x1.921fb54442d18p+1 * fraction, square = x * x;
  double sum = 1;
  for (int n = sine ? 19 : 18; n >= 2; n -= 2) sum = 1 - sum * square / (n * (n - 1));
  if (sine) sum *= x;
  return negative ? -sum : sum;
}

}  // namespace lf
