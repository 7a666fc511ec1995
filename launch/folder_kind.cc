#include "launch/folder_kind.h"

#include "base/file.h"
#include "checkpoint/checkpoint.h"

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
  const bool run = files.exists(folder + "/lives") || files.exists(checkpoints_folder(folder)) ||
                   is_checkpoint_folder(folder);
  return run ? kForRuns : kForStores;
}

bool is_checkpoint_folder(const std::string& folder) {
  return real_file_system().exists(folder + "/manifest.pbtxt");
}

}  // namespace lf
