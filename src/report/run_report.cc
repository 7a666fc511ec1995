#include "report/run_report.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"
#include "base/utc.h"
#include "checkpoint/manifest.h"
#include "config/config.h"
#include "report/picture.h"
#include "report/run_parts.h"
#include "report/scale.h"

namespace lf {
namespace {

std::string count(double value) {
  return value >= 0 && value < 9e15 ? human_count(static_cast<uint64_t>(value)) : "?";
}

std::string last_of(const RunFolder& run, const std::string& curve) {
  const Curve* found = run.curve(curve);
  return found == nullptr || found->points().empty() ? ""
                                                     : short_number(found->points().back().value);
}

void write_tile(Html& html, const std::string& value, const std::string& name) {
  if (value.empty()) return;
  html.element("div", {}, [&] { html.element("b", {}, value).element("span", {}, name); });
}

void write_tiles(Html& html, const RunFolder& run) {
  const double images = run.status["images"].number(0),
               total = run.status["total_images"].number(0);
  html.element("div", of_class("tiles"), [&] {
    write_tile(html, count(std::min(images, total > 0 ? total : images)),
               total > images ? "of " + count(total) + " images" : "images");
    write_tile(html, last_of(run, "loss"), "loss");
    write_tile(html, last_of(run, "validation loss"), "validation loss");
    for (const Measurement* m : run.newest()) {
      write_tile(html, short_number(m->value), printable(m->metric, 40));
    }
    write_tile(html, last_of(run, "images_per_second"), "images per second");
    if (const double seconds = run.seconds_at(HUGE_VAL); seconds > 0) {
      write_tile(html, human_seconds(seconds), "of training");
    }
    const double left = run.status["eta_seconds"].number(0);
    if (run.running() && left > 0) write_tile(html, human_seconds(left), "left");
    if (run.starts.size() > 1) write_tile(html, str(run.starts.size() - 1), "restarts");
  });
  if (run.running() && total > 0) {
    html.element("progress", {{"max", short_number(total)}, {"value", short_number(images)}},
                 short_number(images / total));
  }
}

void write_sentences(Html& html, const char* kind, const std::string& heading,
                     const std::vector<std::string>& sentences) {
  if (sentences.empty()) return;
  html.element("aside", of_class(kind), [&] {
    html.element("b", {}, heading);
    html.element("ul", {}, [&] {
      for (const std::string& sentence : sentences) html.element("li", {}, sentence);
    });
  });
}

void write_head(Html& html, const RunFolder& run) {
  html.element("header", {}, [&] {
    html.element("p", of_class("kind"), "Run");
    html.element("h1", {}, [&] {
      html.text(run.name).text(" ");
      html.element("span",
                   of_class("state " + std::string(run.state == "finished"  ? "good"
                                                   : run.running()          ? "live"
                                                   : run.state == "failed"  ? "bad"
                                                   : run.state == "unknown" ? "bad"
                                                                            : "rest")),
                   run.state);
    });
    html.element("p", of_class("note"), [&] {
      html.text(printable(run.folder, 300));
      if (const double updated = run.status["updated"].number(0); updated > 0) {
        html.text(", as of ")
            .element("time", {{"data-unix", str(static_cast<int64_t>(updated))}},
                     utc_text(updated));
      }
    });
  });
}

// All plots twice, against images and against time; which are shown takes no script.
void write_curves(Html& html, const std::vector<const RunFolder*>& runs) {
  std::string folders;
  for (const RunFolder* run : runs) folders += run->folder + "\n";
  const std::string name = str("x", fnv1a(folders));  // the same when the page is written anew
  if (plots_of_runs(runs, false).empty()) return;
  html.element("section", of_class("curves"), [&] {
    html.element("h2", {}, "Curves");
    for (const bool by_time : {false, true}) {
      Html::Attributes attributes = {{"type", "radio"},
                                     {"name", name},
                                     {"id", name + (by_time ? "t" : "i")},
                                     {"class", by_time ? "time" : "images"}};
      if (!by_time) attributes.push_back({"checked", ""});
      html.empty("input", attributes);
      html.element("label", {{"for", name + (by_time ? "t" : "i")}},
                   by_time ? "against time" : "against images");
    }
    for (const bool by_time : {false, true}) {
      html.element("div", of_class(by_time ? "plots by-time" : "plots by-images"), [&] {
        const std::vector<Plot> plots = plots_of_runs(runs, by_time);
        for (const Plot& plot : plots) {
          if (!plot.minor) draw_plot(html, plot);
        }
        html.element("details", of_class("more"), [&] {
          html.element("summary", {}, "More curves");
          html.element("div", of_class("plots"), [&] {
            for (const Plot& plot : plots) {
              if (plot.minor) draw_plot(html, plot);
            }
          });
        });
      });
    }
  });
}

void write_measurements(Html& html, const RunFolder& run) {
  if (run.measurements.empty()) return;
  constexpr size_t kMost = 300;
  std::vector<std::vector<std::string>> rows;
  const auto with = [](const std::string& text, const std::string& more) {
    return printable(text, 60) + (more.empty() ? "" : " " + printable(more, 60));
  };
  // The newest of each metric first.
  std::vector<const Measurement*> all = run.newest();
  for (const Measurement& m : run.measurements) {
    if (std::find(all.begin(), all.end(), &m) == all.end()) all.push_back(&m);
  }
  for (const Measurement* m : all) {
    if (rows.size() >= kMost) break;
    rows.push_back(
        {printable(m->metric, 40), short_number(m->value), count(static_cast<double>(m->images)),
         count(static_cast<double>(m->n)), with(m->clips, m->subject), with(m->extractor, m->layer),
         printable(m->extractor_hash, 20),
         (m->reference_n > 0 ? count(static_cast<double>(m->reference_n)) + " of " : "") +
             printable(m->reference, 60),
         printable(m->reference_hash, 20), m->seed, with(m->weights, m->precision)});
  }
  const std::vector<std::string> heads = {"metric",   "value",     "at image", "n",
                                          "of",       "extractor", "its hash", "reference",
                                          "its hash", "seed",      "weights"};
  write_section(html, "Measurements", [&] {
    const size_t first = run.newest().size();
    write_table(html, heads, {rows.begin(), rows.begin() + static_cast<ptrdiff_t>(first)});
    if (rows.size() == first) return;
    write_details(html, str("All ", human_count(run.measurements.size()), " measurements"),
                  [&] { write_table(html, heads, rows); });
  });
}

}  // namespace

std::vector<std::string> warnings_of(const RunFolder& run) {
  std::vector<std::string> out;
  const auto say = [&](auto... parts) { out.push_back(str(parts...)); };
  if (const std::string diverged = run.status["diverged"].text(); !diverged.empty()) {
    say("The run has diverged ", printable(diverged), ".");
  }
  if (const double skipped = run.status["skipped_steps"].number(0); skipped > 0) {
    say(count(skipped), skipped == 1 ? " step was" : " steps were",
        " skipped, as loss or gradients were not finite.");
  }
  if (run.not_finite > 0) say(human_count(run.not_finite), " logged losses are not finite.");
  if (const std::string slow = run.status["straggler"].text(); !slow.empty()) {
    say("A rank is slow: ", printable(slow), ".");
  }
  if (run.state == "failed") say("The run failed; its logs say why.");
  for (const Measurement* m : run.newest()) {
    const std::string name = printable(m->metric, 40);
    const bool frechet = m->metric.starts_with("fid") || m->metric.starts_with("fd_") ||
                         m->metric.starts_with("fvd");
    if (frechet && m->n > 0 && m->n < 10000) {
      say(name, " is of ", count(static_cast<double>(m->n)),
          " samples: few samples make it larger, so it compares only with others of as many.");
    }
    if (m->metric.starts_with("fd_")) {
      say(name, " is no FID: its features are ", printable(m->extractor, 40),
          ", and it compares only with values of the same extractor hash.");
    }
    if (m->clips == "training") {
      say(name, " was measured on clips that the model was trained on, which flatters it.");
    }
    if (!std::isfinite(m->value)) say(name, " is not finite.");
  }
  return out;
}

void write_run(Html& html, FileSystem& files, const RunFolder& run, uint64_t picture_bytes) {
  html.element("article", {}, [&] {
    write_head(html, run);
    write_tiles(html, run);
    write_sentences(html, "warning", "Before you trust a number", warnings_of(run));
    std::vector<std::string> missing = run.missing;
    write_previews(html, files, run, picture_bytes, missing);
    write_curves(html, {&run});
    write_measurements(html, run);
    write_data_of_run(html, files, run);
    write_options(html, run);
    write_machine(html, run);
    write_sentences(html, "missing", "Missing or unreadable", missing);
  });
}

void write_comparison(Html& html, const std::vector<RunFolder>& runs) {
  std::vector<const RunFolder*> all;
  std::vector<std::vector<std::string>> rows;
  for (const RunFolder& run : runs) {
    all.push_back(&run);
    std::string metrics;
    for (const Measurement* m : run.newest()) {
      metrics +=
          (metrics.empty() ? "" : ", ") + printable(m->metric, 40) + " " + short_number(m->value);
    }
    rows.push_back({run.name, run.state, count(run.status["images"].number(0)),
                    last_of(run, "loss"), metrics, printable(run.folder, 200)});
  }
  html.element("article", {}, [&] {
    html.element("header", {}, [&] {
      html.element("p", of_class("kind"), "Runs");
      html.element("h1", {}, str(runs.size(), " runs beside each other"));
    });
    write_table(html, {"run", "state", "images", "loss", "metrics", "folder"}, rows);
    write_curves(html, all);
    write_differences(html, runs);
  });
}

}  // namespace lf
