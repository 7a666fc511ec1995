#include "launch/options/outputs.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/text.h"
#include "launch/options/values.h"

namespace lf {
namespace {

constexpr const char* kFileEndings[] = {
    ".apng", ".avi",   ".bmp", ".csv", ".gif",  ".h5",  ".hdf5",        ".html",  ".jpeg", ".jpg",
    ".json", ".jsonl", ".mkv", ".mov", ".mp4",  ".npy", ".npz",         ".pbtxt", ".pdf",  ".png",
    ".pt",   ".pth",   ".tar", ".tif", ".tiff", ".txt", ".safetensors", ".webm",  ".webp", ".zip"};

// What the names of an option's files end in, and whether it may be a folder.
struct OutputKinds {
  std::vector<std::string> files;
  bool folder = false;

  explicit OutputKinds(const Option& option) {
    for (const std::string& ending : split(option.value.endings, '|')) {
      if (ending == "/") {
        folder = true;
      } else {
        files.push_back(ending);
      }
    }
  }
  bool ends_so(const std::string& name) const {
    return std::any_of(files.begin(), files.end(),
                       [&](const std::string& ending) { return name.ends_with(ending); });
  }
  bool names_folder(const std::string& name) const { return folder && !ends_so(name); }
  std::string expected() const {
    const std::string file = files.empty() ? "" : "a name that ends in " + listed(files);
    if (!folder) return file;
    return str(file, files.empty() ? "" : ", or ",
               "the name of a folder (with / behind it if it looks like a file's)");
  }
};

// The nearest folder above a path that is there.
std::string folder_above(const std::string& path) {
  std::string folder = parent_folder(path);
  while (folder != "/" && folder != "." && !real_file_system().exists(folder)) {
    folder = parent_folder(folder);
  }
  return folder;
}

}  // namespace

std::string expected_output(const Option& option, const std::string& name) {
  const OutputKinds kinds(option);
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  const bool known = std::any_of(std::begin(kFileEndings), std::end(kFileEndings),
                                 [&](const char* ending) { return lower.ends_with(ending); });
  return !known || kinds.ends_so(name) || (kinds.folder && name.ends_with("/")) ? ""
                                                                                : kinds.expected();
}

void check_output(const Arguments& arguments, const Option& option) {
  const OutputKinds kinds(option);
  std::string path = arguments.get(option.name);
  const bool is_folder = kinds.names_folder(path);
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  const std::string what = str(option.name, " is ", printable(path));
  FileInfo info;
  const bool there = real_file_system().info(path, &info);
  if (there && is_folder && !info.is_folder) {
    arguments.refuse(what, ", which is a file; expected ", kinds.expected());
  }
  if (there && !is_folder && info.is_folder) {
    arguments.refuse(what, ", which is a folder; expected ", kinds.expected());
  }
  if (there && !is_folder && !kinds.ends_so(path)) {
    arguments.refuse(what, ", a file that may be of another kind; expected ", kinds.expected());
  }
  // A folder is made with those above it, a file is not.
  const std::string folder = !is_folder ? parent_folder(path) : there ? path : folder_above(path);
  if (!real_file_system().info(folder, &info)) {
    arguments.refuse(what, ", and there is no folder ", printable(folder), "; make it first");
  }
  if (!info.is_folder) {
    arguments.refuse(what, ", and ", printable(folder), " is a file; expected a folder there");
  }
  if (::access(folder.c_str(), W_OK) != 0) {
    const std::string reason = std::strerror(errno);
    fail(Code::kStorage, what, ", and nothing can be written to the folder ", printable(folder),
         ": ", reason, "; expected another");
  }
}

}  // namespace lf
