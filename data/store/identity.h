// What makes two stores one: the options of a plan as it resolves them, whatever words they were
// given in. Not what a shard holds (layout.h).
#pragma once

#include <string>
#include <vector>

#include "config/config.h"
#include "record.pb.h"

namespace lf {

// Writes source and recipe of the plan out: defaults, the default operator, the size that the
// source has. Options without effect on this plan are cleared first.
void resolve(StoreIndex& plan);

// The name of a store: a hash of its plan, resolved. Recipes count by their canonical text.
std::string store_id_of(const StoreIndex& plan);

// Do both plans describe the same clips in the same shards? Ids do not count: older programs
// derived them from the words.
bool same_store(const StoreIndex& a, const StoreIndex& b);

// The options that the store resolves to: source, recipe and store. No source if its parts have
// different ones.
Config options_of(const StoreIndex& plan);

// "recipe.frames: 8 -> 6", one line a difference; not empty unless they are the same store.
std::vector<std::string> plan_differences(const StoreIndex& before, const StoreIndex& after);
// The same of recipe and shape only; empty if clips of both can be mixed.
std::vector<std::string> clip_differences(const StoreIndex& before, const StoreIndex& after);

// What the config sets of source, recipe and store otherwise than the store was built by. How it is
// cut into shards does not count, nor another way to write the same recipe.
std::vector<Contradiction> contradictions(const Config& asked, const StoreIndex& store);

}  // namespace lf
