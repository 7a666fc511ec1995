// Adds a side column that the user brings, a vector or several for each item of any source, such as
// embeddings of its captions, or of their tokens, computed elsewhere.
#include <cstring>

#include "base/error.h"
#include "data/sources/kinds.h"

namespace lf {
namespace {

constexpr const char* kColumn = "embedding";
constexpr uint64_t kWidest = 1 << 20;  // values of an item; a store's limit

class Embedded : public Source {
 public:
  Embedded(std::unique_ptr<Source> source, const std::string& path)
      : source_(std::move(source)), rows_(required_file(path, "source.embeddings", ".npy")) {
    const std::vector<uint64_t>& shape = rows_.header.shape;
    const bool rows = (shape.size() == 2 || shape.size() == 3) && shape[0] == source_->size();
    const uint64_t width = rows && shape[0] > 0 ? rows_.header.elements() / shape[0] : 0;
    if (rows_.header.type != "<f4" || width == 0 || width > kWidest) {
      fail(Code::kUsage, "source.embeddings: ", rows_.name, " is ", shape_text(shape), " of type '",
           rows_.header.type, "', expected [", source_->size(), ", width] or [", source_->size(),
           ", tokens, width] of '<f4' (float32), a row for each item of the source and at most ",
           kWidest, " values in it");
    }
    width_ = static_cast<size_t>(width);
  }

  ClipShape shape() const override { return source_->shape(); }
  uint64_t size() const override { return source_->size(); }
  std::vector<std::string> label_names() const override { return source_->label_names(); }
  std::string name_of(uint64_t index) const override { return source_->name_of(index); }
  std::string group_of(uint64_t index) const override { return source_->group_of(index); }

  std::vector<SideColumn> side_columns() const override {
    std::vector<SideColumn> columns = source_->side_columns();
    columns.push_back({SideColumn::Kind::kFloat, kColumn, static_cast<int>(width_)});
    return columns;
  }

  Sample load(uint64_t index) const override {
    Sample sample = source_->load(index);
    std::vector<uint8_t> bytes(width_ * sizeof(float));
    rows_.file->read(rows_.header.data_offset + index * bytes.size(), bytes.data(), bytes.size());
    SideValue& value = sample.side.emplace_back();
    value.floats.resize(width_);
    std::memcpy(value.floats.data(), bytes.data(), bytes.size());
    return sample;
  }

 private:
  std::unique_ptr<Source> source_;
  NpyFile rows_;
  size_t width_ = 0;
};

}  // namespace

std::unique_ptr<Source> with_embeddings(std::unique_ptr<Source> source, const std::string& path) {
  return std::make_unique<Embedded>(std::move(source), path);
}

}  // namespace lf
