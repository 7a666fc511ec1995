// How other programs name and arrange the tensors of a network: one table of rules a layout, exact
// both ways, and the places that it gives the tensors of one network. Knows names, types and shapes
// only; relayout.h moves elements and files.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/safetensors.h"
#include "run.pb.h"

namespace lf {

// One rule. In a name, {i} stands for a number, {p} and {q} for text without dots and {*} for any
// text; the other side repeats it or, as in {n-1-i}, computes with it and the layout's sizes. {i<n}
// in theirs stands for a tensor each of i = 0 to n - 1; {a|b|c} deals the first axis out to tensors
// a, b, c. @ is each of the layout's places.
struct LayoutRule {
  enum Value : uint8_t {
    kElements,  // of ours
    // Constants of theirs, in the shape that `axes` makes of ours, which has no such tensor.
    kZeros,
    kOnes,
    kPowersOfTwo,  // ..., 4, 2, 1 in int64
  };
  const char* ours;
  const char* theirs;     // "": none; ours is no part of the network, or must be 1 (kOnes)
  const char* axes = "";  // from our axes to theirs, "o (y x c) -> o c y x"; "": the same
  // The rule holds if there is such a tensor of ours, with "!" if there is none.
  const char* when = "";
  Value value = kElements;
};

// By the letter that rules use.
using LayoutSizes = std::map<char, int64_t>;

struct NetworkLayout {
  const char* name;  // "dit"
  const char* help;
  ModelConfig::KindCase model;
  std::span<const LayoutRule> rules;
  std::span<const std::pair<const char*, const char*>> places;  // ours and theirs, of @ in rules
  LayoutSizes (*sizes)(const ModelConfig& model);
  // What shapes do not show: "" or a clause on the option that theirs cannot have.
  std::string (*misfit)(const ModelConfig& model);
  // Tensors of ours without which there is no network of theirs.
  std::span<const char* const> needs = {};
  // The option norm_groups, of networks whose group norms all have the same number of groups;
  // `groups`: the only one that theirs can have, 0 for any.
  int64_t (*norm_groups)(const ModelConfig& model) = nullptr;
  int64_t groups = 0;
  // Parts of names in their older files, and what they are now.
  std::span<const std::pair<const char*, const char*>> older = {};
  // The beginning of what their files hold beside the network: losses.
  const char* beside = nullptr;
};

std::span<const NetworkLayout* const> layout_table();
// Code::kUsage, naming the layouts, for another name.
const NetworkLayout& layout_of_name(const std::string& name);

// theirs = ours.view(view).permute(order).view(shape), of which `part` (-1: all) is the tensor.
struct PlacedTensor {
  TensorLayout theirs;
  size_t ours = 0;  // index into the tensors of our network
  std::vector<int64_t> view, order, shape;
  int64_t part = -1;
  LayoutRule::Value value = LayoutRule::kElements;
};

struct LayoutPlan {
  std::vector<PlacedTensor> placed;
  std::vector<size_t> ones;  // ours that must be 1, which theirs leaves unsaid
};

// Where the layout puts the tensors `ours` of the config's network. Throws Code::kUsage, beginning
// with `where` and naming the tensor or the option, if it cannot hold them all.
LayoutPlan plan_layout(const NetworkLayout& layout, const Config& config,
                       const std::vector<TensorLayout>& ours, const std::string& where);

// The name of a tensor in a file of theirs, which may be an older one.
std::string name_today(const NetworkLayout& layout, std::string name);

}  // namespace lf
