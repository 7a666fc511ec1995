// `lastframe inspect` and `lastframe export` on runs and checkpoints: which checkpoints there are
// and whether they can be used, what is in one, and its weights as one safetensors file. What they
// do with stores is in store_inspect.cc and store_commands.cc.
#include <algorithm>
#include <cstdio>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/retention.h"
#include "launch/commands.h"
#include "train/post_hoc.h"

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

// What the folder takes up, manifest and half files included.
uint64_t bytes_in(FileSystem& files, const std::string& folder) {
  uint64_t bytes = 0;
  FileInfo info;
  for (const std::string& name : files.list(folder)) {
    if (files.info(folder + "/" + name, &info) && !info.is_folder) bytes += info.size;
  }
  return bytes;
}

// Of the manifest and those found later.
std::vector<NamedNumber> numbers_of(FileSystem& files, const Candidate& candidate) {
  CheckpointManifest all = candidate.manifest;
  for (const NamedNumber& number : read_metrics(files, candidate.folder)) {
    set_number(all, number.name(), number.value());
  }
  return {all.number().begin(), all.number().end()};
}

std::string folder_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string run_json(FileSystem& files, const std::vector<Candidate>& candidates) {
  Json json;
  json.object([&] {
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

std::string run_text(FileSystem& files, const std::vector<Candidate>& candidates) {
  std::string text;
  for (const Candidate& candidate : candidates) {
    text += str(folder_name(candidate.folder), "  ",
                human_count(static_cast<uint64_t>(candidate.images)), " images, ",
                human_bytes(bytes_in(files, candidate.folder)), ", ", name_of(candidate.standing));
    for (const NamedNumber& number : numbers_of(files, candidate)) {
      text += str(", ", printable(number.name()), " ", number.value());
    }
    text += (candidate.reason.empty() ? "" : ": " + candidate.reason) + "\n";
  }
  return text.empty() ? "no checkpoints yet\n" : text;
}

std::string checkpoint_json(const Checkpoint& checkpoint) {
  const CheckpointManifest& manifest = checkpoint.manifest();
  Json json;
  json.object([&] {
    json.field("images", manifest.images()).field("bytes", total_bytes(manifest));
    json.field("world_size", manifest.world_size()).field("store_id", manifest.store_id());
    json.field("code_version", manifest.code_version()).field("config", manifest.config());
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
  for (const std::string& kind : checkpoint.kinds()) {
    for (const TensorLayout& layout : checkpoint.layouts(kind)) {
      text += str(kind, "  ", describe(layout), "  ", printable(layout.name), "\n");
    }
  }
  return text;
}

// Out of the averages in all checkpoints of a run.
int export_post_hoc(FileSystem& files, const std::string& run, const Arguments& arguments) {
  double width = 0;
  const std::string text = arguments.get("--ema-width");
  if (!parse(text, &width) || !(width > 0 && width <= 0.28)) {
    fail(Code::kUsage, "--ema-width is '", printable(text), "'; give a number in (0, 0.28]");
  }
  if (arguments.has("--kind")) fail(Code::kUsage, "give --ema-width or --kind, not both");
  if (!files.exists(checkpoints_folder(run))) {
    fail(Code::kUsage, printable(run), " is one checkpoint; --ema-width needs the run's folder");
  }
  export_average(files, run, width, arguments.required("--out"));
  LF_INFO("wrote it to ", printable(arguments.required("--out")));
  return 0;
}

bool is_checkpoint_folder(const std::string& folder) {
  return real_file_system().exists(folder + "/manifest.pbtxt");
}

}  // namespace

bool is_run_or_checkpoint(const std::string& folder) {
  FileSystem& files = real_file_system();
  return files.exists(folder + "/lives") || files.exists(checkpoints_folder(folder)) ||
         is_checkpoint_folder(folder);
}

int inspect_checkpoints(const std::string& folder, bool as_json) {
  FileSystem& files = real_file_system();
  std::string text;
  if (is_checkpoint_folder(folder)) {
    verify_checkpoint(files, folder, Depth::kFull);
    const Checkpoint checkpoint = Checkpoint::open(files, folder);
    text = as_json ? checkpoint_json(checkpoint) : checkpoint_text(checkpoint);
  } else {
    const std::vector<Candidate> candidates = list_checkpoints(files, folder, Depth::kFull);
    text = as_json ? run_json(files, candidates) : run_text(files, candidates);
  }
  std::fputs(text.c_str(), stdout);
  return std::fflush(stdout) == 0 ? 0 : static_cast<int>(Code::kStorage);
}

int export_checkpoint(const std::string& folder, const Arguments& arguments) {
  FileSystem& files = real_file_system();
  for (const char* option : {"--npy", "--png", "--range", "--draw"}) {
    if (arguments.has(option)) {
      fail(Code::kUsage, printable(folder), " is a run or a checkpoint; ", option,
           " is for stores, say --out FILE.safetensors");
    }
  }
  if (arguments.has("--ema-width")) return export_post_hoc(files, folder, arguments);
  std::string chosen = folder;
  if (!is_checkpoint_folder(folder)) {
    const auto candidate = choose_checkpoint(files, folder);
    if (!candidate) {
      fail(Code::kCheckpoint, "the run ", printable(folder),
           " has no checkpoint yet; wait for its "
           "first, or give a checkpoint's folder");
    }
    chosen = candidate->folder;
  }
  const Checkpoint checkpoint = Checkpoint::open(files, chosen);
  const std::string& out = arguments.required("--out");
  const std::string kind = export_tensors(files, checkpoint, arguments.get("--kind"), out);
  LF_INFO("wrote the tensors of kind '", kind, "' of ", chosen, " to ", printable(out));
  return 0;
}

}  // namespace lf
