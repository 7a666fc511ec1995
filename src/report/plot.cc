#include "report/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

#include "base/text.h"
#include "report/scale.h"

namespace lf {
namespace {

// Units of the picture, which the page scales to its width.
constexpr double kWidth = 440, kHeight = 272;
constexpr double kLeft = 56, kRight = 14, kTop = 12, kBottom = 44;
constexpr size_t kMostPoints = 200;    // of a series that is drawn
constexpr size_t kMostTooltips = 800;  // of a plot
constexpr size_t kMostNames = 16;      // written beside dots; all are in tooltips
constexpr size_t kMostInLegend = 12, kMostRows = 400;
constexpr double kHuge = 1e300;  // beyond it differences overflow

bool drawable(const PlotPoint& point, const Plot& plot) {
  return std::isfinite(point.x) && std::isfinite(point.y) && std::abs(point.x) < kHuge &&
         std::abs(point.y) < kHuge && (!plot.log_x || point.x > 0) && (!plot.log_y || point.y > 0);
}

std::string units(double value) {
  std::array<char, 32> out{};
  std::snprintf(out.data(), out.size(), "%.1f", value);
  return out.data();
}

std::string colour_class(const Series& series, size_t place) {
  const int colour = series.colour >= 0 ? series.colour : static_cast<int>(place);
  return str("c", colour % kColours);
}

Plot drawable_part(const Plot& plot) {
  Plot out = plot;
  for (Series& series : out.series) {
    std::erase_if(series.points, [&](const PlotPoint& p) { return !drawable(p, plot); });
    if (series.style == Series::Style::kLine) series.points = thinned(series.points, kMostPoints);
  }
  return out;
}

// Low and high of a coordinate over all points, with room around them.
template <typename Of>
Scale scale_of(const Plot& plot, bool logarithmic, double margin, const Of& of,
               double from = std::numeric_limits<double>::infinity()) {
  double low = from, high = -std::numeric_limits<double>::infinity();
  for (const Series& series : plot.series) {
    for (const PlotPoint& point : series.points) {
      const auto [least, to] = of(point);
      if (!logarithmic || least > 0) low = std::min(low, least);
      low = std::min(low, to);
      high = std::max(high, to);
    }
  }
  if (logarithmic) {
    const double factor = std::pow(high / low, margin);
    return {low / factor, high * factor, true};
  }
  const double room = (high - low) * margin;
  return {low - room, high + room, false};
}

struct NameBox {
  double x, y, width, height;
  bool meets(const NameBox& other) const {
    return x < other.x + other.width && other.x < x + width && y < other.y + other.height &&
           other.y < y + height;
  }
};

// A plot while it is drawn: its scales and where they fall.
class Canvas {
 public:
  Canvas(Html& html, const Plot& plot)
      : html_(html),
        plot_(plot),
        x_(scale_of(
            plot, plot.log_x, dots_only(plot) ? 0.06 : 0,
            [](const PlotPoint& p) { return std::pair(p.x, p.x); },
            plot.x_from_zero ? 0 : std::numeric_limits<double>::infinity())),
        y_(scale_of(plot, plot.log_y, 0.06,
                    [](const PlotPoint& p) { return std::pair(p.y - p.spread, p.y + p.spread); })) {
  }

  void draw() {
    html_.element("svg",
                  {{"viewBox", str("0 0 ", kWidth, " ", kHeight)},
                   {"role", "img"},
                   {"aria-label", plot_.title}},
                  [&] {
                    draw_axes();
                    draw_marks();
                    for (size_t s = 0; s < plot_.series.size(); ++s) draw_series(s);
                    for (size_t s = 0; s < plot_.series.size(); ++s) draw_points(s);
                  });
  }

 private:
  static bool dots_only(const Plot& plot) {
    return std::any_of(plot.series.begin(), plot.series.end(),
                       [](const Series& s) { return s.style == Series::Style::kDots; });
  }
  double across(double x) const { return kLeft + x_.place(x) * (kWidth - kLeft - kRight); }
  double down(double y) const { return kTop + (1 - y_.place(y)) * (kHeight - kTop - kBottom); }

  void words(const char* of, double x, double y, std::string_view text, const char* anchor) {
    html_.element("text",
                  {{"class", of}, {"x", units(x)}, {"y", units(y)}, {"text-anchor", anchor}}, text);
  }
  void line(const char* of, double x1, double y1, double x2, double y2) {
    html_.shape("path",
                {{"class", of},
                 {"d", "M" + units(x1) + " " + units(y1) + "L" + units(x2) + " " + units(y2)}});
  }

  void draw_axes() {
    for (const Tick& tick : y_.ticks(5)) {
      const double at = down(tick.value);
      line("grid", kLeft, at, kWidth - kRight, at);
      words("tick", kLeft - 6, at + 4, tick.label, "end");
    }
    for (const Tick& tick : x_.ticks(5)) {
      const double at = across(tick.value);
      line("grid", at, kTop, at, kHeight - kBottom);
      words("tick", at, kHeight - kBottom + 17, tick.label, "middle");
    }
    words("label", (kLeft + kWidth - kRight) / 2, kHeight - 6, plot_.x, "middle");
  }

  void draw_marks() {
    for (const double mark : plot_.marks) {
      if (!std::isfinite(mark) || mark < x_.low() || mark > x_.high()) continue;
      const std::string at = units(across(mark));
      html_.element(
          "path",
          {{"class", "mark"}, {"d", "M" + at + " " + units(kTop) + "V" + units(kHeight - kBottom)}},
          [&] { html_.element("title", {}, plot_.mark + " at " + short_number(mark)); });
    }
  }

  void draw_series(size_t s) {
    const Series& series = plot_.series[s];
    const std::string colour = colour_class(series, s);
    for (const PlotPoint& p : series.points) {
      if (p.spread <= 0 || !std::isfinite(p.spread)) continue;
      const double low = plot_.log_y ? std::max(p.y - p.spread, y_.low()) : p.y - p.spread;
      line(("spread " + colour).c_str(), across(p.x), down(low), across(p.x), down(p.y + p.spread));
    }
    if (series.style == Series::Style::kDots || series.points.size() < 2) return;
    std::string path;
    for (const PlotPoint& p : series.points) {
      path += (path.empty() ? "M" : "L") + units(across(p.x)) + " " + units(down(p.y));
    }
    const char* style = series.style == Series::Style::kDashes ? "dashes " : "line ";
    html_.shape("path", {{"class", style + colour}, {"d", path}});
  }

  // Dots, and of a line without them the places where the pointer finds a value.
  void draw_points(size_t s) {
    const Series& series = plot_.series[s];
    const bool few = series.points.size() <= 24 || series.style == Series::Style::kDots;
    const std::string of = (few ? "dot " : "hit ") + colour_class(series, s);
    size_t every = 1;
    while (!few && series.points.size() / every * plot_.series.size() > kMostTooltips) ++every;
    const bool named = series.points.size() <= kMostNames;
    for (size_t i = 0; i < series.points.size(); i += every) {
      const PlotPoint& p = series.points[i];
      const double x = across(p.x), y = down(p.y);
      html_.element("circle",
                    {{"class", of}, {"cx", units(x)}, {"cy", units(y)}, {"r", few ? "3.2" : "6"}},
                    [&] { html_.element("title", {}, tooltip(series, p)); });
      if (named && !p.name.empty()) write_name(x, y, printable(p.name, 24));
    }
  }

  // Beside its dot where no other name stands; else it is in the tooltip alone.
  void write_name(double x, double y, const std::string& name) {
    const double width = 6.2 * static_cast<double>(name.size()), height = 12;
    for (const auto& [left, below] : {std::pair{false, false}, std::pair{true, false},
                                      std::pair{false, true}, std::pair{true, true}}) {
      const NameBox box{left ? x - 7 - width : x + 7, below ? y + 4 : y - 15, width, height};
      if (box.x < kLeft || box.x + box.width > kWidth || box.y < 0 ||
          std::any_of(names_.begin(), names_.end(),
                      [&](const NameBox& other) { return box.meets(other); })) {
        continue;
      }
      names_.push_back(box);
      return words("name", left ? x - 7 : x + 7, box.y + 10, name, left ? "end" : "start");
    }
  }

  std::string tooltip(const Series& series, const PlotPoint& p) const {
    std::string text = p.name.empty() ? series.name : p.name;
    if (!text.empty()) text += "\n";
    text += plot_.x + ": " + short_number(p.x) + "\n" + (plot_.y.empty() ? plot_.title : plot_.y) +
            ": " + short_number(p.y);
    return p.spread > 0 ? text + " ± " + short_number(p.spread) : text;
  }

  Html& html_;
  const Plot& plot_;
  Scale x_, y_;
  std::vector<NameBox> names_;  // that stand already
};

void write_legend(Html& html, const Plot& plot) {
  if (plot.series.size() < 2 && plot.marks.empty()) return;
  html.element("p", of_class("legend"), [&] {
    for (size_t s = 0; s < plot.series.size() && s < kMostInLegend; ++s) {
      if (plot.series.size() < 2 || plot.series[s].name.empty()) continue;
      html.element("span", of_class("key " + colour_class(plot.series[s], s)),
                   printable(plot.series[s].name, 60));
    }
    if (plot.series.size() > kMostInLegend) {
      html.element("span", {}, str("and ", plot.series.size() - kMostInLegend, " more"));
    }
    if (!plot.marks.empty()) html.element("span", of_class("key mark"), plot.mark);
  });
}

void write_data(Html& html, const Plot& plot) {
  size_t points = 0;
  for (const Series& series : plot.series) points += series.points.size();
  const size_t every = (points + kMostRows - 1) / kMostRows;
  const bool named = std::any_of(plot.series.begin(), plot.series.end(), [](const Series& s) {
    return std::any_of(s.points.begin(), s.points.end(),
                       [](const PlotPoint& p) { return !p.name.empty(); });
  });
  std::vector<std::vector<std::string>> rows;
  size_t at = 0;
  for (const Series& series : plot.series) {
    for (const PlotPoint& p : series.points) {
      if (at++ % every != 0) continue;
      const std::string name = named && !p.name.empty() ? p.name : series.name;
      rows.push_back({printable(name.empty() ? plot.title : name, 60), short_number(p.x),
                      short_number(p.y) + (p.spread > 0 ? " ± " + short_number(p.spread) : "")});
    }
  }
  write_details(html, "Data", [&] {
    if (every > 1) html.element("p", of_class("note"), str("One of ", every, " points."));
    write_table(html, {"", plot.x, plot.y.empty() ? plot.title : plot.y}, rows);
  });
}

}  // namespace

std::vector<PlotPoint> thinned(const std::vector<PlotPoint>& points, size_t most) {
  if (points.size() <= most) return points;
  const size_t of = (points.size() + most - 1) / most;
  std::vector<PlotPoint> out;
  for (size_t begin = 0; begin < points.size(); begin += of) {
    const size_t end = std::min(points.size(), begin + of);
    const auto count = static_cast<double>(end - begin);
    PlotPoint mean;
    for (size_t i = begin; i < end; ++i) {
      mean.x += points[i].x / count;
      mean.y += points[i].y / count;
    }
    out.push_back(std::move(mean));
  }
  return out;
}

bool has_points(const Plot& plot) {
  return std::any_of(plot.series.begin(), plot.series.end(), [&](const Series& series) {
    return std::any_of(series.points.begin(), series.points.end(),
                       [&](const PlotPoint& p) { return drawable(p, plot); });
  });
}

void draw_plot(Html& html, const Plot& whole) {
  if (!has_points(whole)) return;
  const Plot plot = drawable_part(whole);
  html.element("figure", of_class("plot"), [&] {
    html.element("figcaption", {}, [&] {
      html.element("b", {}, plot.title);
      if (!plot.y.empty()) html.text(" ").element("span", {}, plot.y);
    });
    Canvas(html, plot).draw();
    write_legend(html, plot);
    if (!plot.note.empty()) html.element("p", of_class("note"), plot.note);
    write_data(html, plot);
  });
}

void draw_bars(Html& html, const std::string& title, const std::vector<Bar>& bars) {
  double most = 0;
  for (const Bar& bar : bars) {
    if (std::isfinite(bar.value)) most = std::max(most, bar.value);
  }
  if (most <= 0) return;
  html.element("figure", of_class("plot bars"), [&] {
    html.element("figcaption", {}, [&] { html.element("b", {}, title); });
    html.element("table", {}, [&] {
      for (const Bar& bar : bars) {
        html.element("tr", {}, [&] {
          html.element("th", {}, printable(bar.name, 40));
          html.element("td", {}, [&] {
            const double share = std::isfinite(bar.value) ? std::max(0.0, bar.value / most) : 0;
            html.element("svg",
                         {{"viewBox", "0 0 200 12"},
                          {"preserveAspectRatio", "none"},
                          {"role", "img"},
                          {"aria-label", bar.text}},
                         [&] {
                           html.shape("rect", {{"class", "bar"},
                                               {"width", units(share * 200)},
                                               {"height", "12"},
                                               {"rx", "2"}});
                         });
          });
          html.element("td", of_class("n"), bar.text);
        });
      }
    });
  });
}

}  // namespace lf
