// The shared libraries of this process that a bug report needs: their files, their versions, and
// whether one of them is loaded twice.
#pragma once

#include <string>
#include <vector>

namespace lf {

struct LoadedLibrary {
  std::string name;     // "libtorch_cpu"
  std::string version;  // the library's own, else that of the file's name, else ""
  std::string path;     // links resolved
};

// Those of a fixed list that are loaded now, in the order of that list.
std::vector<LoadedLibrary> loaded_libraries();

// One sentence for each library, or kind of library, that is loaded from two files.
std::vector<std::string> double_libraries(const std::vector<LoadedLibrary>& libraries);

}  // namespace lf
