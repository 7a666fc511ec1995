#include "checkpoint/layouts/axes.h"

#include <algorithm>
#include <cctype>
#include <numeric>

#include "base/error.h"

namespace lf {
namespace {

using Axis = std::vector<std::string_view>;  // its atoms

std::vector<Axis> parsed(std::string_view side) {
  std::vector<Axis> axes;
  bool inside = false;
  for (size_t at = 0; at < side.size();) {
    if (side[at] == '(' || side[at] == ')') {
      inside = side[at++] == '(';
      if (inside) axes.emplace_back();
    } else if (side[at] == ' ') {
      ++at;
    } else {
      const size_t end = std::min(side.find_first_of(" ()", at), side.size());
      if (!inside) axes.emplace_back();
      axes.back().push_back(side.substr(at, end - at));
      at = end;
    }
  }
  return axes;
}

// The size of a number or of a letter that is given; -1: neither.
int64_t known_size(std::string_view atom, const LayoutSizes& sizes) {
  int64_t number = 0;
  if (parse(atom, &number)) return number;
  const auto given = sizes.find(atom[0]);
  return given == sizes.end() ? -1 : given->second;
}

struct Atoms {
  std::vector<std::string_view> names;
  std::vector<int64_t> sizes;
};

// Adds the atoms of an axis of `extent` elements but for those of size "1"; false if they do not
// make it up.
bool take_axis(const Axis& axis, int64_t extent, const LayoutSizes& sizes, Atoms& atoms) {
  int64_t product = 1;
  const std::string_view* open = nullptr;
  for (const std::string_view& atom : axis) {
    const int64_t size = known_size(atom, sizes);
    if (size < 0) {
      LF_CHECK(open == nullptr, "two open atoms in one axis: ", atom);
      open = &atom;
    } else {
      product *= size;
    }
  }
  if (product <= 0 || extent % product != 0 || (open == nullptr && extent != product)) return false;
  for (const std::string_view& atom : axis) {
    if (atom == "1") continue;
    atoms.names.push_back(atom);
    atoms.sizes.push_back(&atom == open ? extent / product : known_size(atom, sizes));
  }
  return true;
}

}  // namespace

std::optional<Rearrangement> rearrangement(std::string_view axes, const std::vector<int64_t>& shape,
                                           const LayoutSizes& sizes) {
  Rearrangement made;
  if (axes.empty()) {
    made.view = made.shape = shape;
    made.order.resize(shape.size());
    std::iota(made.order.begin(), made.order.end(), 0);
    return made;
  }
  const size_t arrow = axes.find("->");
  LF_CHECK(arrow != std::string_view::npos, "axes without an arrow: ", axes);
  const std::vector<Axis> left = parsed(axes.substr(0, arrow)),
                          right = parsed(axes.substr(arrow + 2));
  if (left.size() != shape.size()) return std::nullopt;
  Atoms atoms;
  for (size_t d = 0; d < shape.size(); ++d) {
    if (!take_axis(left[d], shape[d], sizes, atoms)) return std::nullopt;
  }
  made.view = atoms.sizes;
  for (const Axis& axis : right) {
    int64_t extent = 1;
    for (const std::string_view atom : axis) {
      const auto found = std::find(atoms.names.begin(), atoms.names.end(), atom);
      if (found == atoms.names.end()) {
        extent *= known_size(atom, sizes);
        continue;
      }
      const auto index = found - atoms.names.begin();
      made.order.push_back(index);
      extent *= atoms.sizes[static_cast<size_t>(index)];
    }
    made.shape.push_back(extent);
  }
  return made;
}

}  // namespace lf
