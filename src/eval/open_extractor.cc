#include "eval/open_extractor.h"

#include <array>
#include <cstdio>

#include "base/error.h"
#include "checkpoint/tensors.h"
#include "model/inception.h"
#include "model/weights.h"

namespace lf {
namespace {

// Checksum and size of the file, 16 hex digits.
std::string hash_of_file(FileSystem& files, const std::string& file, uint64_t bytes) {
  std::array<char, 20> text{};
  std::snprintf(text.data(), text.size(), "%08x%08x", crc32c_of_file(files, file),
                static_cast<unsigned>(bytes));
  return text.data();
}

Weights read_weights(FileSystem& files, const std::string& path, at::Device device) {
  const SafetensorsFile file(files, path);
  std::map<std::string, at::Tensor> tensors;
  for (const TensorEntry& entry : file.tensors()) {
    tensors.emplace(entry.layout.name, read_tensor(file, entry));
  }
  return {path, hash_of_file(files, path, file.size()), file.metadata(), std::move(tensors),
          device};
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

}  // namespace

std::unique_ptr<Extractor> open_extractor(const std::string& path, Preprocessing id,
                                          at::Device device, Precision precision) {
  FileSystem& files = real_file_system();
  require_file(files, path);
  Weights weights = read_weights(files, path, device);
  if (is_inception(weights)) return make_inception(weights, id, precision);
  fail(Code::kCheckpoint, printable(path),
       " holds the weights of no extractor we know (Inception-v3 has a tensor "
       "Conv2d_1a_3x3.weight); convert them with tools/convert_weights, or bring TorchScript");
}

}  // namespace lf
