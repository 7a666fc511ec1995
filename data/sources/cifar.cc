// Source kind `cifar`: records of label bytes and 32x32 RGB planes, without a header, so that the
// number of images comes from the file's size.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/log.h"
#include "data/sources/kinds.h"

namespace lf {
namespace {

constexpr uint64_t kPlane = 32 * 32, kPixels = 3 * kPlane;
constexpr uint64_t kLargestNames = 64 << 10;

class CifarImages : public Source {
 public:
  explicit CifarImages(const SourceConfig& config) : fit_(config) {
    const CifarSource& cifar = config.cifar();
    if (cifar.classes() != 0 && cifar.classes() != 10 && cifar.classes() != 100) {
      fail(Code::kUsage, "source.cifar.classes is ", cifar.classes(), ", expected 10, 100 or 0");
    }
    classes_ = cifar.classes();
    const std::string& path = required_path(cifar.path(), "source.cifar.path");
    FileInfo info;
    if (!real_file_system().info(path, &info)) {
      fail(Code::kUsage, "source.cifar.path: there is no ", printable(path));
    }
    if (info.is_folder) {
      find_files(path, cifar.test());
      tell_of_missing(path, cifar.test());
    } else {
      add_file(path);
    }
    read_names(info.is_folder ? path : parent_folder(path));
    fit_.set_default_shape({1, 32, 32, 3});
  }

  ClipShape shape() const override { return fit_.shape(); }
  uint64_t size() const override { return ends_.back(); }
  std::vector<std::string> label_names() const override { return names_; }

  std::vector<SideColumn> side_columns() const override {
    if (classes_ == 10) return {};
    return {{SideColumn::Kind::kInt64, "coarse_label", 1}};
  }

  std::string name_of(uint64_t index) const override {
    const auto [file, record] = place_of(index);
    return str(stems_[file], "#", record);
  }

  Sample load(uint64_t index) const override {
    const auto [file, record] = place_of(index);
    std::array<uint8_t, 2 + kPixels> bytes;
    files_[file]->read(record * record_bytes(), bytes.data(), record_bytes());
    const uint64_t labels = record_bytes() - kPixels;
    Sample sample{.pixels = {}, .label = bytes[labels - 1], .name = name_of(index), .side = {}};
    if (sample.label >= classes_) {
      fail(Code::kData, sample.name, ": label ", sample.label, " of ", classes_,
           " classes; is it a CIFAR file?");
    }
    if (classes_ == 100) sample.side = {SideValue{.ints = {bytes[0]}, .floats = {}, .text = {}}};
    Image image{32, 32, 3, std::vector<uint8_t>(kPixels)};
    for (size_t i = 0; i < kPlane; ++i) {
      for (size_t c = 0; c < 3; ++c) image.pixels[3 * i + c] = bytes[labels + c * kPlane + i];
    }
    sample.pixels = fit_(std::move(image), sample.name).pixels;
    return sample;
  }

 private:
  uint64_t record_bytes() const { return kPixels + (classes_ == 10 ? 1 : 2); }

  std::pair<size_t, uint64_t> place_of(uint64_t index) const {
    const auto end = std::upper_bound(ends_.begin(), ends_.end(), index);
    LF_CHECK(end != ends_.end());
    return {static_cast<size_t>(end - ends_.begin()),
            index - (end == ends_.begin() ? 0 : *(end - 1))};
  }

  void find_files(const std::string& folder, bool test) {
    for (const std::string& name : real_file_system().list(folder)) {
      const bool is_test = name == "test_batch.bin" || name == "test.bin";
      const bool is_train =
          (name.starts_with("data_batch_") && name.ends_with(".bin")) || name == "train.bin";
      if (test ? is_test : is_train) add_file(folder + "/" + name);
    }
    if (files_.empty()) {
      fail(Code::kUsage, "source.cifar.path: ", printable(folder), " holds no ",
           test ? "test_batch.bin or test.bin" : "data_batch_*.bin or train.bin",
           "; expected the binary version of CIFAR, unpacked");
    }
  }

  void tell_of_missing(const std::string& folder, bool test) const {
    constexpr size_t kBatches = 5;  // data_batch_1.bin to data_batch_5.bin
    if (test || classes_ != 10 || files_.size() >= kBatches) return;
    LF_INFO("source.cifar.path: ", printable(folder), " holds ", files_.size(), " of the ",
            kBatches, " files data_batch_*.bin of CIFAR-10: ", human_count(size()), " images");
  }

  void add_file(const std::string& path) {
    std::unique_ptr<InFile> file = real_file_system().open_read(path);
    const uint64_t size = file->size();
    const std::string stem = path.substr(path.rfind('/') + 1);
    // The distributed names say which set it is; other names leave it to the size.
    if (classes_ == 0 && (stem.starts_with("data_batch_") || stem == "test_batch.bin")) {
      classes_ = 10;
    } else if (classes_ == 0 && (stem == "train.bin" || stem == "test.bin")) {
      classes_ = 100;
    }
    const bool ten = size % (kPixels + 1) == 0, hundred = size % (kPixels + 2) == 0;
    if (classes_ == 0 && ten != hundred) classes_ = ten ? 10 : 100;
    if (classes_ == 0 && ten && size > 0) {
      fail(Code::kUsage, printable(path), ": its ", size,
           " bytes fit CIFAR-10 and CIFAR-100; set source.cifar.classes");
    }
    if (size == 0 || !(classes_ == 10 ? ten : hundred && classes_ == 100)) {
      fail(Code::kData, printable(path), " has ", size, " bytes, expected a multiple of ",
           classes_ == 100  ? "3,074"
           : classes_ == 10 ? "3,073"
                            : "3,073 (CIFAR-10) or 3,074",
           "; truncated, or not the binary version?");
    }
    ends_.push_back((ends_.empty() ? 0 : ends_.back()) + size / record_bytes());
    stems_.push_back(store_name(stem));
    files_.push_back(std::move(file));
  }

  void read_names(const std::string& folder) {
    const std::string path =
        folder + (classes_ == 10 ? "/batches.meta.txt" : "/fine_label_names.txt");
    if (!real_file_system().exists(path)) return;
    for (const std::string& line :
         split(read_file(real_file_system(), path, kLargestNames), '\n')) {
      if (!line.empty() && line != "\r") names_.push_back(printable(line));
    }
    if (names_.size() != static_cast<size_t>(classes_)) names_.clear();
  }

  Fit fit_;
  int classes_ = 0;
  std::vector<std::unique_ptr<InFile>> files_;
  std::vector<std::string> stems_;
  std::vector<uint64_t> ends_;  // records in files 0..f
  std::vector<std::string> names_;
};

}  // namespace

std::unique_ptr<Source> open_cifar(const SourceConfig& config) {
  return std::make_unique<CifarImages>(config);
}

}  // namespace lf
