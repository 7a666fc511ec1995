// Source kind `archive`.
#include "base/error.h"
#include "data/sources/kinds.h"

namespace lf {

std::unique_ptr<Source> open_archive(const SourceConfig& config) {
  fail(Code::kUsage, "source.archive: ", printable(config.archive().path()), " cannot be read yet");
}

}  // namespace lf
