// `lastframe inspect` of a store: its contents, one clip of it as a picture or an animation, or one
// shard, damaged or not.
#include <algorithm>
#include <array>
#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "config/config.h"
#include "data/image/grid.h"
#include "data/recipe/short_text.h"
#include "data/store/export.h"
#include "data/store/shard.h"
#include "data/store/store.h"
#include "data/store/verify.h"
#include "data/video/film.h"
#include "launch/inspect.h"
#include "launch/output.h"
#include "launch/store_tasks.h"

namespace lf {
namespace {

const char* element_of(const StoreIndex& index) {
  return index.element_bytes() == 1 ? "uint8" : "float16";
}

// Labels that occur.
uint64_t classes_of(const Store& store) {
  std::set<int64_t> labels;
  for (uint64_t clip = 0; clip < store.clips(); ++clip) labels.insert(store.label(clip));
  labels.erase(-1);
  return labels.size();
}

// "10 classes: airplane, automobile, ..." or "10 classes, without names".
std::string labels_text(const Store& store) {
  const auto& names = store.index().label_names();
  const uint64_t classes = classes_of(store);
  if (classes == 0) return "none";
  return str(classes, classes == 1 ? " class" : " classes") +
         (names.empty() ? ", without names"
                        : ": " + printable(join({names.begin(), names.end()}, ", "), 200));
}

uint64_t bytes_of_shards(const StoreIndex& index) {
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
    json.field("bytes", bytes_of_shards(index));
    json.field("classes", classes_of(store));
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
  std::string text = str(
      "store    ", index.store_id(), "\nclips    ", human_count(store.clips()), "\nshards   ",
      human_count(static_cast<uint64_t>(index.shards_size())), ", ",
      human_bytes(bytes_of_shards(index)), "\nframes   ", index.frames(), " of ", index.height(),
      "x", index.width(), "x", index.channels(), " ", element_of(index),
      ", the last uint8\nmode     ", StoreMode_Name(index.mode()), ", ",
      index.draws() == 0 ? "fresh draws"
                         : str(index.draws(), index.draws() == 1 ? " draw" : " draws"),
      "\nrecipe   ", recipe_in_short(index.recipe_text()), "\nlabels   ", labels_text(store), "\n");
  for (const StoreColumn& column : index.columns()) {
    text += str("column   ", column.name(), ", ", StoreColumn::Kind_Name(column.kind()), "[",
                column.width(), "]\n");
  }
  for (const StorePart& part : index.parts()) {
    text += str("source   ", human_count(part.items()), " items in ", human_count(part.shards()),
                part.shards() == 1 ? " shard: " : " shards: ",
                printable(changed_options_text(part.source()), 1000), "\n");
  }
  return text;
}

void inspect_shard(const std::string& folder, uint64_t shard, bool as_json) {
  FileSystem& files = real_file_system();
  if (!files.exists(index_path(folder)))
    Store::open(folder);  // throws and names what is there instead
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
  print(as_json ? json.text() + "\n" : text);
  if (problems.empty()) return;
  fail(Code::kData, "shard ", shard_name(shard), " of ", printable(folder),
       " is damaged: ", join(problems, "; "), "; run `lastframe verify ", printable(folder),
       " --repair`");
}

void draw_clip(const Store& store, const Arguments& arguments) {
  const auto clip = static_cast<uint64_t>(arguments.integer("--clip"));
  if (clip >= store.clips()) {
    arguments.refuse("--clip is ", clip, ", expected a whole number in [0, ", store.clips() - 1,
                     "]");
  }
  check_film(arguments.get("--animation"));
  std::vector<Image> frames = clip_frames(store, clip, draw_of(arguments, store));
  FileSystem& files = real_file_system();
  const std::string what = str("clip ", clip, " of ", printable(store.folder()));
  if (arguments.has("--strip")) {
    const Image strip = draw_grid(rows_of_clip("", frames, frames.size() > 1));
    publish_file(files, arguments.get("--strip"), encode_png(strip));
    log_written(arguments.get("--strip"), what);
  }
  if (arguments.has("--animation")) {
    std::vector<Image> numbered;
    for (size_t t = 0; t < frames.size(); ++t) {
      const GridRow row{"", {{std::move(frames[t]), std::to_string(t), false}}};
      numbered.push_back(draw_grid({&row, 1}));
    }
    const std::string& film = arguments.get("--animation");
    publish_file(files, film, encode_moving(film, numbered, 150));
    log_written(arguments.get("--animation"), what);
  }
}

}  // namespace

void inspect_store(const std::string& folder, const Arguments& arguments) {
  const bool as_json = arguments.has("--json");
  if (arguments.has("--shard")) {
    return inspect_shard(folder, static_cast<uint64_t>(arguments.integer("--shard")), as_json);
  }
  const std::shared_ptr<const Store> store = Store::open(folder);
  if (arguments.has("--strip") || arguments.has("--animation")) draw_clip(*store, arguments);
  print(as_json ? store_json(*store) : store_text(*store));
}

}  // namespace lf
