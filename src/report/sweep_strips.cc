// The same held-out images through every arm of a sweep: a row each, and moving ones of clips.
#include <algorithm>

#include "base/error.h"
#include "base/text.h"
#include "report/picture.h"
#include "report/sweep_report.h"

namespace lf {
namespace {

constexpr size_t kMostClips = 8, kMostRows = 60, kMostMoving = 12;
constexpr int kSide = 96;  // pixels of a clip, at most

struct Strip {
  std::string name, words;
  std::vector<std::vector<Image>> clips;
};

std::vector<Image> at_frame(const Strip& strip, size_t frame) {
  std::vector<Image> images;
  for (const std::vector<Image>& clip : strip.clips) {
    images.push_back(clip[std::min(frame, clip.size() - 1)]);
  }
  return images;
}

std::string last_frames(const Strip& strip) {
  return encode_png(side_by_side(at_frame(strip, SIZE_MAX), kSide));
}

std::string moving(const Strip& strip) {
  std::vector<Image> frames;
  for (size_t t = 0; t < strip.clips.front().size(); ++t) {
    frames.push_back(side_by_side(at_frame(strip, t), kSide));
  }
  return encode_animation(frames, 150);
}

std::vector<Strip> read_strips(FileSystem& files, const SweepResults& sweep,
                               std::vector<std::string>& missing) {
  std::vector<Strip> strips;
  const auto add = [&](const std::string& name, const std::string& words, const std::string& path) {
    try {
      Strip strip{name, words, read_clips(files, path, kMostClips)};
      if (!strip.clips.empty()) strips.push_back(std::move(strip));
    } catch (const Error& error) {
      missing.push_back("The pictures of " + name + ": " + printable(error.what(), 300) + ".");
    }
  };
  if (!sweep.held_out.empty()) add("held out", "what was to be made", sweep.held_out);
  for (const auto& [name, path] : sweep.pictures) {
    if (strips.size() >= kMostRows) {
      missing.push_back(str("Pictures of the first ", kMostRows, " arms are shown, of ",
                            sweep.pictures.size(), "."));
      break;
    }
    std::string words;
    const auto arm = std::find_if(sweep.arms.begin(), sweep.arms.end(),
                                  [&, &of = name](const SweepArm& one) { return one.name == of; });
    for (const SweepMetric& metric : sweep.metrics) {
      const std::string value = arm == sweep.arms.end() ? "" : mean_text(arm->of(metric.name));
      if (!value.empty()) words += (words.empty() ? "" : ", ") + metric.name + " " + value;
    }
    add(name, words, path);
  }
  return strips;
}

void write_rows(Html& html, const std::vector<Strip>& strips, uint64_t most, bool move) {
  html.element("div", of_class("strips"), [&] {
    for (const Strip& strip : strips) {
      const std::string png = move ? moving(strip) : last_frames(strip);
      if (png.size() > most) continue;
      html.element("p", {}, [&] {
        html.element("b", {}, strip.name);
        if (!strip.words.empty()) html.element("span", of_class("note"), " " + strip.words);
      });
      write_picture(html, png, strip.name + ": the held-out images", true);
    }
  });
}

}  // namespace

void write_strips(Html& html, FileSystem& files, const SweepResults& sweep, uint64_t picture_bytes,
                  std::vector<std::string>& missing) {
  const std::vector<Strip> strips = read_strips(files, sweep, missing);
  if (strips.empty()) return;
  const bool clips = std::any_of(strips.begin(), strips.end(),
                                 [](const Strip& strip) { return strip.clips.front().size() > 1; });
  const uint64_t most = picture_bytes / (2 * std::min(strips.size(), kMostRows));
  write_section(html, "The same held-out images through every arm", [&] {
    write_rows(html, strips, most, false);
    if (!clips) return;
    const std::vector<Strip> some(
        strips.begin(),
        strips.begin() + static_cast<ptrdiff_t>(std::min(strips.size(), kMostMoving)));
    write_details(html, "Moving, frame by frame",
                  [&] { write_rows(html, some, picture_bytes / (2 * some.size()), true); });
  });
}

}  // namespace lf
