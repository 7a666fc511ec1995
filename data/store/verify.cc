#include "data/store/verify.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <optional>
#include <set>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/parallel.h"
#include "data/store/build.h"
#include "data/store/layout.h"
#include "data/store/shard.h"

namespace lf {
namespace {

// A shard in memory, for reading its trailer before it is written.
class FileInMemory : public InFile {
 public:
  explicit FileInMemory(const std::string& bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  void read(uint64_t offset, void* into, size_t size) const override {
    LF_CHECK(offset <= bytes_.size() && size <= bytes_.size() - offset);
    std::memcpy(into, bytes_.data() + offset, size);
  }

 private:
  const std::string& bytes_;
};

std::optional<StoreIndex> try_read(FileSystem& files, const std::string& path, Damage::Kind kind,
                                   const char* name, std::vector<Damage>& damage) {
  try {
    if (files.exists(path)) return read_index(files, path);
    damage.push_back({kind, 0, name, "it is missing"});
  } catch (const Error& error) {
    damage.push_back({kind, 0, name, error.what()});
  }
  return std::nullopt;
}

uint64_t shards_of(const StoreIndex& index) {
  uint64_t shards = 0;
  for (const StorePart& part : index.parts()) shards += part.shards();
  return shards;
}

StoreIndex without_records(StoreIndex index) {
  index.clear_shards();
  return index;
}

// The index if it is valid, else the plan, which has no shard records.
StoreIndex read_both(FileSystem& files, const std::string& folder, std::vector<Damage>& damage) {
  std::optional<StoreIndex> index =
      try_read(files, index_path(folder), Damage::Kind::kIndex, "index", damage);
  if (index && index->shards_size() == 0) {
    damage.push_back({Damage::Kind::kIndex, 0, "index", "it records no shard"});
    index.reset();
  }
  const std::optional<StoreIndex> plan =
      try_read(files, plan_path(folder), Damage::Kind::kPlan, "plan", damage);
  if (!index && !plan) {
    if (!files.exists(index_path(folder)) && !files.exists(plan_path(folder))) {
      fail(Code::kUsage, "there is no store at ", printable(folder));
    }
    fail(Code::kData, "the store ", printable(folder), ": neither index nor plan can be read (",
         damage.front().reason, "; ", damage.back().reason, "); build it again in another folder");
  }
  if (index && plan && without_records(*index).SerializeAsString() != plan->SerializeAsString()) {
    damage.push_back({Damage::Kind::kPlan, 0, "plan", "it is another store's than the index"});
  }
  return index ? *index : *plan;
}

// Finds the clips of a shard whose pixels do not match their checksums.
class PixelCheck {
 public:
  PixelCheck(const InFile& file, const Layout& layout, const ShardRecord& record)
      : file_(file), layout_(layout), record_(record) {}

  void run(std::vector<std::string>& problems) {
    std::vector<uint32_t> crc(record_.clips() * layout_.checksums());
    file_.read(address(Layout::kCrc), crc.data(), crc.size() * sizeof(crc[0]));
    uint32_t table = crc32c(crc.data(), crc.size() * sizeof(crc[0]));
    for (const size_t d : {Layout::kItems, Layout::kLabels}) {
      std::string column(layout_.bytes(d, record_), '\0');
      file_.read(address(d), column.data(), column.size());
      table = crc32c(column.data(), column.size(), table);
    }
    if (table != record_.table_crc()) {
      problems.emplace_back("its checksums, items or labels have flipped bits");
      return;
    }
    uint64_t bad = 0;
    std::string first;
    for (uint64_t row = 0; row < record_.clips(); ++row) {
      const std::string what = damaged_part(row, crc.data() + row * layout_.checksums());
      if (!what.empty() && bad++ == 0) first = str("clip ", row, " of the shard (its ", what, ")");
    }
    if (bad > 0) {
      problems.push_back(
          str("flipped bits in ", first, bad > 1 ? str(" and in ", bad - 1, " more clips") : ""));
    }
  }

 private:
  uint64_t address(size_t d) const { return record_.address(static_cast<int>(d)); }

  bool valid(uint64_t offset, uint64_t bytes, uint32_t crc) {
    buffer_.resize(bytes);
    file_.read(offset, buffer_.data(), bytes);
    return crc32c(buffer_.data(), bytes) == crc;
  }

  // "image", "frames.0" or, if the clip is valid, "".
  std::string damaged_part(uint64_t row, const uint32_t* crc) {
    const uint64_t images = address(layout_.image_dataset());
    const bool image_in_each = layout_.stored() && layout_.whole();
    for (uint32_t draw = 0; draw < std::max<uint32_t>(1, layout_.held_draws()); ++draw) {
      if ((draw == 0 || image_in_each) &&
          !valid(images + layout_.image_offset(row, draw), layout_.image_bytes(),
                 crc[Layout::kImageChecksum])) {
        return "image";
      }
      const size_t column = layout_.frames_checksum(draw);
      if (layout_.stored() &&
          !valid(address(layout_.frames_dataset()) + layout_.frames_offset(row, draw),
                 layout_.corrupted_bytes(), crc[column])) {
        return layout_.checksum_names()[column];
      }
    }
    return "";
  }

  const InFile& file_;
  const Layout& layout_;
  const ShardRecord& record_;
  std::string buffer_;
};

void verify_extra_files(FileSystem& files, const std::string& folder, const StoreIndex& index,
                        std::vector<Damage>& damage) {
  if (!files.exists(shards_folder(folder))) return;  // every shard will be reported as missing
  const uint64_t shards = shards_of(index);
  for (const std::string& name : files.list(shards_folder(folder))) {
    uint64_t number = 0;
    const size_t dot = name.find('.');
    const bool numbered = dot != std::string::npos && parse(name.substr(0, dot), &number) &&
                          number < shards && name == shard_name(number);
    if (!numbered) {
      damage.push_back({Damage::Kind::kExtraFile, 0, "shards/" + name,
                        str("it belongs to no shard of this store (", shards,
                            " shards); renamed or left over?")});
    }
  }
}

// Rebuilds a shard from its source; throws if the source has changed.
std::string remake_shard(const StoreIndex& index, uint64_t shard, const OpenSource& open) {
  const PartOfShard place = part_of_shard(index, shard);
  const StoreIndex plan = plan_of_part(index, *place.part);
  const std::unique_ptr<Source> source = open(place.part->source());
  const ClipShape shape = source->shape(), clip = clip_shape_of(index);
  const auto changed = [&](const std::string& how) {
    fail(Code::kData, "shard ", shard_name(shard), " cannot be rebuilt: its source ", how,
         "; give the unchanged source with --set source...");
  };
  if (source->size() != place.part->items()) {
    changed(str("has ", source->size(), " items now, it had ", place.part->items()));
  }
  if (shape.image() != clip.image() || (shape.frames > 1) != index.from_videos()) {
    changed("gives another shape now");
  }
  std::atomic<uint64_t> ignored = 0;
  std::string bytes = make_shard(plan, *source, place.number, false, ignored);
  if (index.shards_size() > 0) {
    const ShardTrailer trailer = read_trailer(FileInMemory(bytes), "the rebuilt shard");
    if (trailer.record().SerializeAsString() !=
        index.shards(static_cast<int>(shard)).SerializeAsString()) {
      changed("gives other data now than when the store was built");
    }
  }
  return bytes;
}

void move_extra_file(FileSystem& files, const std::string& folder, const std::string& name) {
  files.make_folders(folder + "/extra");
  std::string base = name.substr(name.rfind('/') + 1);
  while (files.exists(folder + "/extra/" + base)) base += "+";
  files.rename(folder + "/" + name, folder + "/extra/" + base);
}

}  // namespace

std::vector<std::string> verify_shard(FileSystem& files, const std::string& folder,
                                      const StoreIndex& index, uint64_t shard) {
  std::vector<std::string> problems;
  const std::string path = shard_path(folder, shard);
  const Layout layout(index);
  try {
    if (!files.exists(path)) return {"it is missing"};
    if (!lies_under(folder, path)) return {"it is a link that leads out of the store"};
    const std::unique_ptr<InFile> file = files.open_read(path);
    const ShardRecord* record =
        index.shards_size() > 0 ? &index.shards(static_cast<int>(shard)) : nullptr;
    if (record != nullptr && file->size() != record->bytes()) {
      problems.push_back(str("it has ", human_count(file->size()), " bytes, the index says ",
                             human_count(record->bytes()),
                             file->size() < record->bytes() ? "; truncated?" : ""));
    }
    uint64_t hdf5_bytes = 0;
    const ShardTrailer trailer = read_trailer(*file, "the file", &hdf5_bytes);
    const PartOfShard place = part_of_shard(index, shard);
    if (trailer.store_id() != place.part->store_id() || trailer.shard() != place.number) {
      problems.push_back(str("it is shard ", trailer.shard(), " of store ",
                             printable(trailer.store_id()), ", expected shard ", place.number,
                             " of store ", place.part->store_id(), "; swapped or renamed?"));
      return problems;
    }
    if (record != nullptr && trailer.record().SerializeAsString() != record->SerializeAsString()) {
      problems.emplace_back("its trailer and the index do not agree");
      return problems;
    }
    check_record(layout, trailer.record(), "its trailer");
    if (metadata_checksum(*file, layout, trailer.record(), hdf5_bytes) !=
        trailer.record().metadata_crc()) {
      problems.emplace_back("flipped bits in its HDF5 metadata or columns");
    }
    PixelCheck(*file, layout, trailer.record()).run(problems);
  } catch (const Error& error) {
    problems.emplace_back(error.what());
  }
  return problems;
}

VerifyReport verify_store(FileSystem& files, const std::string& folder, int threads,
                          const std::function<void(uint64_t, uint64_t)>& done) {
  VerifyReport report;
  const StoreIndex index = read_both(files, folder, report.damage);
  verify_extra_files(files, folder, index, report.damage);
  report.shards = shards_of(index);
  for (const ShardRecord& record : index.shards()) {
    report.clips += record.clips();
    report.bytes += record.bytes();
  }
  std::mutex mutex;
  std::atomic<uint64_t> finished = 0;
  std::vector<Damage> shards;
  run_parallel(report.shards, threads, [&](uint64_t shard) {
    const std::vector<std::string> problems = verify_shard(files, folder, index, shard);
    if (!problems.empty()) {
      const std::lock_guard<std::mutex> lock(mutex);
      shards.push_back(
          {Damage::Kind::kShard, shard, "shard " + shard_name(shard), join(problems, "; ")});
    }
    if (done) done(++finished, report.shards);
  });
  std::sort(shards.begin(), shards.end(),
            [](const Damage& a, const Damage& b) { return a.shard < b.shard; });
  report.damage.insert(report.damage.end(), shards.begin(), shards.end());
  return report;
}

std::vector<std::string> repair_store(FileSystem& files, const std::string& folder, int threads,
                                      const VerifyReport& report, const OpenSource& open) {
  std::vector<std::string> lines;
  std::vector<Damage> ignored;
  const StoreIndex index = read_both(files, folder, ignored);
  files.make_folders(building_folder(folder));
  files.make_folders(shards_folder(folder));
  std::vector<uint64_t> shards;
  bool index_damaged = false;
  for (const Damage& damage : report.damage) {
    switch (damage.kind) {
      case Damage::Kind::kShard:
        shards.push_back(damage.shard);
        break;
      case Damage::Kind::kIndex:
        index_damaged = true;
        break;
      case Damage::Kind::kPlan:
        publish_in_store(files, folder, 0, plan_path(folder), encode_index(without_records(index)));
        lines.emplace_back("rewrote the plan from the index");
        break;
      case Damage::Kind::kExtraFile:
        move_extra_file(files, folder, damage.name);
        lines.push_back("moved " + damage.name + " to extra/");
        break;
    }
  }
  std::mutex mutex;
  run_parallel(shards.size(), threads, [&](uint64_t i) {
    const std::string bytes = remake_shard(index, shards[i], open);
    publish_in_store(files, folder, 0, shard_path(folder, shards[i]), bytes);
    const std::lock_guard<std::mutex> lock(mutex);
    lines.push_back("rebuilt shard " + shard_name(shards[i]) + " from its source");
  });
  if (index_damaged) {
    if (!finish_build(files, folder, threads)) {
      fail(Code::kData, "the index of ", printable(folder),
           " cannot be rebuilt: some of its shards are missing; run `lastframe build` again");
    }
    lines.emplace_back("rewrote the index from the shards");
  }
  files.remove_tree(building_folder(folder));
  return lines;
}

}  // namespace lf
