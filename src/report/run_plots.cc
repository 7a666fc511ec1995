// The plots of runs: loss, metrics, throughput and what else was logged.
#include <algorithm>
#include <cmath>
#include <set>

#include "base/text.h"
#include "report/run_report.h"

namespace lf {
namespace {

using Runs = std::vector<const RunFolder*>;

struct TimeUnit {
  const char* name;
  double seconds;
};

// Of all runs, so that their plots compare.
TimeUnit unit_of(const Runs& runs) {
  double longest = 0;
  for (const RunFolder* run : runs) {
    for (const Curve& curve : run->curves) {
      if (!curve.points().empty()) longest = std::max(longest, curve.points().back().seconds);
    }
  }
  if (longest > 3 * 86400) return {"days of training", 86400};
  if (longest > 2 * 3600) return {"hours of training", 3600};
  return longest > 180 ? TimeUnit{"minutes of training", 60} : TimeUnit{"seconds of training", 1};
}

// What the plots of one page share: the runs and their x axis.
class RunPlots {
 public:
  RunPlots(const Runs& runs, bool by_time) : runs_(runs), by_time_(by_time), unit_(unit_of(runs)) {}

  Plot plot(const std::string& title, const std::string& y = "") const {
    Plot out;
    out.title = title;
    out.x = by_time_ ? unit_.name : "images";
    out.y = y;
    out.x_from_zero = true;
    for (const RunFolder* run : runs_) {
      if (runs_.size() > 1) break;  // which run's they would be is not seen
      for (const LifeRecord& start : run->starts) {
        const auto images = static_cast<double>(start.resumed_from_images());
        if (images > 0) out.marks.push_back(x(run->seconds_at(images), images));
      }
      out.mark = "restart";
    }
    return out;
  }
  std::string named(const RunFolder& run, const std::string& otherwise) const {
    return runs_.size() > 1 ? run.name : otherwise;
  }
  double x(double seconds, double images) const {
    return by_time_ ? seconds / unit_.seconds : images;
  }

  // Adds a curve of each run that has it.
  void add(Plot& plot, const std::string& curve, const std::string& name, int colour = -1) const {
    for (size_t r = 0; r < runs_.size(); ++r) {
      const Curve* found = runs_[r]->curve(curve);
      if (found == nullptr || found->points().empty()) continue;
      Series& series = plot.series.emplace_back();
      series.name = named(*runs_[r], name);
      series.colour = runs_.size() > 1 ? static_cast<int>(r) : colour;
      for (const RunPoint& p : found->points()) {
        series.points.push_back({x(p.seconds, p.images), p.value, 0, ""});
      }
    }
  }

  Plot of_metric(const std::string& metric) const {
    Plot out = plot(metric);
    for (size_t r = 0; r < runs_.size(); ++r) {
      Series series;
      series.name = named(*runs_[r], metric);
      series.colour = static_cast<int>(r);
      for (const Measurement& m : runs_[r]->measurements) {
        if (m.metric != metric) continue;
        const auto images = static_cast<double>(m.images);
        series.points.push_back({x(runs_[r]->seconds_at(images), images), m.value, 0, ""});
      }
      if (!series.points.empty()) out.series.push_back(std::move(series));
    }
    return out;
  }

 private:
  const Runs& runs_;
  bool by_time_;
  TimeUnit unit_;
};

// A curve that falls by more than a factor of 20 shows nothing of its end on a linear axis.
void choose_scale(Plot& plot) {
  double low = HUGE_VAL, high = 0;
  for (const Series& series : plot.series) {
    for (const PlotPoint& point : series.points) {
      low = std::min(low, point.y);
      high = std::max(high, point.y);
    }
  }
  plot.log_y = low > 0 && high > 20 * low;
}

bool shown_elsewhere(const std::string& name) {
  static const std::set<std::string> kElsewhere = {"loss",
                                                   "images_per_second",
                                                   "images_per_second_per_rank",
                                                   "data_wait",
                                                   "communication",
                                                   "checkpoint_stall",
                                                   "overhead",
                                                   "memory_bytes",
                                                   "validation loss",
                                                   "validation clips"};
  return kElsewhere.contains(name);
}

// The frames of the newest measurement that has more than one.
void add_frames(const Runs& runs, const std::string& metric, std::vector<Plot>& plots) {
  Plot plot;
  plot.title = metric + " of each frame";
  plot.x = "frame";
  for (size_t r = 0; r < runs.size(); ++r) {
    for (const Measurement* m : runs[r]->newest()) {
      if (m->metric != metric || m->per_frame.size() < 2) continue;
      Series& series = plot.series.emplace_back();
      series.name = runs.size() > 1 ? runs[r]->name : metric;
      series.colour = static_cast<int>(r);
      for (size_t t = 0; t < m->per_frame.size(); ++t) {
        series.points.push_back({static_cast<double>(t), m->per_frame[t], 0, ""});
      }
    }
  }
  if (has_points(plot)) plots.push_back(std::move(plot));
}

}  // namespace

std::vector<Plot> plots_of_runs(const Runs& runs, bool by_time) {
  const RunPlots make(runs, by_time);
  std::vector<Plot> plots;
  Plot loss = make.plot("Loss");
  make.add(loss, "loss", "training", 0);
  if (runs.size() == 1) make.add(loss, "validation loss", "validation", 1);
  choose_scale(loss);
  plots.push_back(loss);
  if (runs.size() > 1) {
    Plot validation = make.plot("Validation loss");
    make.add(validation, "validation loss", "validation");
    choose_scale(validation);
    plots.push_back(validation);
  }
  std::set<std::string> metrics, others;
  for (const RunFolder* run : runs) {
    for (const Measurement& m : run->measurements) metrics.insert(m.metric);
    for (const Curve& curve : run->curves) {
      if (!shown_elsewhere(curve.name())) others.insert(curve.name());
    }
  }
  for (const std::string& metric : metrics) {
    plots.push_back(make.of_metric(metric));
    add_frames(runs, metric, plots);
  }
  Plot speed = make.plot("Throughput", "images per second");
  make.add(speed, "images_per_second", "images per second", 2);
  plots.push_back(speed);
  if (runs.size() == 1) {
    Plot shares = make.plot("Not spent on the model", "share of the time");
    for (const char* name : {"data_wait", "communication", "checkpoint_stall", "overhead"}) {
      make.add(shares, name, name);
    }
    shares.minor = true;
    plots.push_back(shares);
  }
  for (const std::string& name : others) {
    Plot plot = make.plot(printable(name, 60));
    make.add(plot, name, name, 4);
    plot.minor = true;
    plots.push_back(plot);
  }
  std::erase_if(plots, [](const Plot& plot) { return !has_points(plot); });
  return plots;
}

}  // namespace lf
