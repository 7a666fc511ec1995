// Captions of moving digits: what each digit is and where it goes first, as words and as vectors in
// the place of a text encoder's. Equal words have equal vectors in every store. Not a text encoder:
// the vectors are random and know nothing of meaning.
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/random.h"
#include "data/sources/kinds.h"

namespace lf {
namespace {

constexpr int kWordsOfADigit = 2;
constexpr int kWidth = 32;  // of a word's vector
constexpr std::array kDigits = {"zero", "one",   "two",   "three", "four", "five",
                                "six",  "seven", "eight", "nine",  "digit"};
// Clockwise from the right; a digit that stays has the last.
constexpr std::array kDirections = {"right",   "down-right", "down",     "down-left", "left",
                                    "up-left", "up",         "up-right", "still"};

// The eighth of the circle that a movement belongs to; y grows downwards.
size_t direction_of(double dx, double dy) {
  constexpr double kSteep = 2.414213562373095;  // the tangent of 67.5 degrees
  if (dx == 0 && dy == 0) return 8;
  if (std::abs(dx) > kSteep * std::abs(dy)) return dx > 0 ? 0 : 4;
  if (std::abs(dy) > kSteep * std::abs(dx)) return dy > 0 ? 2 : 6;
  if (dy > 0) return dx > 0 ? 1 : 3;
  return dx > 0 ? 7 : 5;
}

// Adds N(0, 1/2) values of stream `a` to a vector: the sum of a word's and its place's is N(0, 1).
void add_vector(uint64_t a, uint32_t kind, float* vector) {
  std::array<float, kWidth> values;
  normal({.purpose = Purpose::kGenerated, .a = a, .b = kind, .c = 1}, 0, kWidth, values.data());
  for (size_t i = 0; i < kWidth; ++i) vector[i] += 0.70710678F * values[i];
}

class Captioned : public Source {
 public:
  Captioned(std::unique_ptr<Source> digits, size_t count)
      : digits_(std::move(digits)), count_(count) {}

  ClipShape shape() const override { return digits_->shape(); }
  uint64_t size() const override { return digits_->size(); }
  std::string name_of(uint64_t index) const override { return digits_->name_of(index); }

  std::vector<SideColumn> side_columns() const override {
    std::vector<SideColumn> columns = digits_->side_columns();
    columns.push_back(
        {SideColumn::Kind::kFloat, "caption", static_cast<int>(count_) * kWordsOfADigit * kWidth});
    columns.push_back({SideColumn::Kind::kText, "words"});
    return columns;
  }

  Sample load(uint64_t index) const override {
    Sample sample = digits_->load(index);
    const std::vector<float> at = sample.side[0].floats;  // [frame, digit, (x, y)]
    const std::vector<int64_t> labels = sample.side[1].ints;
    SideValue vectors, words;
    vectors.floats.resize(count_ * kWordsOfADigit * kWidth);
    float* vector = vectors.floats.data();
    uint32_t place = 0;
    const auto say = [&](const char* word, uint64_t id) {
      words.text += words.text.empty() ? word : str(place % kWordsOfADigit == 0 ? ", " : " ", word);
      add_vector(id, 0, vector);
      add_vector(place++, 1, vector);
      vector += kWidth;
    };
    for (size_t d = 0; d < count_; ++d) {
      const size_t digit = labels[d] < 0 ? kDigits.size() - 1 : static_cast<size_t>(labels[d]);
      say(kDigits.at(digit), digit);
      const size_t first = 2 * d, second = 2 * (count_ + d);
      const bool moves = shape().frames > 1;
      const size_t direction =
          moves ? direction_of(at[second] - at[first], at[second + 1] - at[first + 1])
                : kDirections.size() - 1;
      say(kDirections.at(direction), kDigits.size() + direction);
    }
    sample.side.push_back(std::move(vectors));
    sample.side.push_back(std::move(words));
    return sample;
  }

 private:
  std::unique_ptr<Source> digits_;
  size_t count_;
};

}  // namespace

std::unique_ptr<Source> open_captioned_digits(const SourceConfig& config) {
  return std::make_unique<Captioned>(open_moving_digits(config),
                                     static_cast<size_t>(config.generated().digits()));
}

}  // namespace lf
