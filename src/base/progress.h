// How far a long piece of work is: on a terminal one line that is redrawn and fits its width,
// elsewhere plain lines, ever less often, so that logs of long jobs stay small.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"

namespace lf {

// What a line of progress says.
struct ProgressLine {
  std::string title, unit;  // "train", "images"
  uint64_t done = 0, total = 0;
  double rate = 0;                   // a second; 0: not known
  std::vector<std::string> values;   // "loss 0.123"
  std::vector<std::string> unusual;  // what somebody should look into: "waits for data 34%"
};

// "train 32%  640/2,000 images  loss 0.123  21/s  ETA 1m03s  waits for data 34%" in at most
// `columns`; 0: of any length. What is too long loses whole parts, the bar before it first, and the
// count and the values last.
std::string progress_line(const ProgressLine& line, size_t columns);

// A share with two digits: "34%", "3.4%", "0.34%".
std::string human_share(double share);

// Time between two plain lines, `elapsed` after the work began: a twentieth of that, from ten
// seconds to ten minutes.
std::chrono::milliseconds line_interval(std::chrono::milliseconds elapsed);

class Progress {
 public:
  // `unit` is what is counted ("images"); `done` of them were done by an earlier process.
  Progress(std::string title, std::string unit, uint64_t total, uint64_t done = 0);
  ~Progress();  // what is on the terminal stays there
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `count` of what is done was found done, as in a cache: rate and ETA are of the rest.
  void found(uint64_t count);
  // Shows `done` of the total, a few times a second on a terminal and after a line interval
  // elsewhere.
  void show(uint64_t done, std::vector<std::string> values = {},
            std::vector<std::string> unusual = {});
  // The last line, with the average rate; always shown.
  void finish(uint64_t done);

 private:
  void measure(uint64_t done, Clock::time_point now);

  ProgressLine line_;
  uint64_t first_, last_done_;
  Clock::time_point started_, last_rate_, last_shown_;
  bool shown_ = false;
};

}  // namespace lf
