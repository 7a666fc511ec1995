#include "launch/folder_kind.h"

#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "data/store/layout.h"

namespace lf {

constexpr const char* kExpected = "expected the folder of a store, a run or a checkpoint";

const char* kind_of_folder(const Arguments& arguments) {
  FileSystem& files = real_file_system();
  const std::string& folder = arguments.positional()[0];
  FileInfo info;
  if (!files.info(folder, &info)) {
    arguments.refuse("there is no folder ", printable(folder), "; ", kExpected);
  }
  if (!info.is_folder) {
    arguments.refuse(printable(folder), " is a file; ", kExpected);
  }
  const std::string kind = kind_of_our_folder(folder);
  return kind == "run" || kind == "checkpoint" ? kForRuns : kForStores;
}

std::string kind_of_our_folder(const std::string& folder) {
  FileSystem& files = real_file_system();
  if (is_checkpoint_folder(folder)) return "checkpoint";
  if (files.exists(folder + "/lives") || files.exists(checkpoints_folder(folder))) return "run";
  return files.exists(index_path(folder)) ? "store" : "";
}

bool is_checkpoint_folder(const std::string& folder) {
  return real_file_system().exists(folder + "/manifest.pbtxt");
}

}  // namespace lf
