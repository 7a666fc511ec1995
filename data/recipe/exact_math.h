// exp, ln and cosine made of + - * / and exact scalings only, so that tables of kernels and
// schedules have the same bits with every C library. Accurate to a few units in the last place; not
// fast: for preparing a recipe, not for pixels.
#pragma once

#include <cstdint>

namespace lf {

double exact_exp(double x);                 // |x| < 700
double exact_log(double x);                 // x > 0, normal
double exact_pow(double x, double y);       // exp(y ln x)
double exact_cos_pi(int64_t p, int64_t q);  // cos(pi p / q), q > 0

}  // namespace lf
