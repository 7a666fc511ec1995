// A model in a file of its own: how a model that is built on another gets at it.
#pragma once

#include <string>

#include "model/model.h"

namespace lf {

// A file of `lastframe export RUN --out`, or of tools/convert_weights. Code::kUsage if there is
// none, Code::kCheckpoint if it is damaged.
ExportedModel open_export(const std::string& file);

}  // namespace lf
