// Source kind `generated`: the table of what this program can draw itself.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "data/sources/kinds.h"

namespace lf {
namespace {

constexpr std::array<SourceKind, 3> kDrawn = {{
    {"shapes", "coloured scenes; the class is the largest shape", open_shapes},
    {"moving-digits", "videos of digits that bounce off the walls", open_moving_digits},
    {"captioned-digits", "the same, each with a caption of its digits and where they go",
     open_captioned_digits},
}};

}  // namespace

std::unique_ptr<Source> open_generated(const SourceConfig& config) {
  const std::string& name = config.generated().kind();
  std::vector<std::string> names;
  for (const SourceKind& kind : kDrawn) {
    if (name == kind.name) return kind.open(config);
    names.emplace_back(kind.name);
  }
  fail(Code::kUsage, "source.generated.kind is '", printable(name), "', expected one of ",
       join(names, ", "), did_you_mean(name, names));
}

}  // namespace lf
