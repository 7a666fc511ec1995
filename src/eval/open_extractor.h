// Opens a file of weights as the extractor it holds. Here and not beside the networks, because
// model does not know checkpoint. Called by evaluate and `lastframe features`.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <string>

#include "model/extractor.h"

namespace lf {

std::unique_ptr<Extractor> open_extractor(const std::string& file, Preprocessing id, at::Device);

}  // namespace lf
