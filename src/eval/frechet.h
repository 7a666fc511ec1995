// The Frechet distance between two Gaussians: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), in
// double precision, without a matrix square root and without adding anything to the covariances.
#pragma once

#include "eval/moments.h"

namespace lf {

// Both of one dimension and of two samples or more (Code::kUsage). Singular and nearly singular
// covariances, as of fewer samples than dimensions, are fine.
double frechet_distance(const Moments& a, const Moments& b);

}  // namespace lf
