// Named numbers, each given or computed by a formula of the ones before it. The formula that people
// read is the one that is evaluated.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lf {

struct Quantity {
  std::string name;  // "step_seconds"
  double value = 0;
  std::string formula;  // "batch / images_per_s"; "" of one that is given
  std::string about;    // where a given one comes from, or what a computed one is
};

class Quantities {
 public:
  void give(const std::string& name, double value, const std::string& about);
  // + - * / ( ), min, max, ceil, floor and log2 of numbers and known names. A name that is not
  // known or a formula that is none is a bug.
  void compute(const std::string& name, const std::string& formula, const std::string& about);

  bool has(std::string_view name) const;
  double operator[](std::string_view name) const;
  const std::vector<Quantity>& all() const { return all_; }

 private:
  std::vector<Quantity> all_;
};

}  // namespace lf
