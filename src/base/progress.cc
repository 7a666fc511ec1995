#include "base/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "base/text.h"

namespace lf {

Progress::Progress(std::string title, std::string unit, uint64_t total, uint64_t done,
                   std::chrono::milliseconds line_interval)
    : title_(std::move(title)),
      unit_(std::move(unit)),
      total_(total),
      first_(done),
      last_done_(done),
      interval_(line_interval),
      terminal_(::isatty(STDERR_FILENO) == 1),
      started_(Clock::now()),
      last_rate_(started_) {}

double Progress::eta_seconds(uint64_t done) const {
  if (rate_ <= 0 || done >= total_) return 0;
  return static_cast<double>(total_ - done) / rate_;
}

std::string Progress::line(uint64_t done, const std::string& extra) const {
  const double part = total_ == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total_);
  std::string text = str(title_, " ", static_cast<int>(std::floor(100 * part)), "% ",
                         human_count(done), "/", human_count(total_), " ", unit_);
  if (rate_ > 0) {
    text += " " + human_rate(rate_);
    if (done < total_) text += " ETA " + human_seconds(eta_seconds(done));
  }
  if (!extra.empty()) text += " | " + extra;
  if (!terminal_) return text;
  winsize window{};
  const size_t columns =
      ::ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 20 ? window.ws_col : 100;
  constexpr size_t kBar = 20;
  const auto filled = static_cast<size_t>(std::clamp(part, 0.0, 1.0) * kBar);
  text = "[" + std::string(filled, '=') + std::string(kBar - filled, ' ') + "] " + text;
  return text.substr(0, columns - 1);
}

void Progress::show(uint64_t done, const std::string& extra, bool force) {
  const auto now = Clock::now();
  const double since = seconds_between(last_rate_, now);
  if (done > last_done_ && (since > 0.5 || rate_ == 0)) {
    const double current = static_cast<double>(done - last_done_) / std::max(since, 1e-9);
    const double keep = std::exp(-since / 10);  // an average over about ten seconds
    const double average =
        static_cast<double>(done - first_) / std::max(seconds_between(started_, now), 1e-9);
    rate_ = rate_ == 0 ? average : keep * rate_ + (1 - keep) * current;
    last_done_ = done;
    last_rate_ = now;
  }
  const auto pause = terminal_ ? std::chrono::milliseconds(200) : interval_;
  if (!force && (shown_ ? now - last_shown_ < pause : !terminal_ && now - started_ < pause)) return;
  shown_ = true;
  last_shown_ = now;
  const std::string text = line(done, extra);
  std::fputs((terminal_ ? "\r" + text + "\x1b[K" : text + "\n").c_str(), stderr);
  std::fflush(stderr);
}

void Progress::finish(uint64_t done, const std::string& extra) {
  constexpr double kShortest = 0.01;  // seconds from which a rate can be given
  const double took = seconds_since(started_);
  rate_ = took < kShortest ? 0 : static_cast<double>(done - first_) / took;
  show(done, extra, true);
  if (terminal_) std::fputs("\n", stderr);
}

}  // namespace lf
