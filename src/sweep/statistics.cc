#include "sweep/statistics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace lf {

double mean_of(const std::vector<double>& values) {
  LF_CHECK(!values.empty());
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::optional<double> spread_of(const std::vector<double>& values) {
  if (values.size() < 2) return std::nullopt;
  const double mean = mean_of(values);
  double sum = 0;
  for (const double value : values) sum += (value - mean) * (value - mean);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

double student_t95(int degrees) {
  LF_CHECK(degrees >= 1);
  static constexpr std::array kTable = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646,
                                        2.3060,  2.2622, 2.2281, 2.2010, 2.1788, 2.1604, 2.1448,
                                        2.1314,  2.1199, 2.1098, 2.1009, 2.0930, 2.0860};
  if (degrees <= static_cast<int>(kTable.size())) return kTable[static_cast<size_t>(degrees - 1)];
  // Cornish and Fisher's expansion, off by less than 1e-4 from here on.
  const double z = 1.959964, n = degrees;
  const double z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
  return z + (z3 + z) / (4 * n) + (5 * z5 + 16 * z3 + 3 * z) / (96 * n * n) +
         (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * n * n * n);
}

const char* name_of(Word word) {
  switch (word) {
    case Word::kWon:
      return "won";
    case Word::kLost:
      return "lost";
    case Word::kNoDifference:
      return "no difference seen";
    case Word::kUndecided:
      return "undecided";
  }
  return "?";
}

Paired compare_pairs(const std::map<int, double>& first, const std::map<int, double>& second,
                     bool high_is_good) {
  std::vector<double> found;
  for (const auto& [seed, value] : first) {
    const auto other = second.find(seed);
    if (other != second.end()) found.push_back((value - other->second) * (high_is_good ? 1 : -1));
  }
  Paired paired{.n = static_cast<int>(found.size())};
  if (found.empty()) return paired;
  const double mean = mean_of(found);
  paired.mean = mean;
  if (paired.n < 2) return paired;
  const double reach = student_t95(paired.n - 1) * *spread_of(found) / std::sqrt(paired.n);
  paired.low = mean - reach;
  paired.high = mean + reach;
  if (paired.n < 3) return paired;
  const auto [least, most] = std::minmax_element(found.begin(), found.end());
  if (*paired.low <= 0 && *paired.high >= 0) {
    paired.word = Word::kNoDifference;
  } else if (*least > 0 || *most < 0) {
    paired.word = mean > 0 ? Word::kWon : Word::kLost;
  }
  return paired;
}

static bool has(const std::vector<Word>& words, Word word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

Word word_of_all(const std::vector<Word>& words) {
  for (const Word word : {Word::kLost, Word::kUndecided, Word::kNoDifference}) {
    if (has(words, word)) return word;
  }
  return words.empty() ? Word::kUndecided : Word::kWon;
}

Word word_agreed(const std::vector<Word>& words) {
  const bool agreed = !words.empty() && std::all_of(words.begin(), words.end(), [&](Word word) {
    return word == words.front();
  });
  return agreed ? words.front() : Word::kUndecided;
}

}  // namespace lf
