// `lastframe inspect`: what a store holds, one clip of it as a picture or an animation, or one
// shard alone, damaged or not. Changes nothing.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "data/store/export.h"
#include "data/store/shard.h"
#include "data/store/store.h"
#include "data/store/verify.h"
#include "launch/command.h"
#include "launch/commands.h"

namespace lf {
namespace {

int print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  return std::fflush(stdout) == 0 ? 0 : static_cast<int>(Code::kStorage);
}

const char* element_of(const StoreIndex& index) {
  return index.element_bytes() == 1 ? "uint8" : "float16";
}

uint64_t bytes_of(const StoreIndex& index) {
  uint64_t bytes = 0;
  for (const ShardRecord& record : index.shards()) bytes += record.bytes();
  return bytes;
}

std::string store_json(const Store& store) {
  const StoreIndex& index = store.index();
  Json json;
  json.object([&] {
    json.field("store_id", index.store_id());
    json.field("clips", store.clips());
    json.field("shards", index.shards_size());
    json.field("frames", index.frames());
    json.field("shape", std::vector<uint32_t>{index.height(), index.width(), index.channels()});
    json.field("mode", StoreMode_Name(index.mode()));
    json.field("element", element_of(index));
    json.field("draws", index.draws());
    json.field("recipe", index.recipe_text());
    json.field("bytes", bytes_of(index));
    json.array("labels", [&] {
      for (const std::string& name : index.label_names()) json.value(name);
    });
    json.array("columns", [&] {
      for (const StoreColumn& column : index.columns()) {
        json.object([&] {
          json.field("name", column.name());
          json.field("kind", StoreColumn::Kind_Name(column.kind()));
          json.field("width", column.width());
        });
      }
    });
    json.array("parts", [&] {
      for (const StorePart& part : index.parts()) {
        json.object([&] {
          json.field("store_id", part.store_id());
          json.field("items", part.items());
          json.field("shards", part.shards());
          json.field("source", part.source().ShortDebugString());
        });
      }
    });
  });
  return json.text() + "\n";
}

std::string store_text(const Store& store) {
  const StoreIndex& index = store.index();
  std::string text =
      str("store    ", index.store_id(), "\nclips    ", human_count(store.clips()), "\nshards   ",
          human_count(static_cast<uint64_t>(index.shards_size())), ", ",
          human_bytes(bytes_of(index)), "\nframes   ", index.frames(), " of ", index.height(), "x",
          index.width(), "x", index.channels(), " ", element_of(index),
          ", the last uint8\nmode     ", StoreMode_Name(index.mode()), ", ",
          index.draws() == 0 ? "fresh draws"
                             : str(index.draws(), index.draws() == 1 ? " draw" : " draws"),
          "\nrecipe   ", printable(index.recipe_text(), 1000), "\nlabels   ",
          index.label_names_size(), " names\n");
  for (const StoreColumn& column : index.columns()) {
    text += str("column   ", column.name(), ", ", StoreColumn::Kind_Name(column.kind()), "[",
                column.width(), "]\n");
  }
  for (const StorePart& part : index.parts()) {
    text += str("source   ", human_count(part.items()), " items in ", human_count(part.shards()),
                " shards: ", printable(part.source().ShortDebugString(), 1000), "\n");
  }
  return text;
}

int inspect_shard(const std::string& folder, uint64_t shard, bool as_json) {
  FileSystem& files = real_file_system();
  if (!files.exists(index_path(folder))) Store::open(folder);  // says what is there instead
  const StoreIndex index = read_index(files, index_path(folder));
  if (shard >= static_cast<uint64_t>(index.shards_size())) {
    fail(Code::kUsage, "there is no shard ", shard, " in ", printable(folder), "; it has ",
         index.shards_size(), ", counted from 0");
  }
  const ShardRecord& record = index.shards(static_cast<int>(shard));
  const Layout layout(index);
  const std::vector<std::string> problems = verify_shard(files, folder, index, shard);
  Json json;
  std::string text = str(shard_path(folder, shard), "\nclips    ", human_count(record.clips()),
                         ", from item ", record.first_item(), " of its source\nbytes    ",
                         human_count(record.bytes()), "\nleft out ", record.quarantined(), "\n");
  json.object([&] {
    json.field("path", shard_path(folder, shard));
    json.field("clips", record.clips());
    json.field("first_item", record.first_item());
    json.field("bytes", record.bytes());
    json.field("quarantined", record.quarantined());
    json.array("datasets", [&] {
      for (size_t d = 0; d < layout.datasets().size(); ++d) {
        const uint64_t address = record.address(static_cast<int>(d));
        text += str("dataset  ", layout.datasets()[d].name, ", ", layout.bytes(d, record),
                    " bytes at ", address, "\n");
        json.object([&] {
          json.field("name", layout.datasets()[d].name);
          json.field("address", address);
          json.field("bytes", layout.bytes(d, record));
        });
      }
    });
    json.field("damage", problems);
  });
  const int status = print(as_json ? json.text() + "\n" : text);
  if (problems.empty()) return status;
  fail(Code::kData, "shard ", shard_name(shard), " of ", printable(folder),
       " is damaged: ", join(problems, "; "), "; run `lastframe verify ", printable(folder),
       " --repair`");
}

void draw_clip(const Store& store, const Arguments& arguments) {
  const auto clip = static_cast<uint64_t>(
      arguments.number("--clip", 0, 0, static_cast<int64_t>(store.clips()) - 1));
  const auto draw = static_cast<uint32_t>(arguments.number("--draw", 0, 0, 1'000'000'000));
  const std::vector<Image> frames = clip_frames(store, clip, draw);
  FileSystem& files = real_file_system();
  const int zoom = std::max(1, 128 / std::max(1, frames.front().height));
  if (arguments.has("--strip")) {
    constexpr size_t kMostInARow = 18;  // a long video wraps: viewers refuse very wide pictures
    const int columns = static_cast<int>(std::min(frames.size(), kMostInARow));
    const Image sheet = contact_sheet(frames, columns, zoom);
    publish_file(files, arguments.get("--strip"), encode_png(sheet));
  }
  if (arguments.has("--animation")) {
    std::vector<Image> large;
    large.reserve(frames.size());
    for (const Image& frame : frames) large.push_back(contact_sheet({&frame, 1}, 1, zoom, 0));
    publish_file(files, arguments.get("--animation"), encode_animation(large, 150));
  }
}

}  // namespace

int run_inspect(const Arguments& arguments) {
  start_log("lastframe", 0);
  const std::string& folder = arguments.positional()[0];
  const bool json = arguments.has("--json");
  if (is_run_or_checkpoint(folder)) {
    for (const char* option : {"--clip", "--draw", "--strip", "--animation", "--shard"}) {
      if (arguments.has(option)) {
        fail(Code::kUsage, printable(folder), " is a run or a checkpoint; ", option,
             " is for stores");
      }
    }
    return inspect_checkpoints(folder, json);
  }
  if (arguments.has("--shard")) {
    return inspect_shard(
        folder, static_cast<uint64_t>(arguments.number("--shard", 0, 0, 1'000'000'000)), json);
  }
  const std::shared_ptr<const Store> store = Store::open(folder);
  if (arguments.has("--strip") || arguments.has("--animation")) draw_clip(*store, arguments);
  return print(json ? store_json(*store) : store_text(*store));
}

}  // namespace lf
