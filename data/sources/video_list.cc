#include "data/sources/video_list.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "base/error.h"
#include "base/log.h"

namespace lf {
namespace {

constexpr uint64_t kLargestList = uint64_t{256} << 20;

struct ListedVideo {
  std::vector<std::string> names;  // that its file may have
  std::string label;               // "" for none
};

std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  for (std::string& line : split(read_file(real_file_system(), path, kLargestList), '\n')) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty()) lines.push_back(std::move(line));
  }
  return lines;
}

std::string last_part(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string without_ending(const std::string& path) { return path.substr(0, path.rfind('.')); }

// Commas between quotes part nothing.
std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells(1);
  bool quoted = false;
  for (const char c : line) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      cells.emplace_back();
    } else {
      cells.back() += c;
    }
  }
  return cells;
}

std::string with_six_digits(const std::string& seconds) {
  return std::string(seconds.size() < 6 ? 6 - seconds.size() : 0, '0') + seconds;
}

std::vector<ListedVideo> read_csv(const std::string& path, const std::vector<std::string>& lines) {
  const std::vector<std::string> head = cells_of(lines.front());
  const auto column = [&](const char* name) {
    return static_cast<size_t>(std::find(head.begin(), head.end(), name) - head.begin());
  };
  const size_t label = column("label"), id = column("youtube_id");
  const size_t start = column("time_start"), end = column("time_end");
  if (id == head.size()) {
    fail(Code::kUsage, "source.videos.list: the first line of ", printable(path),
         " names no column youtube_id, expected label,youtube_id,time_start,time_end");
  }
  std::vector<ListedVideo> videos;
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::vector<std::string> cells = cells_of(lines[i]);
    if (cells.size() < head.size()) {
      fail(Code::kUsage, "source.videos.list: line ", i + 1, " of ", printable(path), " has ",
           cells.size(), " columns, expected ", head.size(), " as in the first line");
    }
    ListedVideo video{{cells[id]}, label < head.size() ? cells[label] : ""};
    if (start < head.size() && end < head.size()) {
      video.names = {
          str(cells[id], "_", with_six_digits(cells[start]), "_", with_six_digits(cells[end])),
          str(cells[id], "_", cells[start], "_", cells[end]), cells[id]};
    }
    videos.push_back(std::move(video));
  }
  return videos;
}

std::vector<ListedVideo> read_lines(const std::vector<std::string>& lines,
                                    const std::map<std::string, size_t>& known) {
  std::vector<ListedVideo> videos;
  for (const std::string& line : lines) {
    const size_t space = line.rfind(' ');
    if (space == std::string::npos || known.contains(line)) {
      videos.push_back({{line}, ""});
    } else {
      videos.push_back(
          {{line.substr(0, line.find_last_not_of(' ', space) + 1)}, line.substr(space + 1)});
    }
  }
  return videos;
}

// Files by path and by its last part, both with and without the ending; a last part that several
// files have is none of them.
std::map<std::string, size_t> names_of(std::span<const FoundFile> files) {
  constexpr size_t kSeveral = SIZE_MAX;
  std::map<std::string, size_t> names;
  for (size_t i = 0; i < files.size(); ++i) {
    for (const std::string& name :
         {last_part(files[i].path), without_ending(last_part(files[i].path))}) {
      const auto [at, is_new] = names.emplace(name, i);
      if (!is_new && at->second != i) at->second = kSeveral;
    }
  }
  for (size_t i = 0; i < files.size(); ++i) {
    names[files[i].path] = i;
    names.emplace(without_ending(files[i].path), i);
  }
  std::erase_if(names, [](const auto& entry) { return entry.second == kSeveral; });
  return names;
}

// The names of UCF-101's classes, by number from 1; empty without such a file.
std::vector<std::string> classes_beside(const std::string& path) {
  const std::string file = parent_folder(path) + "/classInd.txt";
  std::vector<std::string> names;
  if (!real_file_system().exists(file)) return names;
  for (const std::string& line : lines_of(file)) {
    const size_t space = line.find(' ');
    uint64_t number = 0;
    if (space == std::string::npos || !parse(line.substr(0, space), &number) ||
        number != names.size() + 1) {
      fail(Code::kUsage, "source.videos.list: ", printable(file), " has the line ", printable(line),
           ", expected \"", names.size() + 1, " NAME\"");
    }
    names.push_back(line.substr(space + 1));
  }
  return names;
}

bool is_number(const std::string& text) {
  uint64_t ignored = 0;
  return parse(text, &ignored) && ignored < (uint64_t{1} << 31);
}

void resolve_labels(const std::vector<std::string>& labels, const std::string& path,
                    std::span<const FoundFile> files, ListedVideos& listed) {
  const std::vector<std::string> known = classes_beside(path);
  const bool numbers = std::all_of(labels.begin(), labels.end(), [](const std::string& label) {
    return label.empty() || is_number(label);
  });
  const size_t shared = shared_folders(files.size(), [&](size_t i) { return files[i].path; });
  std::vector<std::string> names = labels;
  for (size_t i = 0; i < names.size(); ++i) {
    uint64_t number = 0;
    if (names[i].empty()) {
      names[i] = first_folder(files[listed.files[i]].path.substr(shared));
    } else if (!known.empty() && parse(names[i], &number) && number >= 1 &&
               number <= known.size()) {
      names[i] = known[number - 1];
    } else if (numbers) {
      listed.labels.push_back(static_cast<int64_t>(number));
      parse(names[i], &listed.labels.back());
      continue;
    }
    listed.labels.push_back(-1);
  }
  const bool bare = std::any_of(listed.labels.begin(), listed.labels.end(),
                                [](int64_t label) { return label >= 0; });
  if (bare) return;
  const ClassNames classes(names);
  for (size_t i = 0; i < names.size(); ++i) {
    const auto at = std::find(known.begin(), known.end(), names[i]);
    listed.labels[i] = known.empty()       ? classes.number(names[i])
                       : at == known.end() ? -1
                                           : at - known.begin();
  }
  listed.label_names = classes.stored();
  if (known.empty()) return;
  listed.label_names.clear();
  for (const std::string& name : known) listed.label_names.push_back(store_name(name));
}

}  // namespace

ListedVideos read_video_list(const std::string& path, std::span<const FoundFile> files) {
  required_file(path, "source.videos.list", "list");
  const std::vector<std::string> lines = lines_of(path);
  if (lines.empty()) fail(Code::kUsage, "source.videos.list: ", printable(path), " is empty");
  const std::map<std::string, size_t> known = names_of(files);
  const std::vector<ListedVideo> videos =
      path.ends_with(".csv") ? read_csv(path, lines) : read_lines(lines, known);
  std::map<size_t, std::string> found;  // labels
  const ListedVideo* missing = nullptr;
  uint64_t missing_count = 0;
  for (const ListedVideo& video : videos) {
    const auto name = std::find_if(video.names.begin(), video.names.end(),
                                   [&](const std::string& n) { return known.contains(n); });
    if (name != video.names.end()) {
      found[known.at(*name)] = video.label;
    } else if (missing_count++ == 0) {
      missing = &video;
    }
  }
  if (found.empty()) {
    fail(Code::kUsage, "source.videos.list: none of the videos of ", printable(path),
         " is below source.videos.path; looked for ", printable(videos.front().names.front()),
         " first");
  }
  if (missing != nullptr) {
    LF_WARN(printable(path), ": ", human_count(missing_count), " of ", human_count(videos.size()),
            " videos are not there, such as ", printable(missing->names.front()));
  }
  ListedVideos listed;
  std::vector<std::string> labels;
  for (const auto& [file, label] : found) {
    listed.files.push_back(file);
    labels.push_back(label);
  }
  resolve_labels(labels, path, files, listed);
  return listed;
}

}  // namespace lf
