#include "data/recipe/topology.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace lf {

std::vector<int> parents_of(RecipeConfig::Topology topology, int window, int s) {
  LF_CHECK(s >= 1);
  switch (topology) {
    case RecipeConfig::CHAIN:
      return {s - 1};
    case RecipeConfig::STAR:
      return {0};
    case RecipeConfig::WINDOW:
    case RecipeConfig::FULL:
      break;
  }
  std::vector<int> parents;
  const int oldest = topology == RecipeConfig::FULL ? 0 : std::max(0, s - window);
  for (int j = s - 1; j >= oldest; --j) parents.push_back(j);
  return parents;
}

NoiseTable noise_table(const NoiseLevels& levels, RecipeConfig::Topology topology, int window) {
  const int count = static_cast<int>(levels.alpha.size());
  NoiseTable table;
  table.steps.resize(levels.alpha.size());
  // CHAIN and STAR, which may be long, need no covariances to find their fresh noise.
  const bool several = topology == RecipeConfig::WINDOW || topology == RecipeConfig::FULL;
  auto& c = table.covariance;
  if (several) c.push_back({0});
  const auto covariance = [&](int j, int k) {
    return several ? c[static_cast<size_t>(std::max(j, k))][static_cast<size_t>(std::min(j, k))]
                   : levels.sigma[static_cast<size_t>(j)] * levels.sigma[static_cast<size_t>(j)];
  };
  for (int s = 1; s < count; ++s) {
    const std::vector<int> parents = parents_of(topology, window, s);
    NoiseStep& step = table.steps[static_cast<size_t>(s)];
    for (const int j : parents) {
      step.coefficients.push_back(levels.alpha[static_cast<size_t>(s)] /
                                  levels.alpha[static_cast<size_t>(j)] /
                                  static_cast<double>(parents.size()));
    }
    double inherited = 0;
    for (size_t j = 0; j < parents.size(); ++j) {
      for (size_t k = 0; k < parents.size(); ++k) {
        inherited +=
            step.coefficients[j] * step.coefficients[k] * covariance(parents[j], parents[k]);
      }
    }
    const double variance =
        levels.sigma[static_cast<size_t>(s)] * levels.sigma[static_cast<size_t>(s)];
    step.fresh = std::sqrt(std::max(0.0, variance - inherited));
    if (!several) continue;
    std::vector<double> row;
    for (int i = 0; i < s; ++i) {
      double sum = 0;
      for (size_t j = 0; j < parents.size(); ++j)
        sum += step.coefficients[j] * covariance(parents[j], i);
      row.push_back(sum);
    }
    row.push_back(variance);
    c.push_back(std::move(row));
  }
  return table;
}

}  // namespace lf
