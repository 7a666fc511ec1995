// The plan of a build, from config and source: columns, shards and the store's id. See build.h.
#include <algorithm>

#include "base/error.h"
#include "data/store/build.h"
#include "data/store/identity.h"
#include "data/store/layout.h"

namespace lf {
namespace {

constexpr uint64_t kMostClipsInShard = uint64_t{1} << 24;

StoreColumn::Kind kind_of(SideColumn::Kind kind) {
  switch (kind) {
    case SideColumn::Kind::kInt64:
      return StoreColumn::INT64;
    case SideColumn::Kind::kFloat:
      return StoreColumn::FLOAT;
    case SideColumn::Kind::kText:
      return StoreColumn::TEXT;
  }
  return StoreColumn::INT64;
}

void plan_columns(const Source& source, StoreIndex& plan) {
  std::vector<std::string> seen;
  for (const SideColumn& side : source.side_columns()) {
    if (!valid_column_name(side.name) ||
        std::find(seen.begin(), seen.end(), side.name) != seen.end()) {
      fail(Code::kUsage, "the source has a side column named '", printable(side.name),
           "'; expected different names of up to 64 letters, digits, '_' and '-'");
    }
    seen.push_back(side.name);
    StoreColumn* column = plan.add_columns();
    column->set_name(side.name);
    column->set_kind(kind_of(side.kind));
    column->set_width(side.kind == SideColumn::Kind::kText ? 1 : static_cast<uint32_t>(side.width));
  }
}

// Items in a shard: store.clips_per_shard, or as many clips as fill store.shard_mib.
uint64_t items_per_shard(const StoreConfig& config, const StoreIndex& plan, uint64_t items) {
  if (config.clips_per_shard() > 0) return static_cast<uint64_t>(config.clips_per_shard());
  const Layout layout(plan);
  uint64_t clip = 0;
  for (const Dataset& dataset : layout.datasets()) {
    if (dataset.text < 0) clip += dataset.row_bytes();
  }
  const double fitting = config.shard_mib() * 1048576.0 / static_cast<double>(clip);
  return std::clamp<uint64_t>(static_cast<uint64_t>(fitting), 1,
                              std::min(items, kMostClipsInShard));
}

}  // namespace

StoreIndex plan_store(const Config& config, const Source& source) {
  const ClipShape shape = source.shape();
  const Recipe recipe(config.recipe(), shape);
  const StoreConfig& store = config.store();
  if (store.fresh_draws() && store.mode() == STORED) {
    fail(Code::kUsage,
         "store.fresh_draws needs store.mode=RECOMPUTED; a stored clip holds a fixed number of "
         "draws");
  }
  if (store.draws() > 1 && !recipe.random()) {
    fail(Code::kUsage, "store.draws is ", store.draws(),
         ", but this recipe has no randomness, so all draws would be equal; use store.draws=1");
  }
  if (store.fresh_draws() && !recipe.random()) {
    fail(Code::kUsage,
         "store.fresh_draws: this recipe has no randomness, so all draws would be equal");
  }
  if (store.mode() == RECOMPUTED && shape.frames > 1) {
    fail(Code::kUsage,
         "store.mode=RECOMPUTED makes frames from images, and this source gives videos of ",
         shape.frames, " frames; use store.mode=STORED");
  }
  if (source.size() == 0) {
    fail(Code::kUsage, "the source holds no item; check its path and its split");
  }
  StoreIndex plan;
  plan.set_format(kStoreFormat);
  plan.set_mode(store.mode());
  plan.set_frames(static_cast<uint32_t>(recipe.frames()));
  plan.set_height(static_cast<uint32_t>(shape.height));
  plan.set_width(static_cast<uint32_t>(shape.width));
  plan.set_channels(static_cast<uint32_t>(shape.channels));
  plan.set_element_bytes(recipe.element() == Element::kUint8 ? 1 : 2);
  plan.set_draws(store.fresh_draws() ? 0 : static_cast<uint32_t>(store.draws()));
  plan.set_from_videos(shape.frames > 1);
  *plan.mutable_recipe() = config.recipe();
  plan.set_recipe_text(recipe.canonical());
  for (const std::string& name : source.label_names()) plan.add_label_names(printable(name));
  plan_columns(source, plan);
  StorePart* part = plan.add_parts();
  *part->mutable_source() = config.source();
  part->set_seed(store.seed());
  *part->mutable_recipe() = config.recipe();
  part->set_recipe_text(recipe.canonical());
  part->set_items(source.size());
  part->set_items_per_shard(items_per_shard(store, plan, source.size()));
  part->set_shards((part->items() - 1) / part->items_per_shard() + 1);
  resolve(plan);
  plan.set_store_id(store_id_of(plan));
  part->set_store_id(plan.store_id());
  check_bounds(plan, [](const std::string& why) {
    fail(Code::kUsage, "a store of this source and recipe cannot be built: ", why,
         "; source.size, recipe.frames and store.draws make clips smaller");
  });
  return plan;
}

StoreIndex plan_of_part(const StoreIndex& index, const StorePart& part) {
  StoreIndex plan = index;
  plan.clear_shards();
  plan.clear_parts();
  *plan.add_parts() = part;
  *plan.mutable_recipe() = part.recipe();
  plan.set_recipe_text(part.recipe_text());
  plan.set_store_id(part.store_id());
  return plan;
}

}  // namespace lf
