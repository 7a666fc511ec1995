#include "report/run_parts.h"

#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "base/utc.h"
#include "config/config.h"
#include "data/image/grid.h"
#include "data/recipe/short_text.h"
#include "data/store/export.h"
#include "data/store/layout.h"
#include "data/store/store.h"
#include "report/picture.h"
#include "report/scale.h"

namespace lf {
namespace {

constexpr size_t kMostPreviews = 12;

std::string images_text(int64_t images) {
  return human_count(static_cast<uint64_t>(std::max<int64_t>(0, images))) + " images";
}

// At most kMostPreviews, evenly over the run, the first and the last among them.
std::vector<const PreviewFile*> chosen(const std::vector<PreviewFile>& previews) {
  std::vector<const PreviewFile*> out;
  const size_t count = std::min(kMostPreviews, previews.size());
  for (size_t i = 0; i < count; ++i) {
    out.push_back(&previews[count > 1 ? i * (previews.size() - 1) / (count - 1) : 0]);
  }
  return out;
}

// The bytes of a picture's file, made smaller if need be; "" and a sentence if it is none.
std::string picture_of(FileSystem& files, const std::string& path, uint64_t most,
                       std::vector<std::string>& missing) {
  constexpr uint64_t kLargest = 64 << 20;
  try {
    return png_within(read_file(files, path, kLargest), most, "the picture");
  } catch (const Error& error) {
    missing.push_back("samples/" + printable(path.substr(path.rfind('/') + 1)) + ": " +
                      printable(error.what(), 300));
    return "";
  }
}

void write_animation(Html& html, FileSystem& files, const PreviewFile& preview, uint64_t most,
                     std::vector<std::string>& missing) {
  FileInfo info;
  if (preview.animation.empty() || !files.info(preview.animation, &info)) return;
  if (info.size > most) {
    missing.push_back(str("samples/",
                          printable(preview.animation.substr(preview.animation.rfind('/') + 1)),
                          " has ", human_bytes(info.size), ", too much for this page."));
    return;
  }
  const std::string png = picture_of(files, preview.animation, most, missing);
  if (png.empty()) return;
  html.element("figure", of_class("moving"), [&] {
    write_picture(html, png, "clips, real above made, frame by frame");
    html.element("figcaption", {}, "The same clips moving, after " + images_text(preview.images));
  });
}

// Shards may be gone or damaged while the index is there.
std::string strip_of(const std::string& folder, std::string& problem) {
  constexpr uint64_t kMost = 400 << 10;
  try {
    const std::shared_ptr<const Store> store = Store::open(folder);
    if (store->clips() == 0 || store->clip_shape().bytes() > (32 << 20)) return "";
    std::vector<Image> frames = clip_frames(*store, 0);
    const bool numbered = frames.size() > 1;
    const std::string png = encode_png(draw_grid(rows_of_clip("", std::move(frames), numbered)));
    return png_within(png, kMost, "the clip");
  } catch (const Error& error) {
    problem = printable(error.what(), 300);
    return "";
  }
}

// The config with its groups chosen as in `config` and all else left out.
Config chosen_groups_of(const Config& config) {
  Config defaults;
  for (bool chose = true; chose;) {
    chose = false;
    for (const Contradiction& one : contradictions(config, defaults)) {
      if (one.asked != "set") continue;
      try {
        set_option(defaults, one.path + "={}");
        chose = true;
      } catch (const Error&) {  // a list of groups, shown as a whole
      }
      break;
    }
  }
  return defaults;
}

std::string short_option(const std::string& value) { return printable(value, 200); }

}  // namespace

void write_previews(Html& html, FileSystem& files, const RunFolder& run, uint64_t picture_bytes,
                    std::vector<std::string>& missing) {
  const uint64_t raw = picture_bytes * 3 / 4;  // base64 takes a third more
  const uint64_t newest = raw / 4, older = raw / 2 / kMostPreviews;
  std::vector<std::pair<const PreviewFile*, std::string>> shown;
  for (const PreviewFile* preview : chosen(run.previews)) {
    const bool last = preview == &run.previews.back();
    std::string png = picture_of(files, preview->path, last ? newest : older, missing);
    if (!png.empty()) shown.emplace_back(preview, std::move(png));
  }
  if (shown.empty()) return;
  const auto figure = [&](size_t i) {
    const std::string when = images_text(shown[i].first->images);
    html.element("figure", of_class("preview"), [&] {
      write_picture(html, shown[i].second, "preview after " + when);
      html.element("figcaption", {}, "After " + when);
    });
  };
  write_section(html, "What it makes", [&] {
    html.element("p", of_class("note"),
                 "The same clips throughout the run: \u201creal\u201d rows are the store's, "
                 "\u201cmade\u201d rows the model's.");
    html.element("div", of_class("making"), [&] {
      html.element("div", of_class("previews"), [&] {
        figure(shown.size() - 1);
        if (shown.size() < 2) return;
        write_details(html, str("The ", shown.size() - 1, " before it"), [&] {
          for (size_t i = 0; i + 1 < shown.size(); ++i) figure(i);
        });
      });
      write_animation(html, files, *shown.back().first, newest, missing);
    });
  });
}

void write_data_of_run(Html& html, FileSystem& files, const RunFolder& run) {
  if (!run.config) return;
  const std::string& named = run.config->train().store();
  const std::string folder = named.empty() ? run.folder + "/store" : named;
  std::vector<std::pair<std::string, std::string>> facts = {{"store", printable(folder, 300)}};
  std::string strip, problem;
  try {
    if (!files.exists(index_path(folder))) fail(Code::kUsage, "the store is not there any more");
    const StoreIndex index = read_index(files, index_path(folder));
    uint64_t clips = 0;
    for (const ShardRecord& shard : index.shards()) clips += shard.clips();
    facts.insert(facts.end(),
                 {{"id", printable(index.store_id())},
                  {"clips", human_count(clips)},
                  {"of", str(index.frames(), index.frames() == 1 ? " frame of " : " frames of ",
                             index.width(), " x ", index.height(), ", ", index.channels(),
                             index.channels() == 1 ? " channel" : " channels")},
                  {"recipe", recipe_in_short(index.recipe_text())}});
    strip = strip_of(folder, problem);
  } catch (const Error& error) {
    problem = printable(error.what(), 300);
    facts.emplace_back("recipe", printable(changed_options_text(run.config->recipe()), 1000));
  }
  write_section(html, "Trained on", [&] {
    if (!strip.empty()) {
      html.element("figure", {}, [&] {
        write_picture(html, strip, "the frames of a clip of the store");
        html.element("figcaption", {}, "The first clip of the store; its last frame is the image");
      });
    }
    write_facts(html, facts);
    if (!problem.empty())
      html.element("p", of_class("note"), "No clip can be shown: " + problem + ".");
  });
}

void write_options(Html& html, const RunFolder& run) {
  if (run.config_text.empty()) return;
  write_section(html, "Options", [&] {
    if (run.config) {
      std::vector<std::vector<std::string>> rows;
      for (const Contradiction& one : contradictions(*run.config, chosen_groups_of(*run.config))) {
        rows.push_back({one.path, short_option(one.asked), short_option(one.held)});
      }
      html.element("p", of_class("note"), "Those that are not as by default.");
      write_table(html, {"option", "here", "default"}, rows);
    }
    write_details(html, "The whole config",
                  [&] { html.element("pre", {}, run.config_text.substr(0, 200'000)); });
  });
}

void write_machine(Html& html, const RunFolder& run) {
  const auto number = [&](const char* name) {
    const double value = run.status[name].number(-1);
    return value < 0 ? "" : short_number(value);
  };
  std::vector<std::pair<std::string, std::string>> facts = {
      {"host", printable(run.status["host"].text(), 100)}, {"ranks", number("ranks")}};
  if (run.config) {
    facts.emplace_back("precision", Precision_Name(run.config->train().precision()));
    facts.emplace_back("threads of a rank", str(run.config->train().threads()));
  }
  if (const Curve* memory = run.curve("memory_bytes"); memory != nullptr) {
    const double bytes = memory->points().empty() ? 0 : memory->points().back().value;
    if (bytes > 0 && bytes < 1e18) {
      facts.emplace_back("memory of a rank", human_bytes(static_cast<uint64_t>(bytes)));
    }
  }
  for (const Candidate& checkpoint : run.checkpoints) {
    if (!checkpoint.valid()) continue;
    facts.emplace_back("program", printable(checkpoint.manifest.code_version(), 100));
    break;
  }
  write_section(html, "Machine and history", [&] {
    write_facts(html, facts);
    std::vector<std::vector<std::string>> rows;
    for (const LifeRecord& start : run.starts) {
      if (rows.size() >= 200) break;
      rows.push_back({str(start.life()), utc_text(start.started_unix_seconds()),
                      images_text(start.resumed_from_images()), printable(start.host(), 60),
                      printable(start.job(), 60)});
    }
    if (!rows.empty()) write_table(html, {"start", "when", "from", "host", "job"}, rows);
    rows.clear();
    for (const Candidate& one : run.checkpoints) {
      if (rows.size() >= 200) break;
      const double saved = one.manifest.saved_unix_seconds();
      rows.push_back({printable(one.folder.substr(one.folder.rfind('/') + 1), 60),
                      saved > 0 ? utc_text(saved) : "",
                      one.valid() ? human_bytes(total_bytes(one.manifest)) : "",
                      one.valid() ? "whole" : printable(one.reason, 200)});
    }
    if (!rows.empty()) write_table(html, {"checkpoint", "saved", "size", "state"}, rows);
    if (run.warnings.empty()) return;
    write_details(html, str("Warnings in the logs (", run.warnings.size(), ")"),
                  [&] { html.element("pre", {}, join(run.warnings, "\n")); });
  });
}

void write_differences(Html& html, const std::vector<RunFolder>& runs) {
  const RunFolder* first = nullptr;
  std::vector<std::vector<std::string>> rows;
  for (const RunFolder& run : runs) {
    if (!run.config) continue;
    if (first == nullptr) {
      first = &run;
      continue;
    }
    for (const std::string& line : config_differences(*first->config, *run.config, false)) {
      if (rows.size() < 400) rows.push_back({run.name, printable(line, 300)});
    }
  }
  if (rows.empty()) return;
  write_section(html, "Where the options differ", [&] {
    write_table(html, {"run", "from " + first->name + " to it"}, rows);
  });
}

}  // namespace lf
