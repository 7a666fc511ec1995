// Means, spreads and paired differences over seeds, and the words that they bear.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lf {

double mean_of(const std::vector<double>& values);  // of one or more
std::optional<double> spread_of(
    const std::vector<double>& values);  // sample deviation, of two or more

// Student's t that 95 % of draws stay within, on either side.
double student_t95(int degrees);

// Won and lost: the interval leaves out 0, by three pairs or more, all of one sign.
enum class Word { kWon, kLost, kNoDifference, kUndecided };
const char* name_of(Word word);  // "won", "lost", "no difference seen", "undecided"

// Of two arms' values by seed.
struct Paired {
  int n = 0;
  std::optional<double> mean = {}, low = {},
                        high = {};  // of the differences, positive where the first is better
  Word word = Word::kUndecided;
};
Paired compare_pairs(const std::map<int, double>& first, const std::map<int, double>& second,
                     bool high_is_good);

// Of a question of several comparisons: lost by one of them, won by all.
Word word_of_all(const std::vector<Word>& words);
// Of metrics: theirs where they agree.
Word word_agreed(const std::vector<Word>& words);

}  // namespace lf
