#include "eval/open_extractor.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "base/error.h"
#include "base/file_hash.h"
#include "checkpoint/onnx_file.h"
#include "checkpoint/tensors.h"
#include "eval/resize_images.h"
#include "model/classifier.h"
#include "model/extractors/i3d.h"
#include "model/extractors/inception.h"
#include "model/extractors/onnx.h"
#include "model/extractors/torchscript.h"
#include "model/extractors/vit.h"
#include "model/extractors/weights.h"

namespace lf {
namespace {

Weights read_weights(FileSystem& files, const std::string& path, at::Device device) {
  const SafetensorsFile file(files, path);
  return {path, hash_of_file(path), file.metadata(), by_name(read_tensors(file)), device};
}

void require_file(FileSystem& files, const std::string& path) {
  FileInfo info;
  if (!files.info(path, &info)) {
    fail(Code::kUsage, "there is no file ", printable(path),
         "; give the weights of a network, such as tools/convert_inception writes");
  }
  if (info.is_folder) {
    fail(Code::kUsage, printable(path),
         " is a folder, expected a file of weights; of a run, write ",
         "one with `lastframe export ", printable(path), " --out FILE.safetensors`");
  }
}

// TorchScript files are; safetensors begin with a length.
bool is_zip(FileSystem& files, const std::string& path) {
  const std::unique_ptr<InFile> in = files.open_read(path);
  std::array<char, 4> start{};
  in->read(0, start.data(), std::min<uint64_t>(in->size(), start.size()));
  return std::string_view(start.data(), start.size()) == "PK\x03\x04";
}

// Only our Inception leaves preprocessing and precision to choose.
void require_own_arithmetic(const std::string& path, Preprocessing id, Precision precision) {
  if (id == Preprocessing::kTorch && precision == FP32) return;
  fail(Code::kUsage, printable(path), " is no Inception of ours and brings its own preprocessing ",
       "and precision; leave ", precision == FP32 ? name_of(id) : Precision_Name(precision).c_str(),
       " out");
}

constexpr const char* kUnknown =
    " holds the weights of no extractor we know: Inception-v3 has a tensor Conv2d_1a_3x3.weight, "
    "I3D "
    "Conv3d_1a_7x7.conv3d.weight, DINOv2 cls_token or embeddings.cls_token, CLIP "
    "visual.class_embedding or vision_model.embeddings.class_embedding, our own "
    "classifier.stem.weight; convert others' with tools/convert_weights";

[[noreturn]] void refuse(const std::string& path, const char* why) {
  fail(Code::kCheckpoint, printable(path), why);
}

}  // namespace

std::unique_ptr<Extractor> open_extractor(const std::string& path, Preprocessing id,
                                          at::Device device, const KernelChoice& kernels,
                                          Precision precision) {
  FileSystem& files = real_file_system();
  require_file(files, path);
  if (is_zip(files, path)) {
    require_own_arithmetic(path, Preprocessing::kTorch, precision);
    return load_torchscript(path, hash_of_file(path), id, device);
  }
  if (is_onnx(path)) {
    require_own_arithmetic(path, id, precision);
    return make_onnx(read_onnx(files, path), path, hash_of_file(path), resize_images, device);
  }
  Weights weights = read_weights(files, path, device);
  if (is_inception(weights)) return make_inception(weights, id, precision);
  require_own_arithmetic(path, id, precision);
  if (is_i3d(weights)) return make_i3d(weights);
  if (is_vit(weights)) return make_vit(weights, resize_images);
  if (is_classifier(weights)) return make_own_extractor(weights, kernels);
  refuse(path, is_lpips(weights)
                   ? " is LPIPS, which compares pairs of images and gives no features; "
                     "give it to the metric lpips"
                   : kUnknown);
}

std::unique_ptr<PairDistance> open_pair_distance(const std::string& path, at::Device device) {
  FileSystem& files = real_file_system();
  require_file(files, path);
  Weights weights = read_weights(files, path, device);
  if (is_lpips(weights)) return make_lpips(weights);
  refuse(path,
         " holds no LPIPS, expected features.0.weight and lin0.weight; make such a file with "
         "tools/convert_weights lpips");
}

}  // namespace lf
