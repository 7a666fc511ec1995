#include "data/store/shard.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/crc32c.h"
#include "base/error.h"
#include "data/store/hdf5_skeleton.h"
#include "data/store/little_endian.h"

namespace lf {
namespace {

constexpr std::string_view kTrailerMagic = "LFSHARD1";
constexpr size_t kFooter = 4 + 4 + 8;  // length, checksum, magic
constexpr uint64_t kLargestTrailer = uint64_t{1} << 30;
constexpr size_t kChunk = 1 << 20;

template <typename T>
std::string_view view_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

// The ranges of [0, hdf5_bytes) that are not pixels, ascending.
std::vector<std::pair<uint64_t, uint64_t>> metadata_ranges(const Layout& layout,
                                                           const ShardRecord& record,
                                                           uint64_t hdf5_bytes) {
  std::vector<std::pair<uint64_t, uint64_t>> pixels, ranges;
  for (size_t d = 0; d < layout.datasets().size(); ++d) {
    const uint64_t address = record.address(static_cast<int>(d));
    if (layout.datasets()[d].pixels) {
      pixels.emplace_back(std::min(address, hdf5_bytes),
                          std::min(address + layout.bytes(d, record), hdf5_bytes));
    }
  }
  std::sort(pixels.begin(), pixels.end());
  uint64_t at = 0;
  for (const auto& [begin, end] : pixels) {
    if (begin > at) ranges.emplace_back(at, begin);
    at = std::max(at, end);
  }
  if (at < hdf5_bytes) ranges.emplace_back(at, hdf5_bytes);
  return ranges;
}

void append_trailer(ShardTrailer& trailer, std::string& bytes) {
  ShardRecord& record = *trailer.mutable_record();
  // The record's field `bytes` has a fixed width, so setting it does not change the length.
  record.set_bytes(0);
  record.set_bytes(bytes.size() + trailer.ByteSizeLong() + kFooter);
  std::string body = trailer.SerializeAsString();
  put_u32(body, static_cast<uint32_t>(body.size()));
  put_u32(body, crc32c(body.data(), body.size()));
  bytes += body;
  bytes += kTrailerMagic;
  LF_CHECK(bytes.size() == record.bytes());
}

}  // namespace

ShardWriter::ShardWriter(const StoreIndex& plan, const Layout& layout, uint64_t number)
    : plan_(plan), layout_(layout), texts_(layout.texts()) {
  const StorePart& part = plan.parts(0);
  trailer_.set_format(kStoreFormat);
  trailer_.set_store_id(plan.store_id());
  trailer_.set_shard(number);
  const uint64_t first = number * part.items_per_shard();
  trailer_.mutable_record()->set_first_item(first);
  values_.resize(static_cast<size_t>(plan.columns_size()));
  // Reserved at once: a growing string would copy nearly all of the shard's bytes.
  const uint64_t items = std::min(part.items_per_shard(), part.items() - first);
  const size_t image = layout.image_bytes();
  frames_.reserve(items * layout.held_draws() *
                  (layout.corrupted_bytes() + (layout.whole() ? image : 0)));
  if (layout.image_dataset() != layout.frames_dataset() || !layout.stored()) {
    images_.reserve(items * image);
  }
}

void ShardWriter::check(const Sample& sample) const {
  const auto text_fits = [](const std::string& what, const std::string& text) {
    if (text.size() > kLongestText) {
      fail(Code::kData, what, " has ", human_bytes(text.size()), ", at most ",
           human_bytes(kLongestText), " are kept");
    }
  };
  text_fits("its name", sample.name);
  const size_t columns = static_cast<size_t>(plan_.columns_size());
  if (sample.side.size() != columns) {
    fail(Code::kData, "it has ", sample.side.size(), " side values, expected ", columns);
  }
  for (size_t c = 0; c < columns; ++c) {
    const StoreColumn& column = plan_.columns(static_cast<int>(c));
    const SideValue& value = sample.side[c];
    const size_t width = column.kind() == StoreColumn::INT64   ? value.ints.size()
                         : column.kind() == StoreColumn::FLOAT ? value.floats.size()
                                                               : column.width();
    if (width != column.width()) {
      fail(Code::kData, "its side column ", column.name(), " has ", width, " values, expected ",
           column.width());
    }
    text_fits("its side column " + column.name(), value.text);
  }
}

void ShardWriter::add_text(TextColumn& column, const std::string& text) {
  column.bytes += text;
  column.offsets.push_back(column.bytes.size());
  crc_.push_back(crc32c(text.data(), text.size()));
}

void ShardWriter::add(uint64_t item, const Sample& sample, const uint8_t* image,
                      const std::function<void(uint32_t, void*)>& make) {
  check(sample);
  const auto image_view =
      std::string_view(reinterpret_cast<const char*>(image), layout_.image_bytes());
  crc_.push_back(crc32c(image, layout_.image_bytes()));
  for (uint32_t draw = 0; draw < layout_.held_draws(); ++draw) {
    const size_t at = frames_.size();
    frames_.resize(at + layout_.corrupted_bytes());
    make(draw, frames_.data() + at);
    crc_.push_back(crc32c(frames_.data() + at, layout_.corrupted_bytes()));
    if (layout_.whole()) frames_ += image_view;
  }
  if (layout_.image_dataset() != layout_.frames_dataset() || !layout_.stored()) {
    images_ += image_view;
  }
  items_.push_back(item);
  labels_.push_back(sample.label);
  size_t text = 0;
  add_text(texts_[text++], sample.name);
  for (size_t c = 0; c < sample.side.size(); ++c) {
    const SideValue& value = sample.side[c];
    const StoreColumn::Kind kind = plan_.columns(static_cast<int>(c)).kind();
    if (kind == StoreColumn::TEXT) {
      add_text(texts_[text++], value.text);
    } else {
      const std::string_view bytes =
          kind == StoreColumn::INT64 ? view_of(value.ints) : view_of(value.floats);
      values_[c] += bytes;
      crc_.push_back(crc32c(bytes.data(), bytes.size()));
    }
  }
}

void ShardWriter::quarantine(uint64_t item, const std::string& name, const std::string& reason) {
  QuarantinedItem* entry = trailer_.add_quarantine();
  entry->set_item(item);
  entry->set_name(name.substr(0, 4096));
  entry->set_reason(reason.substr(0, 4096));
}

std::string_view ShardWriter::bytes_of(size_t d) const {
  if (d == Layout::kCrc) return view_of(crc_);
  if (d == Layout::kItems) return view_of(items_);
  if (d == Layout::kLabels) return view_of(labels_);
  if (layout_.datasets()[d].pixels) {
    return layout_.stored() && d == layout_.frames_dataset() ? frames_ : images_;
  }
  size_t text = 0;
  const auto text_part = [&](size_t first) -> std::string_view {
    return d == first ? view_of(texts_[text].offsets) : std::string_view(texts_[text].bytes);
  };
  if (d <= layout_.names() + 1) return text_part(layout_.names());
  for (size_t c = 0; c < values_.size(); ++c) {
    const size_t first = layout_.column(c);
    if (plan_.columns(static_cast<int>(c)).kind() != StoreColumn::TEXT) {
      if (d == first) return values_[c];
      continue;
    }
    ++text;
    if (d <= first + 1) return text_part(first);
  }
  fail(Code::kBug, "a shard has no dataset ", d);
}

std::string ShardWriter::finish() {
  ShardRecord& record = *trailer_.mutable_record();
  record.set_clips(clips());
  record.set_quarantined(quarantined());
  for (const TextColumn& column : texts_) record.add_text_bytes(column.bytes.size());
  std::string bytes = make_hdf5_skeleton(plan_, layout_, trailer_);
  uint32_t table_crc = 0;
  for (size_t d = 0; d < layout_.datasets().size(); ++d) {
    const std::string_view data = bytes_of(d);
    const uint64_t address = record.address(static_cast<int>(d));
    LF_CHECK(data.size() == layout_.bytes(d, record) && address + data.size() <= bytes.size());
    if (!data.empty()) std::memcpy(bytes.data() + address, data.data(), data.size());
    if (d <= Layout::kLabels) table_crc = crc32c(data.data(), data.size(), table_crc);
  }
  record.set_table_crc(table_crc);
  uint32_t metadata_crc = 0;
  for (const auto& [begin, end] : metadata_ranges(layout_, record, bytes.size())) {
    metadata_crc = crc32c(bytes.data() + begin, end - begin, metadata_crc);
  }
  record.set_metadata_crc(metadata_crc);
  append_trailer(trailer_, bytes);
  return bytes;
}

ShardTrailer read_trailer(const InFile& file, const std::string& what, uint64_t* hdf5_bytes) {
  const uint64_t size = file.size();
  std::array<char, kFooter> footer{};
  if (size >= kFooter) file.read(size - kFooter, footer.data(), kFooter);
  if (size < kFooter || std::string_view(footer.data() + 8, 8) != kTrailerMagic) {
    fail(Code::kData, what,
         " does not end as a shard of a store does; truncated, or not written by lastframe?");
  }
  const uint64_t length = get_u32(footer.data());
  if (length > kLargestTrailer || length > size - kFooter) {
    fail(Code::kData, what, ": its trailer claims ", length, " bytes, the file has ", size,
         "; damaged");
  }
  std::string body(length + 4, '\0');
  file.read(size - kFooter - length, body.data(), body.size());
  if (crc32c(body.data(), body.size()) != get_u32(footer.data() + 4)) {
    fail(Code::kData, what, ": the checksum of its trailer is wrong; flipped bits");
  }
  ShardTrailer trailer;
  if (!trailer.ParseFromArray(body.data(), static_cast<int>(length))) {
    fail(Code::kData, what, ": its trailer cannot be read; damaged");
  }
  if (trailer.format() != kStoreFormat) {
    fail(Code::kData, what, " has format ", trailer.format(), ", this program reads ", kStoreFormat,
         "; use another lastframe");
  }
  if (trailer.record().bytes() != size) {
    fail(Code::kData, what, " has ", human_count(size), " bytes, it was written with ",
         human_count(trailer.record().bytes()), "; damaged");
  }
  if (hdf5_bytes != nullptr) *hdf5_bytes = size - kFooter - length;
  return trailer;
}

uint32_t metadata_checksum(const InFile& file, const Layout& layout, const ShardRecord& record,
                           uint64_t hdf5_bytes) {
  std::string chunk;
  uint32_t crc = 0;
  for (auto [at, end] : metadata_ranges(layout, record, hdf5_bytes)) {
    while (at < end) {
      chunk.resize(std::min<uint64_t>(kChunk, end - at));
      file.read(at, chunk.data(), chunk.size());
      crc = crc32c(chunk.data(), chunk.size(), crc);
      at += chunk.size();
    }
  }
  return crc;
}

}  // namespace lf
