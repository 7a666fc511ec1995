// Axes in einops' notation: "o (y x c) -> o c y x" views the second axis as three and orders them
// anew. Atoms are letters, whose sizes follow from the shape or are given, and numbers; 1 is an
// axis of one element, 0 an axis of none.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "checkpoint/layouts/layout.h"

namespace lf {

struct Rearrangement {
  std::vector<int64_t> view;   // of the tensor
  std::vector<int64_t> order;  // of the view's axes
  std::vector<int64_t> shape;  // of the result
};

// Of a tensor of this shape; nullopt if the left side does not describe it. "" changes nothing.
std::optional<Rearrangement> rearrangement(std::string_view axes, const std::vector<int64_t>& shape,
                                           const LayoutSizes& sizes);

}  // namespace lf
