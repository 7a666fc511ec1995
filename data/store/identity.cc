#include "data/store/identity.h"

#include <cstdio>
#include <filesystem>

#include "base/error.h"
#include "base/hash.h"
#include "config/config.h"
#include "config/reflect.h"
#include "data/recipe/recipe.h"
#include "data/store/build.h"
#include "data/store/layout.h"

namespace lf {
namespace {

using google::protobuf::Message;

// "photos/" and "./photos" are "photos".
std::string plain_path(const std::string& path) {
  std::string plain = std::filesystem::path(path).lexically_normal().string();
  while (plain.size() > 1 && plain.back() == '/') plain.pop_back();
  return plain;
}

// All texts below a source but the kind of what is drawn are paths.
void make_paths_plain(Message& source) {
  std::vector<const FieldDescriptor*> present;
  const google::protobuf::Reflection& r = *source.GetReflection();
  r.ListFields(source, &present);
  for (const FieldDescriptor* field : present) {
    if (field->message_type() != nullptr) {
      make_paths_plain(*r.MutableMessage(&source, field));
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING && field->name() != "kind") {
      r.SetString(&source, field, plain_path(r.GetString(source, field)));
    }
  }
}

void resolve_source(SourceConfig& source, const ClipShape& clip) {
  // Files may have several sizes, of which source.size=0 takes only one.
  const bool files =
      source.has_folder() || source.has_frames() || source.has_archive() || source.has_videos();
  if (source.size() != 0) {
    if (source.width() == 0) source.set_width(source.size());
  } else {
    source.set_size(files ? 0 : clip.height);
    source.set_width(files ? 0 : clip.width);
  }
  if (clip.channels == 1 || clip.channels == 3) source.set_channels(clip.channels);
  if (source.split().part() == SplitConfig::ALL) source.clear_split();
  make_paths_plain(source);
  fill_in_defaults(source);
  // Options that earlier programs did not have leave the ids of their stores as they are.
  if (source.filter() == SourceConfig::BILINEAR) source.clear_filter();
  if (source.has_folder() && !source.folder().follow_links()) {
    source.mutable_folder()->clear_follow_links();
  }
}

void resolve_recipe(RecipeConfig& recipe, int frames, bool from_videos) {
  if (frames == 1 || from_videos) {
    recipe.Clear();
  } else if (recipe.corruption_case() == RecipeConfig::CORRUPTION_NOT_SET) {
    recipe.mutable_blur();
  }
  recipe.set_frames(frames);
  fill_in_defaults(recipe);
}

StoreIndex resolved(StoreIndex plan) {
  resolve(plan);
  return plan;
}

// All that counts when two plans are compared, as bytes.
std::string hashed_part_of(const StoreIndex& plan) {
  StoreIndex identity = resolved(plan);
  identity.clear_recipe();
  for (StorePart& part : *identity.mutable_parts()) {
    part.clear_recipe();
    // The parts of a merged store keep the ids of their builds.
    if (part.store_id() == identity.store_id()) part.clear_store_id();
  }
  identity.clear_store_id();
  return identity.SerializeAsString();
}

// Does the whole recipe give the store's frames? Unset options are then those of the program.
bool same_recipe(const RecipeConfig& recipe, const StoreIndex& store) {
  const ClipShape clip = clip_shape_of(store);
  try {
    return Recipe(recipe, store.from_videos() ? clip : clip.image()).canonical() ==
           store.recipe_text();
  } catch (const Error&) {
    return false;
  }
}

std::string shape_text(const StoreIndex& plan) {
  return str(plan.frames(), "x", plan.height(), "x", plan.width(), "x", plan.channels());
}

}  // namespace

void resolve(StoreIndex& plan) {
  const ClipShape clip = clip_shape_of(plan);
  resolve_recipe(*plan.mutable_recipe(), clip.frames, plan.from_videos());
  for (StorePart& part : *plan.mutable_parts()) {
    resolve_source(*part.mutable_source(), clip);
    resolve_recipe(*part.mutable_recipe(), clip.frames, plan.from_videos());
  }
}

std::string store_id_of(const StoreIndex& plan) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx",
                static_cast<unsigned long long>(fnv1a(hashed_part_of(plan))));
  return text;
}

bool same_store(const StoreIndex& a, const StoreIndex& b) {
  return hashed_part_of(a) == hashed_part_of(b);
}

Config options_of(const StoreIndex& plan) {
  const StoreIndex whole = resolved(plan);
  Config config;
  *config.mutable_recipe() = whole.recipe();
  StoreConfig& store = *config.mutable_store();
  store.set_mode(whole.mode());
  store.set_fresh_draws(whole.draws() == 0);
  if (whole.draws() > 0) store.set_draws(static_cast<int32_t>(whole.draws()));
  if (whole.parts_size() == 0) return config;
  const StorePart& first = whole.parts(0);
  *config.mutable_source() = first.source();
  store.set_seed(first.seed());
  store.set_clips_per_shard(static_cast<int32_t>(first.items_per_shard()));
  for (const StorePart& part : whole.parts()) {
    if (part.source().SerializeAsString() != first.source().SerializeAsString()) {
      config.clear_source();
    }
  }
  return config;
}

std::vector<std::string> clip_differences(const StoreIndex& before, const StoreIndex& after) {
  std::vector<std::string> lines;
  if (before.recipe_text() != after.recipe_text()) {
    Config old_recipe, recipe;
    *old_recipe.mutable_recipe() = options_of(before).recipe();
    *recipe.mutable_recipe() = options_of(after).recipe();
    lines = config_differences(old_recipe, recipe, true);
  }
  if (shape_text(before) != shape_text(after)) {
    lines.push_back(str("shape of a clip: ", shape_text(before), " -> ", shape_text(after)));
  }
  if (lines.empty() && before.recipe_text() != after.recipe_text()) {
    lines.push_back(str("recipe: ", before.recipe_text(), " -> ", after.recipe_text()));
  }
  return lines;
}

std::vector<std::string> plan_differences(const StoreIndex& before, const StoreIndex& after) {
  if (before.parts_size() != 1 || after.parts_size() != 1) {
    return {str("parts: ", before.parts_size(), " -> ", after.parts_size())};
  }
  Config old_options = options_of(before), options = options_of(after);
  old_options.clear_recipe();
  options.clear_recipe();
  std::vector<std::string> lines = config_differences(old_options, options, true);
  const std::vector<std::string> clips = clip_differences(before, after);
  lines.insert(lines.end(), clips.begin(), clips.end());
  const uint64_t items = before.parts(0).items(), now = after.parts(0).items();
  if (items != now) lines.push_back(str("items of the source: ", items, " -> ", now));
  if (lines.empty()) lines.emplace_back("the source's label names or side columns");
  return lines;
}

std::vector<Contradiction> contradictions(const Config& asked, const StoreIndex& store) {
  const ClipShape clip = clip_shape_of(store);
  for (const StorePart& part : store.parts()) {
    Config held = options_of(plan_of_part(store, part)), wanted;
    *wanted.mutable_source() = asked.source();
    *wanted.mutable_recipe() = asked.recipe();
    *wanted.mutable_store() = asked.store();
    SourceConfig& source = *wanted.mutable_source();
    // The size of the clips, whether the source was told it or found it.
    held.mutable_source()->set_size(clip.height);
    held.mutable_source()->set_width(clip.width);
    if (source.size() == 0) source.clear_size();
    if (source.width() == 0) source.clear_width();
    if (source.channels() == 0) source.clear_channels();
    if (held.source().split().part() == SplitConfig::ALL && source.has_split()) {
      const SplitConfig::Part taken = source.split().part();
      source.mutable_split()->Clear();
      source.mutable_split()->set_part(taken);
    }
    make_paths_plain(source);
    StoreConfig& shards = *wanted.mutable_store();
    shards.clear_clips_per_shard();
    shards.clear_shard_mib();
    shards.clear_threads();
    shards.clear_strict();
    if (same_recipe(asked.recipe(), store)) wanted.clear_recipe();
    std::vector<Contradiction> found = contradictions(wanted, held);
    if (!found.empty()) return found;
  }
  return {};
}

}  // namespace lf
