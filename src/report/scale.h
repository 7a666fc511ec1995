// Numbers for people, and axes: where their ticks stand and where a value falls.
#pragma once

#include <string>
#include <vector>

namespace lf {

std::string short_number(double value);    // four significant digits; "not finite"
std::string compact_number(double value);  // "12.8k", "1.5M", "3.2G": three digits and a prefix
std::string whole_number(double value);    // "251,223"; of more than nine digits compact; 0: ""
// "25.69 ± 0.09": both to the spread's two first digits.
std::string with_spread(double mean, double spread);

struct Tick {
  double value = 0;
  std::string label;
};

// An axis over [low, high], widened to something that can be drawn if that is empty.
class Scale {
 public:
  Scale(double low, double high, bool logarithmic);
  double low() const { return low_; }
  double high() const { return high_; }
  bool logarithmic() const { return logarithmic_; }
  // 0 at low(), 1 at high().
  double place(double value) const;
  // About `count` of them: 1, 2 or 5 times a power of ten, or the powers of ten alone.
  std::vector<Tick> ticks(int count) const;

 private:
  double low_, high_;
  bool logarithmic_;
};

}  // namespace lf
