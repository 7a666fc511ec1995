#include "data/store/shard.h"

#include <google/protobuf/text_format.h>
#include <hdf5.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <mutex>

#include "base/crc32c.h"
#include "base/error.h"

namespace lf {
namespace {

constexpr std::string_view kTrailerMagic = "LFSHARD1";
constexpr size_t kFooter = 4 + 4 + 8;  // length, checksum, magic
constexpr uint64_t kLargestTrailer = uint64_t{1} << 30;
constexpr size_t kChunk = 1 << 20;

// HDF5 is not built thread-safe: one thread at a time.
std::mutex hdf5_mutex;

// An HDF5 identifier. A negative one is our bug or a lack of memory, as no foreign bytes get here.
class Handle {
 public:
  Handle(hid_t id, herr_t (*close)(hid_t), const char* what) : id_(id), close_(close) {
    if (id < 0) fail(Code::kBug, "HDF5 cannot make a ", what, " in memory; out of memory?");
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { close_(id_); }
  operator hid_t() const { return id_; }  // NOLINT: handles are passed to C

 private:
  hid_t id_;
  herr_t (*close_)(hid_t);
};

void must(herr_t status, const char* what) {
  if (status < 0) fail(Code::kBug, "HDF5: ", what, " failed; out of memory?");
}

hid_t type_of(Dataset::Type type) {
  using Type = Dataset::Type;
  switch (type) {
    case Type::kUint8:
      return H5Tcopy(H5T_STD_U8LE);
    case Type::kUint32:
      return H5Tcopy(H5T_STD_U32LE);
    case Type::kInt64:
      return H5Tcopy(H5T_STD_I64LE);
    case Type::kUint64:
      return H5Tcopy(H5T_STD_U64LE);
    case Type::kFloat32:
      return H5Tcopy(H5T_IEEE_F32LE);
    case Type::kFp16: {
      const hid_t fp16 = H5Tcopy(H5T_IEEE_F32LE);
      H5Tset_fields(fp16, 15, 10, 5, 0, 10);
      H5Tset_size(fp16, 2);
      H5Tset_ebias(fp16, 15);
      return fp16;
    }
  }
  return H5I_INVALID_HID;
}

void write_text(hid_t object, const char* name, const std::string& text) {
  const Handle type(H5Tcopy(H5T_C_S1), H5Tclose, "type");
  must(H5Tset_size(type, std::max<size_t>(1, text.size())), "set_size");
  must(H5Tset_strpad(type, H5T_STR_NULLPAD), "set_strpad");
  must(H5Tset_cset(type, H5T_CSET_UTF8), "set_cset");
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose, "space");
  const Handle attribute(H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose,
                         "attribute");
  must(H5Awrite(attribute, type, text.c_str()), "writing an attribute");
}

void write_number(hid_t object, const char* name, uint64_t value) {
  const Handle space(H5Screate(H5S_SCALAR), H5Sclose, "space");
  const Handle attribute(H5Acreate2(object, name, H5T_STD_U64LE, space, H5P_DEFAULT, H5P_DEFAULT),
                         H5Aclose, "attribute");
  must(H5Awrite(attribute, H5T_NATIVE_UINT64, &value), "writing an attribute");
}

std::string one_line(const google::protobuf::Message& message) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  std::string text;
  printer.PrintToString(message, &text);
  return text;
}

// The attributes that a reader with only h5py needs.
void write_description(hid_t root, const StoreIndex& plan, const Layout& layout,
                       const ShardTrailer& trailer) {
  std::string labels;
  for (const std::string& name : plan.label_names()) labels += printable(name) + "\n";
  write_text(root, "format", "lastframe shard 1");
  write_text(root, "store", plan.store_id());
  write_number(root, "shard", trailer.shard());
  write_number(root, "clips", trailer.record().clips());
  write_number(root, "frames", plan.frames());
  write_text(root, "mode", StoreMode_Name(plan.mode()));
  write_number(root, "draws", plan.draws());
  write_number(root, "seed", plan.parts(0).seed());
  write_text(root, "recipe", plan.recipe_text());
  write_text(root, "recipe_config", one_line(plan.recipe()));
  write_text(root, "source", one_line(plan.parts(0).source()));
  write_text(root, "label_names", labels);
  write_text(root, "crc_columns", join(layout.checksum_names(), ","));
}

const char* axes_of(const Dataset& dataset) {
  if (!dataset.pixels) return nullptr;
  if (dataset.row.size() == 3) return "clip,height,width,channel";
  return dataset.row.size() == 4 ? "clip,frame,height,width,channel"
                                 : "clip,draw,frame,height,width,channel";
}

// Allocates a dataset, contiguous and unfiltered. Returns its address, or 0 if it is empty.
uint64_t make_dataset(hid_t file, const Dataset& dataset, uint64_t rows) {
  std::vector<hsize_t> extents = {rows};
  extents.insert(extents.end(), dataset.row.begin(), dataset.row.end());
  const Handle type(type_of(dataset.type), H5Tclose, "type");
  const Handle space(H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr),
                     H5Sclose, "space");
  const Handle plist(H5Pcreate(H5P_DATASET_CREATE), H5Pclose, "property list");
  must(H5Pset_layout(plist, H5D_CONTIGUOUS), "set_layout");
  must(H5Pset_alloc_time(plist, H5D_ALLOC_TIME_EARLY), "set_alloc_time");
  must(H5Pset_fill_time(plist, H5D_FILL_TIME_NEVER), "set_fill_time");
  must(H5Pset_obj_track_times(plist, false), "set_obj_track_times");
  const Handle data(
      H5Dcreate2(file, dataset.name.c_str(), type, space, H5P_DEFAULT, plist, H5P_DEFAULT),
      H5Dclose, "dataset");
  if (const char* axes = axes_of(dataset)) write_text(data, "axes", axes);
  const haddr_t address = H5Dget_offset(data);
  return address == HADDR_UNDEF ? 0 : address;
}

void put_u32(std::string& out, uint32_t value) {
  for (int i = 0; i < 4; ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

uint32_t get_u32(const char* at) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    value |= static_cast<uint32_t>(static_cast<unsigned char>(at[i])) << (8 * i);
  }
  return value;
}

// Jenkins' lookup3, the checksum of HDF5's own metadata.
uint32_t lookup3(std::string_view bytes) {
  uint32_t a = 0xdeadbeef + static_cast<uint32_t>(bytes.size()), b = a, c = a;
  const auto take = [&](size_t at) {  // up to 12 bytes as three words, zeros after the end
    std::array<char, 12> block{};
    std::copy_n(bytes.begin() + static_cast<int64_t>(at), std::min<size_t>(12, bytes.size() - at),
                block.begin());
    a += get_u32(block.data());
    b += get_u32(block.data() + 4);
    c += get_u32(block.data() + 8);
  };
  const auto mix = [](uint32_t& x, uint32_t& y, uint32_t& z, int bits) {
    x = (x - z) ^ std::rotl(z, bits);
    z += y;
  };
  const auto close = [](uint32_t& x, uint32_t y, int bits) { x = (x ^ y) - std::rotl(y, bits); };
  size_t at = 0;
  for (; bytes.size() - at > 12; at += 12) {
    take(at);
    mix(a, b, c, 4);
    mix(b, c, a, 6);
    mix(c, a, b, 8);
    mix(a, b, c, 16);
    mix(b, c, a, 19);
    mix(c, a, b, 4);
  }
  take(at);
  close(c, b, 14);
  close(a, c, 11);
  close(b, a, 25);
  close(c, b, 16);
  close(a, c, 4);
  close(b, a, 14);
  close(c, b, 24);
  return c;
}

// Clears the flag "open for writing", which HDF5 sets in memory, in the bytes to be written.
void clear_open_flag(std::string& file) {
  constexpr size_t kFlags = 11, kChecksum = 44;  // of a version 2 superblock with 8-byte addresses
  LF_CHECK(file.size() > kChecksum + 4 && file[8] == 2);
  const auto checksum = [&] { return lookup3(std::string_view(file).substr(0, kChecksum)); };
  LF_CHECK(get_u32(file.data() + kChecksum) == checksum(), "HDF5's superblock is not as expected");
  file[kFlags] = 0;
  std::string bytes;
  put_u32(bytes, checksum());
  file.replace(kChecksum, 4, bytes);
}

// The bytes of an HDF5 file with all datasets allocated and none written; `trailer` gets the
// addresses. The caller fills the datasets in, which saves a copy of the pixels through HDF5.
std::string make_skeleton(const StoreIndex& plan, const Layout& layout, ShardTrailer& trailer) {
  const std::lock_guard<std::mutex> lock(hdf5_mutex);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "property list");
  must(H5Pset_fapl_core(access, 1 << 16, false), "set_fapl_core");
  must(H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18), "set_libver_bounds");
  // Blocks reserved for more metadata would leave holes of uninitialised memory.
  must(H5Pset_meta_block_size(access, 0), "set_meta_block_size");
  must(H5Pset_small_data_block_size(access, 0), "set_small_data_block_size");
  const Handle create(H5Pcreate(H5P_FILE_CREATE), H5Pclose, "property list");
  must(H5Pset_obj_track_times(create, false), "set_obj_track_times");
  must(H5Pset_attr_phase_change(create, 64, 32), "set_attr_phase_change");
  const Handle file(H5Fcreate("shard", H5F_ACC_TRUNC, create, access), H5Fclose, "file");

  ShardRecord& record = *trailer.mutable_record();
  for (size_t d = 0; d < layout.datasets().size(); ++d) {
    record.add_address(make_dataset(file, layout.datasets()[d], layout.rows(d, record)));
  }
  {
    const Handle root(H5Gopen2(file, "/", H5P_DEFAULT), H5Gclose, "group");
    write_description(root, plan, layout, trailer);
  }
  must(H5Fflush(file, H5F_SCOPE_GLOBAL), "flush");
  // Copied from the driver's memory, which may be longer than the file: H5Fget_file_image would
  // clear the open flag without updating the checksum.
  void** memory = nullptr;
  const ssize_t size = H5Fget_file_image(file, nullptr, 0);
  must(H5Fget_vfd_handle(file, access, reinterpret_cast<void**>(&memory)), "get_vfd_handle");
  LF_CHECK(size > 0);
  std::string bytes(static_cast<const char*>(*memory), static_cast<size_t>(size));
  clear_open_flag(bytes);
  return bytes;
}

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
  std::string bytes = make_skeleton(plan_, layout_, trailer_);
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
