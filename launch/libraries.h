// The shared libraries of this process that a bug report needs: which files they are, which
// versions they say they have, and whether one of them is here twice. Called by doctor.
#pragma once

#include <string>
#include <vector>

namespace lf {

struct LoadedLibrary {
  std::string name;     // "libtorch_cpu"
  std::string version;  // as the library says, or else as its file is named; "" if neither tells
  std::string path;     // links resolved
};

// Those of a fixed list that are loaded now, in the order of that list.
std::vector<LoadedLibrary> loaded_libraries();

// One sentence for each library, or kind of library, that is loaded from two files.
std::vector<std::string> double_libraries(const std::vector<LoadedLibrary>& libraries);

}  // namespace lf
