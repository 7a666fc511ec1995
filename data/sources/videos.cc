// Source kind `videos`.
#include "base/error.h"
#include "data/sources/kinds.h"

namespace lf {

std::unique_ptr<Source> open_videos(const SourceConfig& config) {
  fail(Code::kUsage, "source.videos: ", printable(config.videos().path()), " cannot be read yet");
}

}  // namespace lf
