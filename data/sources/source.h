// Where clean images and videos come from: a table of kinds (folders, CIFAR, IDX, .npy, frame
// folders, generated ones), each a Source. Sources read foreign bytes, so they check before they
// allocate. They know nothing of recipes, shards or ranks. Called by data/store/build and
// RECOMPUTED repair.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clip_shape.h"
#include "run.pb.h"

namespace lf {

// A named column beside the pixels, one row a clip.
struct SideColumn {
  enum class Kind { kInt64, kFloat, kText } kind = Kind::kInt64;
  std::string name;
  int width = 1;  // numbers per row; 1 for text
};
struct SideValue {
  std::vector<int64_t> ints;
  std::vector<float> floats;
  std::string text;
};

struct Sample {
  std::vector<uint8_t> pixels;  // [T, H, W, C]
  int64_t label = -1;           // -1: none
  std::string name;             // where it came from, relative to the source
  std::vector<SideValue> side;  // as side_columns()
};

class Source {
 public:
  virtual ~Source() = default;
  virtual ClipShape shape() const = 0;
  virtual uint64_t size() const = 0;
  virtual std::vector<std::string> label_names() const { return {}; }
  virtual std::vector<SideColumn> side_columns() const { return {}; }
  // Item `index`, the same bytes on every call and machine; called from many threads. An item that
  // cannot be used throws Code::kData with the reason; the build quarantines it.
  virtual Sample load(uint64_t index) const = 0;
  virtual std::string name_of(uint64_t index) const = 0;
  // Items of one group, such as the clips of one video, fall on the same side of a split.
  virtual std::string group_of(uint64_t index) const { return name_of(index); }
};

// One row of the table of kinds; `lastframe list sources` prints it.
struct SourceKind {
  const char* name;  // the field of the oneof in Config.source
  const char* help;
  std::unique_ptr<Source> (*open)(const SourceConfig&);
};
std::span<const SourceKind> source_kinds();

// Opens the kind the config chooses, restricted to its split.
std::unique_ptr<Source> open_source(const SourceConfig& config);

}  // namespace lf
