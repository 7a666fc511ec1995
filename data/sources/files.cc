// Finds files with untrusted names and links, and cuts videos into clips.
#include <algorithm>
#include <cctype>
#include <filesystem>

#include "base/error.h"
#include "base/log.h"
#include "data/sources/kinds.h"

namespace lf {
namespace {

namespace fs = std::filesystem;

constexpr int kDeepestFolder = 32;
// Links may make a tree of any size of few folders.
constexpr uint64_t kMostFolders = uint64_t{1} << 20;
constexpr const char* kLeadsOut = "is a link out of the source's folder";

struct Search {
  std::string root;
  const FileKind* kind;
  const char* option;
  bool follow_links;
  std::string advice = {};  // on links
  uint64_t folders = 0;
  std::vector<fs::path> within = {};  // the real folders above, with `follow_links`
  std::vector<FoundFile> found = {};
  uint64_t left_out = 0;
  std::string example = {};  // of a file left out

  void leave_out(const std::string& name) {
    if (left_out++ == 0) example = name;
  }

  void look_into(const std::string& relative, int depth) {
    const std::string folder = relative.empty() ? root : root + "/" + relative;
    std::error_code error;
    if (++folders > kMostFolders) {
      fail(Code::kUsage, option, ": ", printable(root),
           " and what its links lead to hold more than ", kMostFolders,
           " folders; give a folder without so many links to folders");
    }
    if (follow_links) {
      const fs::path real = fs::canonical(folder, error);
      if (std::find(within.begin(), within.end(), real) != within.end()) return leave_out(relative);
      within.push_back(real);
    }
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      const std::string name = it->path().filename().string();
      if (name.front() == '.') continue;
      consider(*it, relative.empty() ? name : relative + "/" + name, depth);
    }
    if (error) fail(Code::kUsage, "cannot list ", printable(folder), ": ", error.message());
    if (follow_links) within.pop_back();
  }

  void consider(const fs::directory_entry& entry, const std::string& name, int depth) {
    std::error_code error;
    const fs::file_type type =
        follow_links ? entry.status(error).type() : entry.symlink_status(error).type();
    if (type == fs::file_type::directory) {
      return depth < kDeepestFolder ? look_into(name, depth + 1) : leave_out(name);
    }
    if (!is_called(name, *kind)) return leave_out(name);
    if (type == fs::file_type::regular) {
      found.push_back({name, "", follow_links});
    } else if (type == fs::file_type::symlink) {
      if (fs::is_directory(entry.path(), error)) return leave_out(name);
      found.push_back({name, lies_under(root, entry.path().string()) ? "" : kLeadsOut + advice});
    } else {
      leave_out(name);
    }
  }
};

}  // namespace

std::string store_name(const std::string& name) { return printable(name, 4 * name.size() + 1); }

const std::string& required_path(const std::string& path, const char* option) {
  if (path.empty()) fail(Code::kUsage, option, " is not set; give the file or folder to read");
  return path;
}

const std::string& required_file(const std::string& path, const char* option, const char* like) {
  required_path(path, option);
  FileSystem& files = real_file_system();
  FileInfo info;
  if (!files.info(path, &info)) {
    const std::string other =
        path.ends_with(".gz") ? path.substr(0, path.size() - 3) : path + ".gz";
    fail(Code::kUsage, option, ": there is no file ", printable(path),
         files.exists(other) ? "; did you mean " + printable(other) + "?" : std::string());
  }
  if (!info.is_folder) return path;
  std::string found;
  for (const std::string& name : files.list(path)) {
    if (found.empty() && name.find(like) != std::string::npos) found = path + "/" + name;
  }
  fail(Code::kUsage, option, ": ", printable(path), " is a folder, expected a file",
       found.empty() ? std::string() : " such as " + printable(found));
}

bool is_called(std::string_view name, const FileKind& kind) {
  const auto ends_with = [&](std::string_view ending) {
    return name.size() >= ending.size() &&
           std::equal(ending.begin(), ending.end(), name.end() - static_cast<long>(ending.size()),
                      [](char a, unsigned char b) { return a == std::tolower(b); });
  };
  return std::any_of(kind.endings.begin(), kind.endings.end(), ends_with);
}

std::vector<FoundFile> find_files(const std::string& root, const char* option, const FileKind& kind,
                                  bool follow_links) {
  std::error_code error;
  if (!fs::is_directory(root, error)) {
    fail(Code::kUsage, option, ": there is no folder ", printable(root));
  }
  Search search{.root = root, .kind = &kind, .option = option, .follow_links = follow_links};
  if (option == std::string("source.folder.path")) {
    search.advice = "; source.folder.follow_links=true reads it";
  }
  search.look_into("", 0);
  if (search.left_out > 0) {
    LF_WARN(printable(root), ": left out ", human_count(search.left_out), " files that are not ",
            kind.plural, " by name or kind, such as ", printable(search.example));
    if (fs::is_symlink(root + "/" + search.example, error) &&
        fs::is_directory(root + "/" + search.example, error)) {
      LF_WARN(printable(search.example), " is a link to a folder", search.advice);
    }
  }
  if (search.found.empty()) refuse_none(option, root, kind);
  std::sort(search.found.begin(), search.found.end(),
            [](const FoundFile& a, const FoundFile& b) { return a.path < b.path; });
  return std::move(search.found);
}

void refuse_none(const char* option, const std::string& root, const FileKind& kind) {
  std::vector<std::string> endings(kind.endings.begin(), kind.endings.end());
  const std::string last = endings.back();
  endings.pop_back();
  fail(Code::kUsage, option, ": ", printable(root), " holds no ", join(endings, ", "), " or ", last,
       " files");
}

std::string path_to_open(const std::string& root, const FoundFile& file) {
  const std::string name = store_name(file.path);
  if (!file.refused.empty()) fail(Code::kData, name, " ", file.refused);
  const std::string path = safe_join(root, file.path, "source");
  std::error_code error;
  if (!fs::is_regular_file(path, error))
    fail(Code::kData, name, " is not a regular file (any more)");
  if (!file.linked && fs::is_symlink(path, error) && !lies_under(root, path)) {
    fail(Code::kData, name, " ", kLeadsOut);
  }
  return path;
}

std::string first_folder(const std::string& path) {
  const size_t slash = path.find('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

size_t shared_folders(size_t count, const std::function<std::string(size_t)>& path) {
  std::string shared;  // with a '/' at its end
  bool holds_file = false;
  for (size_t i = 0; i < count; ++i) {
    std::string folders = path(i);
    folders.resize(folders.rfind('/') + 1);  // npos + 1 is 0
    if (i == 0) shared = folders;
    size_t same = 0;
    while (same < std::min(shared.size(), folders.size()) && shared[same] == folders[same]) ++same;
    if (same < shared.size()) {
      shared.resize(same == 0 ? 0 : shared.rfind('/', same - 1) + 1);
      holds_file = false;
    }
    holds_file |= folders.size() == shared.size();
  }
  if (holds_file && !shared.empty()) {
    shared.pop_back();
    shared.resize(shared.rfind('/') + 1);
  }
  return shared.size();
}

ClassNames::ClassNames(std::vector<std::string> names) : names_(std::move(names)) {
  std::sort(names_.begin(), names_.end());
  names_.erase(std::unique(names_.begin(), names_.end()), names_.end());
  if (!names_.empty() && names_.front().empty()) names_.erase(names_.begin());
}

int64_t ClassNames::number(const std::string& name) const {
  const auto at = std::lower_bound(names_.begin(), names_.end(), name);
  return at != names_.end() && *at == name ? at - names_.begin() : -1;
}

std::vector<std::string> ClassNames::stored() const {
  std::vector<std::string> names;
  for (const std::string& name : names_) names.push_back(store_name(name));
  return names;
}

void Windows::set_up(const WindowConfig& config, uint64_t whole) {
  stride_ = static_cast<uint64_t>(config.stride());
  const uint64_t frames = config.frames() != 0 ? static_cast<uint64_t>(config.frames())
                                               : (whole + stride_ - 1) / stride_;
  if (frames < 1 || frames > 4096) {
    fail(Code::kUsage, "the videos are ", whole,
         " frames long; set source.window.frames to the frames of a clip, at most 4096");
  }
  frames_ = static_cast<int>(frames);
  hop_ = config.hop() != 0 ? static_cast<uint64_t>(config.hop()) : frames * stride_;
}

uint64_t Windows::windows_in(uint64_t length) const {
  return length < span() ? 0 : (length - span()) / hop_ + 1;
}

Windows::Windows(const WindowConfig& config, std::vector<uint64_t> lengths,
                 const std::vector<std::string>& names) {
  LF_CHECK(!lengths.empty() && lengths.size() == names.size());
  for (size_t v = 1; config.frames() == 0 && v < lengths.size(); ++v) {
    if (lengths[v] != lengths[0]) {
      fail(Code::kUsage, "video ", store_name(names[v]), " has ", lengths[v], " frames, ",
           store_name(names[0]), " has ", lengths[0],
           "; set source.window.frames to the frames of a clip");
    }
  }
  set_up(config, lengths[0]);
  videos_ = lengths.size();
  uint64_t total = 0, too_short = 0;
  for (const uint64_t length : lengths) {
    const uint64_t count = windows_in(length);
    too_short += count == 0;
    ends_.push_back(total += count);
  }
  if (total == 0) {
    fail(Code::kUsage, "no video is long enough for ", frames_, " frames ", stride_,
         " apart; lower source.window.frames or .stride");
  }
  if (too_short > 0) {
    LF_WARN(too_short, " of ", lengths.size(), " videos are shorter than a clip and are left out");
  }
}

Windows::Windows(const WindowConfig& config, uint64_t videos, uint64_t length) {
  set_up(config, length);
  videos_ = videos;
  each_ = windows_in(length);
  if (each_ == 0) {
    fail(Code::kUsage, "videos of ", length, " frames are too short for ", frames_, " frames ",
         stride_, " apart; lower source.window.frames or .stride");
  }
}

uint64_t Windows::size() const { return ends_.empty() ? videos_ * each_ : ends_.back(); }

Windows::Clip Windows::operator()(uint64_t index) const {
  LF_CHECK(index < size());
  if (ends_.empty()) return {index / each_, index % each_ * hop_};
  const auto end = std::upper_bound(ends_.begin(), ends_.end(), index);
  const uint64_t before = end == ends_.begin() ? 0 : *(end - 1);
  return {static_cast<uint64_t>(end - ends_.begin()), (index - before) * hop_};
}

}  // namespace lf
