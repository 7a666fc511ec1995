// Tensors in another program's layout (layouts/layout.h): a network's for a file of theirs, and
// theirs into a network.
#pragma once

#include <string>
#include <vector>

#include "base/named_tensor.h"
#include "checkpoint/layouts/layout.h"
#include "checkpoint/tensors.h"

namespace lf {

// The same tensors in the layout; `config` is that of their network. Throws Code::kUsage, beginning
// with `where`, if the layout cannot hold them.
LoadableTensors in_layout(const NetworkLayout& layout, const Config& config,
                          LoadableTensors tensors, const std::string& where);

// The same with all floating-point tensors of this type. load() throws Code::kUsage for values that
// become infinite.
LoadableTensors in_type(DType type, LoadableTensors tensors, const std::string& where);

// Reads a file of theirs into the tensors of our network; those that the layout leaves out stay as
// they are. Nothing is changed unless the file holds exactly the tensors of the layout, in any
// floating-point type: one Code::kCheckpoint message lists all that are missing, unexpected or of
// another shape or type.
void read_layout(const NetworkLayout& layout, const Config& config, const SafetensorsFile& file,
                 const std::vector<NamedTensor>& ours);

}  // namespace lf
