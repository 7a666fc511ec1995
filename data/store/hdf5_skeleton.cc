#include "data/store/hdf5_skeleton.h"

#include <google/protobuf/text_format.h>
#include <hdf5.h>

#include <algorithm>
#include <array>
#include <bit>
#include <mutex>
#include <vector>

#include "base/error.h"
#include "data/store/little_endian.h"

namespace lf {
namespace {

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

}  // namespace

std::string make_hdf5_skeleton(const StoreIndex& plan, const Layout& layout,
                               ShardTrailer& trailer) {
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

}  // namespace lf
