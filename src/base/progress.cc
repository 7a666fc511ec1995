#include "base/progress.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>

#include "base/console.h"
#include "base/text.h"

namespace lf {
namespace {

using std::chrono::milliseconds;

constexpr size_t kBar = 20;
constexpr milliseconds kRedraw{200};

struct Part {
  std::string gap, text;
  int importance;  // the least important part that is left goes first, of equals the last
};

std::string joined(const std::vector<Part>& parts) {
  std::string text;
  for (const Part& part : parts) text += (text.empty() ? "" : part.gap) + part.text;
  return text;
}

std::vector<Part> parts_of(const ProgressLine& line, size_t columns) {
  const double share =
      line.total == 0
          ? 1
          : std::min(1.0, static_cast<double>(line.done) / static_cast<double>(line.total));
  // The last batch may go beyond the total.
  const uint64_t done = line.total == 0 ? line.done : std::min(line.done, line.total);
  std::vector<Part> parts;
  if (columns > 0) {
    const auto filled = static_cast<size_t>(share * kBar);
    const std::string bar = std::string(filled, '=') + std::string(kBar - filled, ' ');
    parts.push_back({"", "[" + bar + "]", 0});
  }
  parts.push_back({" ", line.title, 2});
  parts.push_back({" ", str(static_cast<int>(std::floor(100 * share)), "%"), 3});
  parts.push_back({"  ", human_count(done) + "/" + human_count(line.total), 7});
  parts.push_back({" ", line.unit, 1});
  for (const std::string& value : line.values) parts.push_back({"  ", value, 8});
  if (line.rate > 0) {
    parts.push_back({"  ", human_rate(line.rate), 4});
    if (line.done < line.total) {
      const double left = static_cast<double>(line.total - line.done) / line.rate;
      parts.push_back({"  ", "ETA " + human_seconds(left), 5});
    }
  }
  for (const std::string& text : line.unusual) parts.push_back({"  ", text, 6});
  return parts;
}

// A terminal wraps a line that fills its last column.
size_t fitting(size_t columns) { return std::max<size_t>(columns, 2) - 1; }

}  // namespace

std::string progress_line(const ProgressLine& line, size_t columns) {
  std::vector<Part> parts = parts_of(line, columns);
  const auto fits = [&] { return columns == 0 || joined(parts).size() <= columns; };
  while (!fits() && parts.size() > 1) {
    auto least = parts.begin();
    for (auto part = parts.begin(); part != parts.end(); ++part) {
      if (part->importance <= least->importance) least = part;
    }
    parts.erase(least);
  }
  const std::string text = joined(parts);
  return columns == 0 ? text : text.substr(0, columns);
}

std::string human_share(double share) {
  const double percent = 100 * share;
  std::array<char, 32> out{};
  // Of what rounds to 10 or 1, two digits are "10" and "1.0".
  const int decimals = percent >= 9.95 || percent <= 0 ? 0 : percent >= 0.995 ? 1 : 2;
  std::snprintf(out.data(), out.size(), "%.*f%%", decimals, percent);
  return out.data();
}

milliseconds line_interval(milliseconds elapsed) {
  return std::clamp<milliseconds>(elapsed / 20, std::chrono::seconds(10), std::chrono::minutes(10));
}

Progress::Progress(std::string title, std::string unit, uint64_t total, uint64_t done)
    : line_{std::move(title), std::move(unit), done, total, 0, {}, {}},
      first_(done),
      last_done_(done),
      started_(Clock::now()),
      last_rate_(started_),
      last_shown_(started_) {}

Progress::~Progress() { console_end_status(); }

void Progress::found(uint64_t count) {
  first_ += count;
  last_done_ += count;
}

void Progress::measure(uint64_t done, Clock::time_point now) {
  const double since = seconds_between(last_rate_, now);
  if (done <= last_done_ || (since <= 0.5 && line_.rate > 0)) return;
  const double current = static_cast<double>(done - last_done_) / std::max(since, 1e-9);
  const double keep = std::exp(-since / 10);  // an average over about ten seconds
  const double average =
      static_cast<double>(done - first_) / std::max(seconds_between(started_, now), 1e-9);
  line_.rate = line_.rate == 0 ? average : keep * line_.rate + (1 - keep) * current;
  last_done_ = done;
  last_rate_ = now;
}

void Progress::show(uint64_t done, std::vector<std::string> values,
                    std::vector<std::string> unusual) {
  const auto now = Clock::now();
  measure(done, now);
  line_.done = done;
  line_.values = std::move(values);
  line_.unusual = std::move(unusual);
  const size_t columns = console_columns();
  const auto elapsed = std::chrono::duration_cast<milliseconds>(now - started_);
  const bool first_on_terminal = columns > 0 && !shown_;
  if (!first_on_terminal && now - last_shown_ < (columns > 0 ? kRedraw : line_interval(elapsed))) {
    return;
  }
  shown_ = true;
  last_shown_ = now;
  if (columns > 0) return console_status(progress_line(line_, fitting(columns)));
  console_line(progress_line(line_, 0));
}

void Progress::finish(uint64_t done) {
  constexpr double kShortest = 0.01;  // seconds from which a rate can be given
  const double took = seconds_since(started_);
  const bool made = done > first_ && took >= kShortest;
  line_.rate = made ? static_cast<double>(done - first_) / took : 0;
  line_.done = done;
  const size_t columns = console_columns();
  if (columns == 0) return console_line(progress_line(line_, 0));
  console_status(progress_line(line_, fitting(columns)));
  console_end_status();
}

}  // namespace lf
