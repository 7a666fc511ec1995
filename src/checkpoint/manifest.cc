#include "checkpoint/manifest.h"

#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <set>
#include <utility>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "checkpoint/run_claim.h"

namespace lf {
namespace {

using google::protobuf::TextFormat;

constexpr uint64_t kMostManifestBytes = 256 << 20;
constexpr const char* kManifest = "manifest.pbtxt";
constexpr const char* kMetrics = "metrics.pbtxt";
constexpr std::string_view kSeal = "# crc32c ";  // then eight hexadecimal digits

// Keeps protobuf's first complaint for our own message; protobuf itself would print to stderr.
class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (text_.empty()) text_ = str("line ", line + 1, ": ", printable(message));
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

template <typename Message>
std::string parse_text(const std::string& text, Message* message) {
  TextFormat::Parser parser;
  FirstError error;
  parser.RecordErrorsTo(&error);
  parser.SetRecursionLimit(16);
  return parser.ParseFromString(text, message) ? "" : error.text().empty() ? "?" : error.text();
}

std::string seal(const std::string& text) {
  std::array<char, 16> digits{};
  std::snprintf(digits.data(), digits.size(), "%08x\n", crc32c(text.data(), text.size()));
  return text + std::string(kSeal) + digits.data();
}

// The text above a right seal, or "" if it is torn or altered.
std::string unseal(const std::string& sealed) {
  const size_t tail = kSeal.size() + 9;
  if (sealed.size() < tail) return "";
  std::string text = sealed.substr(0, sealed.size() - tail);
  return seal(text) == sealed ? text : "";
}

bool plain_file_name(const std::string& name) {
  return !name.empty() && name.size() <= 255 && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '-' || c == '_';
         });
}

[[noreturn]] void refuse(const std::string& path, const std::string& fact) {
  fail(Code::kCheckpoint, printable(path), " ", fact,
       "; damaged or half copied, an older checkpoint has to be used");
}

// The tensors a file holds against those the manifest says it holds.
void compare_tensors(const SafetensorsFile& file, const CheckpointFile& record) {
  if (file.tensors().size() != static_cast<size_t>(record.tensor_size())) {
    refuse(file.path(), str("holds ", file.tensors().size(), " tensors, the manifest lists ",
                            record.tensor_size()));
  }
  for (const CheckpointTensor& tensor : record.tensor()) {
    const TensorEntry* entry = file.find(tensor.name());
    if (entry == nullptr) refuse(file.path(), str("lacks '", printable(tensor.name()), "'"));
    const std::vector<int64_t> shape(tensor.shape().begin(), tensor.shape().end());
    if (entry->layout.shape != shape || tensor.dtype() != name_of(entry->layout.dtype)) {
      refuse(file.path(), str("holds '", printable(tensor.name()), "' as ", describe(entry->layout),
                              ", the manifest says otherwise"));
    }
  }
}

void verify_file(FileSystem& files, const std::string& folder, const CheckpointFile& record,
                 Depth depth) {
  if (!plain_file_name(record.name())) {
    refuse(folder, str("lists a file with the odd name '", printable(record.name()), "'"));
  }
  const std::string path = folder + "/" + record.name();
  FileInfo info;
  if (!files.info(path, &info) || info.is_folder) refuse(path, "is missing");
  if (info.size != record.bytes()) {
    refuse(path, str("has ", human_count(info.size), " bytes, the manifest says ",
                     human_count(record.bytes())));
  }
  if (!record.kind().empty()) compare_tensors(SafetensorsFile(files, path), record);
  if (depth == Depth::kFull && crc32c_of_file(files, path) != record.crc32c()) {
    refuse(path, "does not have the checksum that the manifest says (a flipped bit?)");
  }
}

std::string hidden_name(int64_t images, int64_t life) {
  return str(".tmp-", checkpoint_name(images), "-life-", life);
}

// NAME.safetensors.index.json, by which Python's tools find a tensor among several files.
CheckpointFile write_index(FileSystem& files, const std::string& folder, const std::string& kind,
                           const CheckpointManifest& manifest) {
  uint64_t bytes = 0;
  std::vector<std::pair<std::string, std::string>> where;
  for (const CheckpointFile& file : manifest.file()) {
    if (file.kind() != kind) continue;
    for (const CheckpointTensor& tensor : file.tensor()) {
      where.emplace_back(tensor.name(), file.name());
      TensorLayout layout;
      layout.shape.assign(tensor.shape().begin(), tensor.shape().end());
      if (parse_dtype(tensor.dtype(), &layout.dtype)) bytes += layout.bytes();
    }
  }
  std::sort(where.begin(), where.end());
  Json json;
  json.object([&] {
    json.object("metadata", [&] { json.field("total_size", bytes); });
    json.object("weight_map", [&] {
      for (const auto& [tensor, file] : where) json.field(tensor, file);
    });
  });
  CheckpointFile record;
  record.set_name(kind + ".safetensors.index.json");
  record.set_bytes(json.text().size());
  record.set_crc32c(crc32c(json.text().data(), json.text().size()));
  const std::unique_ptr<OutFile> out = files.create(folder + "/" + record.name());
  out->write(json.text().data(), json.text().size());
  out->sync();
  out->close();
  return record;
}

// Every tensor of a kind once, every file once: the writers' records must fit together.
void check_records(const CheckpointManifest& manifest) {
  std::set<std::string> names;
  std::set<std::pair<std::string, std::string>> tensors;
  for (const CheckpointFile& file : manifest.file()) {
    LF_CHECK(names.insert(file.name()).second, "two writers made ", file.name());
    for (const CheckpointTensor& tensor : file.tensor()) {
      LF_CHECK(tensors.emplace(file.kind(), tensor.name()).second, "two writers wrote ",
               tensor.name(), " of ", file.kind());
    }
  }
}

void add_indices(FileSystem& files, const std::string& folder, CheckpointManifest& manifest) {
  std::map<std::string, int> shards;
  for (const CheckpointFile& file : manifest.file()) ++shards[file.kind()];
  for (const auto& [kind, count] : shards) {
    if (count > 1 && !kind.empty())
      *manifest.add_file() = write_index(files, folder, kind, manifest);
  }
}

// Moves an earlier checkpoint of the same position aside, where it still counts (retention.h). If
// one is there already, a crash put it there or the run resumed from it: it is the one to keep.
void make_way(FileSystem& files, const std::string& path, const std::string& replaced,
              const Life& life) {
  if (!files.exists(replaced)) return files.rename(path, replaced);
  const std::string hidden = str(parent_folder(path), "/.tmp-old-life-", life.number());
  files.remove_tree(hidden);
  files.rename(path, hidden);
  files.remove_tree(hidden);
}

}  // namespace

std::string checkpoints_folder(const std::string& run_folder) {
  return run_folder + "/checkpoints";
}

std::string checkpoint_name(int64_t images) {
  std::array<char, 40> name{};
  std::snprintf(name.data(), name.size(), "img-%012lld", static_cast<long long>(images));
  return name.data();
}

bool parse_checkpoint_name(const std::string& name, int64_t* images) {
  return name.starts_with("img-") && parse(std::string_view(name).substr(4), images) &&
         *images >= 0 && checkpoint_name(*images) == name;
}

bool is_leftover_of(const std::string& name, int64_t life) {
  const size_t mark = name.rfind("-life-");
  int64_t owner = 0;
  return name.starts_with(".tmp-") && mark != std::string::npos &&
         parse(std::string_view(name).substr(mark + 6), &owner) && owner <= life;
}

std::string print_manifest(const CheckpointManifest& manifest) {
  std::string body;
  CheckpointManifest rest = manifest;
  rest.clear_format();
  TextFormat::Printer printer;
  printer.SetUseShortRepeatedPrimitives(true);  // shape: [3, 32, 32]
  printer.PrintToString(rest, &body);
  return seal(str("format: ", manifest.format(), "\n", body));
}

CheckpointManifest read_manifest(FileSystem& files, const std::string& folder, bool* newer_format) {
  if (newer_format != nullptr) *newer_format = false;
  const std::string path = folder + "/" + kManifest;
  if (!files.exists(path)) refuse(folder, str("has no ", kManifest));
  std::string sealed;
  try {
    sealed = read_file(files, path, kMostManifestBytes);
  } catch (const Error& error) {
    fail(Code::kCheckpoint, error.what());
  }
  const std::string text = unseal(sealed);
  if (text.empty()) refuse(path, "does not end in its own checksum");
  uint64_t format = 0;
  const std::string first = text.substr(0, text.find('\n'));
  if (!first.starts_with("format: ") || !parse(std::string_view(first).substr(8), &format)) {
    refuse(path, "does not begin with its format");
  }
  if (format > kCheckpointFormat) {
    if (newer_format != nullptr) *newer_format = true;
    fail(Code::kCheckpoint, printable(folder), " has checkpoint format ", format,
         ", this program reads up to ", kCheckpointFormat,
         "; use the newer lastframe that wrote it");
  }
  CheckpointManifest manifest;
  const std::string error = parse_text(text, &manifest);
  if (!error.empty()) refuse(path, "is not understood (" + error + ")");
  return manifest;
}

CheckpointManifest verify_checkpoint(FileSystem& files, const std::string& folder, Depth depth,
                                     bool* newer_format) {
  CheckpointManifest manifest = read_manifest(files, folder, newer_format);
  for (const CheckpointFile& record : manifest.file()) verify_file(files, folder, record, depth);
  return manifest;
}

uint64_t total_bytes(const CheckpointManifest& manifest) {
  uint64_t bytes = 0;
  for (const CheckpointFile& file : manifest.file()) bytes += file.bytes();
  return bytes;
}

double number_of(const CheckpointManifest& manifest, const std::string& name, double fallback) {
  for (const NamedNumber& number : manifest.number()) {
    if (number.name() == name) return number.value();
  }
  return fallback;
}

void set_number(CheckpointManifest& manifest, const std::string& name, double value) {
  for (NamedNumber& number : *manifest.mutable_number()) {
    if (number.name() == name) return number.set_value(value);
  }
  NamedNumber* number = manifest.add_number();
  number->set_name(name);
  number->set_value(value);
}

std::string begin_checkpoint(FileSystem& files, const std::string& run_folder, int64_t images,
                             const Life& life) {
  life.check(files);
  const std::string folder = checkpoints_folder(run_folder);
  files.make_folders(folder);
  files.sync_folder(run_folder);
  for (const std::string& name : files.list(folder)) {
    if (!is_leftover_of(name, life.number())) continue;
    LF_INFO("removing ", printable(name), ", left over from an unfinished save");
    files.remove_tree(folder + "/" + name);
  }
  const std::string hidden = folder + "/" + hidden_name(images, life.number());
  files.make_folders(hidden);
  return hidden;
}

std::string commit_checkpoint(FileSystem& files, const std::string& run_folder,
                              const std::string& hidden_folder, CheckpointManifest manifest,
                              const Life& life) {
  life.check(files);
  check_records(manifest);
  add_indices(files, hidden_folder, manifest);
  manifest.set_format(kCheckpointFormat);
  manifest.set_life(life.number());
  manifest.set_saved_unix_seconds(unix_now());
  for (const CheckpointFile& record : manifest.file()) {
    verify_file(files, hidden_folder, record, Depth::kQuick);
  }
  const std::string text = print_manifest(manifest);
  const std::unique_ptr<OutFile> out = files.create(hidden_folder + "/" + kManifest);
  out->write(text.data(), text.size());
  out->sync();
  out->close();

  const std::string folder = checkpoints_folder(run_folder);
  const std::string name = checkpoint_name(manifest.images());
  const std::string path = folder + "/" + name, replaced = path + ".replaced";
  files.sync_folder(hidden_folder);
  life.check(files);
  if (files.exists(path)) make_way(files, path, replaced, life);
  // If a newer life began since the check: rename() does not replace a folder that is not empty,
  // and the newer life ignores what an older one publishes after it began (belongs_to_history).
  files.rename(hidden_folder, path);
  files.sync_folder(folder);
  life.check(files);  // a process that was stopped here may continue long after newer lives have
  files.remove_tree(replaced);
  publish_file(files, run_folder + "/latest", "checkpoints/" + name + "\n");
  return path;
}

static bool has_number(const std::vector<NamedNumber>& numbers, const std::string& name) {
  return std::any_of(numbers.begin(), numbers.end(),
                     [&](const NamedNumber& number) { return number.name() == name; });
}

void add_metrics(FileSystem& files, const std::string& folder,
                 const std::vector<NamedNumber>& numbers) {
  CheckpointMetrics metrics;
  for (const NamedNumber& number : read_metrics(files, folder)) {
    if (!has_number(numbers, number.name())) *metrics.add_number() = number;
  }
  for (const NamedNumber& number : numbers) *metrics.add_number() = number;
  std::string text;
  TextFormat::PrintToString(metrics, &text);
  publish_file(files, folder + "/" + kMetrics, seal(text));
}

std::vector<NamedNumber> read_metrics(FileSystem& files, const std::string& folder) {
  const std::string path = folder + "/" + kMetrics;
  if (!files.exists(path)) return {};
  CheckpointMetrics metrics;
  const std::string text = unseal(read_file(files, path, 1 << 20));
  if (text.empty() || !parse_text(text, &metrics).empty()) {
    LF_WARN(printable(path), " is damaged; its metrics count as unknown");
    return {};
  }
  return {metrics.number().begin(), metrics.number().end()};
}

bool awaits_numbers(const CheckpointManifest& manifest, const std::vector<NamedNumber>& metrics) {
  return std::any_of(manifest.awaits().begin(), manifest.awaits().end(),
                     [&](const std::string& name) { return !has_number(metrics, name); });
}

}  // namespace lf
