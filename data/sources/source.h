// Sources of clean images and videos: a table of kinds (folders, archives, CIFAR, IDX, .npy, frame
// folders, video files, generated ones). Sources read untrusted bytes, so they check sizes before
// they allocate. They know nothing of recipes, shards or ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/clip_shape.h"
#include "run.pb.h"

namespace lf {

// A named column of data beside the pixels, one row a clip.
struct SideColumn {
  enum class Kind { kInt64, kFloat, kText } kind = Kind::kInt64;
  std::string name;
  int width = 1;  // values per row; 1 for text
};
struct SideValue {
  std::vector<int64_t> ints;
  std::vector<float> floats;
  std::string text;
};

struct Sample {
  std::vector<uint8_t> pixels;  // [T, H, W, C]
  int64_t label = -1;           // -1: none
  std::string name;             // of the item, relative to the source
  std::vector<SideValue> side;  // in the order of side_columns()
};

class Source {
 public:
  virtual ~Source() = default;
  virtual ClipShape shape() const = 0;
  virtual uint64_t size() const = 0;
  virtual std::vector<std::string> label_names() const { return {}; }
  virtual std::vector<SideColumn> side_columns() const { return {}; }
  // Loads item `index`: the same bytes on every call and machine. Thread-safe. Throws Code::kData
  // with the reason if the item cannot be used.
  virtual Sample load(uint64_t index) const = 0;
  virtual std::string name_of(uint64_t index) const = 0;
  // Items of one group, such as the clips of one video, go to the same part of a split.
  virtual std::string group_of(uint64_t index) const { return name_of(index); }
};

// One row of the table of kinds; `lastframe list sources` prints it.
struct SourceKind {
  const char* name;  // the field of the oneof in Config.source
  const char* help;
  std::unique_ptr<Source> (*open)(const SourceConfig&);
};
std::span<const SourceKind> source_kinds();

// Opens the source that the config names, restricted to its split.
std::unique_ptr<Source> open_source(const SourceConfig& config);

// The kind that a path is of by its name or, of a folder, by the name of the first file in it:
// "npy", "archive", "videos" or else "folder".
std::string kind_at(const std::string& path);

// Makes `config` this kind at this path; what it says of that kind stays.
void set_path(SourceConfig& config, const std::string& kind, const std::string& path);

// The shape of its items where the config alone tells it: by the kind (CIFAR is 32x32x3) or by its
// size, channels and window. nullopt: the data decides. Opens nothing that must exist.
std::optional<ClipShape> shape_without_data(SourceConfig config);

}  // namespace lf
