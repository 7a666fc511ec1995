// Plots as inline SVG: lines, scatters and bars, with a tooltip at every point and the table of
// their data behind them. Nothing in them needs a script.
#pragma once

#include <string>
#include <vector>

#include "report/html.h"

namespace lf {

struct PlotPoint {
  double x = 0, y = 0;
  double spread = 0;      // drawn as a bar of y +- spread; 0: none
  std::string name = "";  // shown beside a dot, and in its tooltip
};

struct Series {
  enum class Style { kLine, kDots, kDashes };
  std::string name;
  std::vector<PlotPoint> points;
  int colour = -1;  // of kColours; -1: its place in the plot
  Style style = Style::kLine;
};
inline constexpr int kColours = 8;

struct Plot {
  std::string title, x, y;  // what the axes show
  bool log_x = false, log_y = false;
  bool x_from_zero = false;
  bool minor = false;  // one of those that a page folds away
  std::vector<Series> series;
  std::vector<double> marks;  // upright lines at these x
  std::string mark = "";      // what they are: "restart"
  std::string note = "";      // a sentence below
};

// Does nothing if there is no finite point.
void draw_plot(Html& html, const Plot& plot);
bool has_points(const Plot& plot);

struct Bar {
  std::string name;
  double value = 0;
  std::string text;  // the value as people read it
};
void draw_bars(Html& html, const std::string& title, const std::vector<Bar>& bars);

// At most `most` points, each the mean of as many consecutive ones.
std::vector<PlotPoint> thinned(const std::vector<PlotPoint>& points, size_t most);

}  // namespace lf
