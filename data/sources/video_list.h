// Lists of videos with their labels, as data sets of videos bring them. Internal to data/sources.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/sources/kinds.h"

namespace lf {

struct ListedVideos {
  std::vector<size_t> files;  // of those found, in rising order
  std::vector<int64_t> labels;
  std::vector<std::string> label_names;  // stored names; empty where labels are bare numbers
};

// A .csv with a head, Kinetics': columns label, youtube_id and perhaps time_start and time_end, of
// files called ID_START_END, the seconds with six digits or as they are, or ID. Anything else has a
// line a video, "NAME LABEL" or "NAME": labels are names of classes, or numbers as they are; but
// beside a classInd.txt ("1 ApplyEyeMakeup", UCF-101's) numbers are those of its names, counted
// from 0, and a name without a label has that of its first folder.
// A file is found by its path below the root, or by its last part alone. Throws Code::kUsage for a
// line that is none, and if none of the videos is there; warns if some are not.
ListedVideos read_video_list(const std::string& path, std::span<const FoundFile> files);

}  // namespace lf
