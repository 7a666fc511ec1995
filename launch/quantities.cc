#include "launch/quantities.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "base/error.h"
#include "base/text.h"

namespace lf {
namespace {

// Recursive descent: sum = product {+- product}, product = factor {*/ factor}.
class Evaluation {
 public:
  Evaluation(std::string_view text, const Quantities& known) : text_(text), known_(known) {}

  double value() {
    const double out = sum();
    LF_CHECK(at_ == text_.size(), "formula ", text_, " does not end at ", at_);
    return out;
  }

 private:
  bool take(char c) {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  template <typename Belongs>
  std::string_view take_while(Belongs belongs) {
    take('\0');  // skips spaces
    const size_t begin = at_;
    while (at_ < text_.size() && belongs(static_cast<unsigned char>(text_[at_]))) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  double sum() {
    double out = product();
    for (;;) {
      if (take('+')) {
        out += product();
      } else if (take('-')) {
        out -= product();
      } else {
        return out;
      }
    }
  }

  double product() {
    double out = factor();
    for (;;) {
      if (take('*')) {
        out *= factor();
      } else if (take('/')) {
        out /= factor();
      } else {
        return out;
      }
    }
  }

  double factor() {
    if (take('(')) {
      const double out = sum();
      LF_CHECK(take(')'), "formula ", text_, " lacks )");
      return out;
    }
    const std::string_view number =
        take_while([](unsigned char c) { return std::isdigit(c) != 0 || c == '.'; });
    if (!number.empty()) {
      double out = 0;
      LF_CHECK(parse(number, &out), "formula ", text_, " has no number ", number);
      return out;
    }
    const std::string_view name =
        take_while([](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
    return take('(') ? call(name) : known_[name];
  }

  double call(std::string_view function) {
    std::vector<double> of = {sum()};
    while (take(',')) of.push_back(sum());
    LF_CHECK(take(')'), "formula ", text_, " lacks )");
    if (function == "min") return *std::min_element(of.begin(), of.end());
    if (function == "max") return *std::max_element(of.begin(), of.end());
    if (function == "ceil") return std::ceil(of[0]);
    if (function == "floor") return std::floor(of[0]);
    LF_CHECK(function == "log2", "formula ", text_, " has no function ", function);
    return std::log2(of[0]);
  }

  const std::string_view text_;
  const Quantities& known_;
  size_t at_ = 0;
};

}  // namespace

void Quantities::give(const std::string& name, double value, const std::string& about) {
  LF_CHECK(!has(name), "two quantities ", name);
  all_.push_back({name, value, "", about});
}

void Quantities::compute(const std::string& name, const std::string& formula,
                         const std::string& about) {
  LF_CHECK(!has(name), "two quantities ", name);
  all_.push_back({name, Evaluation(formula, *this).value(), formula, about});
}

bool Quantities::has(std::string_view name) const {
  return std::any_of(all_.begin(), all_.end(),
                     [&](const Quantity& quantity) { return quantity.name == name; });
}

double Quantities::operator[](std::string_view name) const {
  for (const Quantity& quantity : all_) {
    if (quantity.name == name) return quantity.value;
  }
  LF_CHECK(false, "no quantity ", name);
}

}  // namespace lf
