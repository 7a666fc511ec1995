#include "sweep/identity.h"

#include <google/protobuf/message.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>

#include "base/error.h"
#include "base/file.h"
#include "base/file_hash.h"
#include "base/hash.h"
#include "config/config.h"

namespace lf {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr uint64_t kEnd = 64 << 10;  // bytes of each end of a file that are read

std::string digits_of(uint64_t hash) {
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(hash));
  return text.data();
}

uint64_t add_piece(const InFile& file, uint64_t begin, uint64_t size, uint64_t hash) {
  std::string bytes(size, '\0');
  file.read(begin, bytes.data(), size);
  return fnv1a(bytes, hash);
}

// Name, size and ends of a file.
uint64_t add_file(const std::string& path, const std::string& name, uint64_t hash) {
  const std::unique_ptr<InFile> file = real_file_system().open_read(path);
  hash = fnv1a(str(name, "\n", file->size(), "\n"), hash);
  hash = add_piece(*file, 0, std::min(file->size(), kEnd), hash);
  if (file->size() <= kEnd) return hash;
  const uint64_t begin = std::max(kEnd, file->size() - std::min(kEnd, file->size()));
  return add_piece(*file, begin, file->size() - begin, hash);
}

uint64_t add_tree(const std::string& path, uint64_t hash) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_directory(path, error)) return add_file(path, "", hash);
  std::vector<std::string> names;
  const auto options = fs::directory_options::follow_directory_symlink;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(path, options, error)) {
    if (entry.is_regular_file(error))
      names.push_back(entry.path().lexically_relative(path).string());
  }
  if (names.empty()) fail(Code::kUsage, "the source's folder ", printable(path), " holds no files");
  std::sort(names.begin(), names.end());
  for (const std::string& name : names)
    hash = add_file((fs::path(path) / name).string(), name, hash);
  return hash;
}

// Takes the paths out of a source and adds what they lead to. All texts below a source but the kind
// of what is drawn are paths.
uint64_t take_paths(Message& source, uint64_t hash) {
  const google::protobuf::Reflection& reflection = *source.GetReflection();
  std::vector<const FieldDescriptor*> present;
  reflection.ListFields(source, &present);
  for (const FieldDescriptor* field : present) {
    if (field->is_repeated()) continue;
    if (field->message_type() != nullptr) {
      hash = take_paths(*reflection.MutableMessage(&source, field), hash);
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING && field->name() != "kind") {
      const std::string path = reflection.GetString(source, field);
      if (!path.empty()) hash = add_tree(path, hash);
      reflection.ClearField(&source, field);
    }
  }
  return hash;
}

bool is_file(const std::string& path) {
  return path.ends_with(".tokenizer") || path.ends_with(".network") || path == "train.init";
}

// A text as the messages print it, without its quotes.
std::string unquoted(const std::string& text) {
  return text.size() >= 2 && text.front() == '"' ? text.substr(1, text.size() - 2) : text;
}

}  // namespace

bool decides(const std::string& path) {
  static constexpr std::array kGroups = {"name",
                                         "base",
                                         "source.",
                                         "comm",
                                         "checkpoint",
                                         "evaluation",
                                         "train.log_",
                                         "train.preview_",
                                         "train.validation_",
                                         "train.device",
                                         "train.kernels",
                                         "train.gpu_kernels",
                                         "train.graph",
                                         "train.threads",
                                         "train.recompute",
                                         "train.store",
                                         "train.deadline",
                                         "train.deterministic",
                                         "loader.threads",
                                         "loader.prefetch",
                                         "loader.read",
                                         "store.mode",
                                         "store.threads",
                                         "store.shard_mib",
                                         "store.strict",
                                         "store.clips_per_shard"};
  return std::none_of(kGroups.begin(), kGroups.end(),
                      [&](const char* group) { return path.starts_with(group); });
}

std::string hash_of(std::string_view text) { return digits_of(fnv1a(text)); }

std::string weights_hash(const std::string& path) {
  // The header of a safetensors file holds the config, with paths of stores.
  uint64_t begin = 0;
  if (path.ends_with(".safetensors")) {
    const std::unique_ptr<InFile> file = real_file_system().open_read(path);
    if (file->size() >= sizeof begin) {
      file->read(0, &begin, sizeof begin);
      begin = std::min(file->size(), begin + sizeof begin);
    }
  }
  return hash_of_file(path, begin);
}

std::string source_identity(const SourceConfig& source) {
  Config config;
  *config.mutable_source() = source;
  const uint64_t hash = take_paths(*config.mutable_source(), kFnvBasis);
  std::string text;
  for (const auto& [path, value] : departures(config)) text += path + "=" + value + "\n";
  return digits_of(fnv1a(text, hash));
}

std::string training_text(const Config& config, const std::string& data) {
  std::string text = "data=" + data + "\n";
  for (const auto& [path, value] : departures(config)) {
    const bool group = value == "{}" && path.find('.') == std::string::npos;
    if (group || !decides(path)) continue;
    const std::string file = unquoted(value);
    const bool read = is_file(path) && real_file_system().exists(file);
    text += path + "=" + (read ? weights_hash(file) : value) + "\n";
  }
  return text;
}

Identities::Identities(const SweepPlan& plan) : plan_(plan) {
  for (const FirstPlan& first : plan.firsts) {
    Config config = first.config;
    fill_placeholders(config, firsts_);
    firsts_[first.name] = hash_of(training_text(config, data_of(config)));
  }
  measures_ = str("subject=", Sweep::Subject_Name(plan.sweep.subject()),
                  "\nsamples=", plan.sweep.samples(), "\n");
  for (const MeasurePlan& measure : plan.measures) {
    measures_ += str(measure.name, "=", extractor_of(measure), "\n");
  }
  for (const ArmPlan& arm : plan.arms) data_of(arm.config);
}

std::string Identities::extractor_of(const MeasurePlan& measure) const {
  const std::string extractor = with_placeholders(measure.extractor, firsts_);
  const bool file = extractor == measure.extractor && real_file_system().exists(extractor);
  return file ? weights_hash(extractor) : extractor;
}

// Both sources are read once for all arms that have them.
std::string Identities::data_of(const Config& config) const {
  const Config train = training_data(plan_.sweep, config),
               test = held_out_data(plan_.sweep, config);
  const std::string key = train.source().SerializeAsString() + test.source().SerializeAsString();
  const auto found = data_.find(key);
  if (found != data_.end()) return found->second;
  return data_[key] = hash_of(str(source_identity(train.source()), source_identity(test.source()),
                                  plan_.sweep.samples()));
}

std::string Identities::training(const ArmPlan& arm, int seed) const {
  Config config = arm.config;
  fill_placeholders(config, firsts_);
  config.mutable_train()->set_images(arm.images);
  config.mutable_train()->set_seed(static_cast<uint64_t>(seed));
  return hash_of(training_text(config, data_of(config)));
}

std::string Identities::row(const ArmPlan& arm, int seed) const {
  return hash_of(training(arm, seed) + "\n" + measures_);
}

}  // namespace lf
