// `lastframe inspect` of a run or a checkpoint: which checkpoints there are and whether they can be
// used, or what is in one.
#include <array>
#include <cstdio>

#include "base/json.h"
#include "base/text.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/retention.h"
#include "checkpoint/run_claim.h"
#include "launch/folder_kind.h"
#include "launch/inspect.h"
#include "launch/output.h"

namespace lf {
namespace {

const char* name_of(Standing standing) {
  switch (standing) {
    case Standing::kWhole:
      return "whole";
    case Standing::kDamaged:
      return "damaged";
    case Standing::kNewerFormat:
      return "of a newer program";
    case Standing::kStray:
      return "stray";
  }
  return "?";
}

// Of all files in the folder, the manifest and unfinished ones too.
uint64_t bytes_in(FileSystem& files, const std::string& folder) {
  uint64_t bytes = 0;
  FileInfo info;
  for (const std::string& name : files.list(folder)) {
    if (files.info(folder + "/" + name, &info) && !info.is_folder) bytes += info.size;
  }
  return bytes;
}

// Those of the manifest and those measured later.
std::vector<NamedNumber> numbers_of(FileSystem& files, const Candidate& candidate) {
  CheckpointManifest all = candidate.manifest;
  for (const NamedNumber& number : read_metrics(files, candidate.folder)) {
    set_number(all, number.name(), number.value());
  }
  return {all.number().begin(), all.number().end()};
}

std::string folder_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string run_json(FileSystem& files, const std::string& folder,
                     const std::vector<Candidate>& candidates) {
  Json json;
  json.object([&] {
    json.field("state", holder_of_run(files, folder).name());
    json.array("checkpoints", [&] {
      for (const Candidate& candidate : candidates) {
        json.object([&] {
          json.field("name", folder_name(candidate.folder)).field("images", candidate.images);
          json.field("valid", candidate.valid()).field("standing", name_of(candidate.standing));
          json.field("bytes", bytes_in(files, candidate.folder));
          json.field("world_size", candidate.manifest.world_size());
          json.field("saved_unix_seconds", candidate.manifest.saved_unix_seconds());
          json.object("numbers", [&] {
            for (const NamedNumber& number : numbers_of(files, candidate)) {
              json.field(number.name(), number.value());
            }
          });
          json.field("reason", candidate.reason);
        });
      }
    });
  });
  return json.text() + "\n";
}

std::string run_text(FileSystem& files, const std::string& folder,
                     const std::vector<Candidate>& candidates) {
  std::string text;
  for (const auto& [name, line] : summary_of_run(files, folder, candidates)) {
    text += name + std::string(12 - name.size(), ' ') + line + "\n";
  }
  for (const Candidate& candidate : candidates) {
    text += str(folder_name(candidate.folder), "  ",
                human_count(static_cast<uint64_t>(candidate.images)), " images, ",
                human_bytes(bytes_in(files, candidate.folder)), ", ", name_of(candidate.standing));
    for (const NamedNumber& number : numbers_of(files, candidate)) {
      text += str(", ", printable(number.name()), " ", number.value());
    }
    text += (candidate.reason.empty() ? "" : ": " + candidate.reason) + "\n";
  }
  return candidates.empty() ? text + "no checkpoints yet\n" : text;
}

std::string hash_text(const InitRecord& init) {
  std::array<char, 17> text{};
  std::snprintf(text.data(), text.size(), "%016llx", static_cast<unsigned long long>(init.hash()));
  return text.data();
}

std::string checkpoint_json(const Checkpoint& checkpoint) {
  const CheckpointManifest& manifest = checkpoint.manifest();
  Json json;
  json.object([&] {
    json.field("images", manifest.images()).field("bytes", total_bytes(manifest));
    json.field("world_size", manifest.world_size()).field("store_id", manifest.store_id());
    json.field("code_version", manifest.code_version()).field("config", manifest.config());
    if (manifest.has_init()) {
      const InitRecord& init = manifest.init();
      json.object("init", [&] {
        json.field("path", init.path()).field("kind", init.kind()).field("images", init.images());
        json.field("hash", hash_text(init)).field("taken", init.taken());
        json.field("adapted", init.adapted()).field("new", init.made_new());
        json.field("left_out", init.left_out());
      });
    }
    json.array("tensors", [&] {
      for (const std::string& kind : checkpoint.kinds()) {
        for (const TensorLayout& layout : checkpoint.layouts(kind)) {
          json.object([&] {
            json.field("kind", kind).field("name", layout.name);
            json.field("type", name_of(layout.dtype)).field("shape", layout.shape);
          });
        }
      }
    });
  });
  return json.text() + "\n";
}

std::string checkpoint_text(const Checkpoint& checkpoint) {
  const CheckpointManifest& manifest = checkpoint.manifest();
  std::string text =
      str("images   ", human_count(static_cast<uint64_t>(manifest.images())), "\nbytes    ",
          human_bytes(total_bytes(manifest)), "\nranks    ", manifest.world_size(), "\nstore    ",
          printable(manifest.store_id()), "\nprogram  ", printable(manifest.code_version()), "\n");
  if (manifest.has_init()) {
    const InitRecord& init = manifest.init();
    text += str("init     ", printable(init.path()), ", hash ", hash_text(init), ": ", init.taken(),
                " tensors taken, ", init.adapted(), " adapted, ", init.made_new(), " new, ",
                init.left_out(), " left out\n");
  }
  for (const std::string& kind : checkpoint.kinds()) {
    for (const TensorLayout& layout : checkpoint.layouts(kind)) {
      text += str(kind, "  ", describe(layout), "  ", printable(layout.name), "\n");
    }
  }
  return text;
}

}  // namespace

void inspect_run_or_checkpoint(const std::string& folder, bool as_json) {
  FileSystem& files = real_file_system();
  if (is_checkpoint_folder(folder)) {
    verify_checkpoint(files, folder, Depth::kFull);
    const Checkpoint checkpoint = Checkpoint::open(files, folder);
    return print(as_json ? checkpoint_json(checkpoint) : checkpoint_text(checkpoint));
  }
  const std::vector<Candidate> candidates = list_checkpoints(files, folder, Depth::kFull);
  print(as_json ? run_json(files, folder, candidates) : run_text(files, folder, candidates));
}

}  // namespace lf
