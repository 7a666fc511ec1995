#include "checkpoint/layouts/layout.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <set>

#include "base/error.h"
#include "checkpoint/layouts/axes.h"
#include "checkpoint/layouts/tables.h"

namespace lf {
namespace {

using Captures = std::map<char, std::string>;

// Fits `pattern` to a name, whole.
bool fits(std::string_view pattern, std::string_view name, Captures& captures) {
  while (!pattern.empty()) {
    if (pattern[0] != '{') {
      if (name.empty() || name[0] != pattern[0]) return false;
      pattern.remove_prefix(1);
      name.remove_prefix(1);
      continue;
    }
    const char letter = pattern[1];
    pattern.remove_prefix(3);
    size_t end = letter == '*' ? name.size() : std::min(name.find('.'), name.size());
    if (letter != '*' && letter != 'p' && letter != 'q') {
      end = std::min(name.find_first_not_of("0123456789"), name.size());
    }
    if (end == 0) return false;
    captures[letter] = name.substr(0, end);
    name.remove_prefix(end);
  }
  return name.empty();
}

// A sum of products of numbers and letters, such as 1+b*i+k.
int64_t evaluated(std::string_view formula, const LayoutSizes& sizes) {
  int64_t sum = 0, product = 1, sign = 1;
  for (size_t at = 0; at <= formula.size();) {
    const size_t end = std::min(formula.find_first_of("+-*", at), formula.size());
    const std::string_view factor = formula.substr(at, end - at);
    int64_t number = 0;
    if (!parse(factor, &number)) {
      LF_CHECK(factor.size() == 1 && sizes.count(factor[0]) == 1, "no size ", factor);
      number = sizes.at(factor[0]);
    }
    product *= number;
    if (end == formula.size() || formula[end] != '*') {
      sum += sign * product;
      product = 1;
      sign = end < formula.size() && formula[end] == '-' ? -1 : 1;
    }
    at = end + 1;
  }
  return sum;
}

// What stands for the braces around `inside`, several of alternatives.
std::vector<std::string> of_braces(const std::string& inside, const Captures& captures,
                                   const LayoutSizes& sizes) {
  if (inside.find('|') != std::string::npos) return split(inside, '|');
  const auto captured = captures.find(inside[0]);
  const bool alone = inside.size() == 1 || inside.find('<') != std::string::npos;
  if (alone && captured != captures.end()) return {captured->second};
  LayoutSizes all = sizes;
  for (const auto& [letter, text] : captures) {
    int64_t number = 0;
    if (parse(text, &number)) all[letter] = number;
  }
  return {std::to_string(evaluated(inside, all))};
}

// The names that a pattern stands for: one, or as many as it has alternatives.
std::vector<std::string> named(const std::string& pattern, const Captures& captures,
                               const LayoutSizes& sizes) {
  std::vector<std::string> names = {""};
  for (size_t at = 0; at < pattern.size();) {
    const size_t brace = std::min(pattern.find('{', at), pattern.size());
    for (std::string& name : names) name += pattern.substr(at, brace - at);
    if (brace == pattern.size()) break;
    const size_t end = pattern.find('}', brace);
    const std::vector<std::string> texts =
        of_braces(pattern.substr(brace + 1, end - brace - 1), captures, sizes);
    std::vector<std::string> longer;
    for (const std::string& name : names) {
      for (const std::string& text : texts) longer.push_back(name + text);
    }
    names = std::move(longer);
    at = end + 1;
  }
  return names;
}

// Is this the weight of a group norm whose number of groups, where none is set, is not 32?
bool is_narrow_norm(const TensorLayout& tensor) {
  if (tensor.shape.size() != 1 || !tensor.name.ends_with(".weight")) return false;
  const std::vector<std::string> words = split(tensor.name, '.');
  return words[words.size() - 2].starts_with("norm") &&
         (tensor.shape[0] < 4 * 32 || tensor.shape[0] % 32 != 0);
}

// Plans the tensors of one network.
class Planner {
 public:
  Planner(const NetworkLayout& layout, const Config& config, const std::vector<TensorLayout>& ours,
          const std::string& where)
      : layout_(layout),
        config_(config),
        ours_(ours),
        where_(where),
        sizes_(layout.sizes(config.model())) {
    for (const TensorLayout& tensor : ours) names_.insert(tensor.name);
    for (const LayoutRule& rule : layout.rules) {
      if (*rule.ours != '@') {
        rules_.push_back({rule.ours, rule.theirs, rule});
        continue;
      }
      for (const auto& [here, there] : layout.places) {
        rules_.push_back({str(here, rule.ours + 1), str(there, rule.theirs + 1), rule});
      }
    }
  }

  LayoutPlan plan() {
    for (size_t i = 0; i < ours_.size(); ++i) {
      bool known = false;
      for (const Rule& rule : rules_) known = apply(rule, i) || known;
      if (!known) refuse("has no place for '", ours_[i].name, "' ", describe(ours_[i]));
    }
    for (const char* needed : layout_.needs) {
      if (names_.count(needed) == 0) {
        refuse("needs '", needed, "', which this network has not");
      }
    }
    if (layout_.norm_groups != nullptr) check_norms();
    return std::move(plan_);
  }

 private:
  // With its place.
  struct Rule {
    std::string ours, theirs;
    const LayoutRule& row;
  };

  template <typename... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(Code::kUsage, where_, ": the layout ", layout_.name, " ", parts..., "; it is for ",
         layout_.help);
  }

  // Theirs have one number of groups, ours without norm_groups one that follows from the channels.
  void check_norms() const {
    const int64_t groups = layout_.norm_groups(config_.model());
    if (groups != 0 && layout_.groups != 0 && groups != layout_.groups) {
      refuse("has group norms of ", layout_.groups, " groups, and norm_groups is ", groups);
    }
    if (groups != 0) return;
    for (const PlacedTensor& placed : plan_.placed) {
      const TensorLayout& tensor = ours_[placed.ours];
      if (is_narrow_norm(tensor)) {
        refuse("has group norms of one number of groups, and that of '", tensor.name, "' ",
               describe(tensor), " depends on its channels; train with norm_groups set");
      }
    }
  }

  bool holds(const char* when, const Captures& captures) const {
    if (*when == '\0') return true;
    const bool none = *when == '!';
    const std::string name = named(none ? when + 1 : when, captures, sizes_)[0];
    return (names_.count(name) == 1) != none;
  }

  // Whether the rule knows tensor `i` of ours.
  bool apply(const Rule& rule, size_t i) {
    Captures captures;
    if (!fits(rule.ours, ours_[i].name, captures) || !holds(rule.row.when, captures)) return false;
    const std::string& theirs = rule.theirs;
    if (theirs.empty()) {
      if (rule.row.value == LayoutRule::kOnes) plan_.ones.push_back(i);
      return true;
    }
    const size_t loop = theirs.find('<');
    const int64_t count = loop == std::string::npos
                              ? 1
                              : evaluated(std::string_view(theirs).substr(
                                              loop + 1, theirs.find('}', loop) - loop - 1),
                                          sizes_);
    for (int64_t step = 0; step < count; ++step) {
      if (loop != std::string::npos) captures[theirs[loop - 1]] = std::to_string(step);
      place(rule.row, i, named(theirs, captures, sizes_));
    }
    return rule.row.value == LayoutRule::kElements;
  }

  void place(const LayoutRule& rule, size_t i, const std::vector<std::string>& names) {
    const TensorLayout& tensor = ours_[i];
    const auto made = rearrangement(rule.axes, tensor.shape, sizes_);
    const auto parts = static_cast<int64_t>(names.size());
    if (!made || (parts > 1 && made->shape[0] != parts)) {
      refuse("cannot hold '", tensor.name, "' ", describe(tensor), ", expected axes ", rule.axes);
    }
    for (int64_t part = 0; part < parts; ++part) {
      const DType type = rule.value == LayoutRule::kPowersOfTwo ? DType::kI64 : tensor.dtype;
      PlacedTensor placed{{names[static_cast<size_t>(part)], type, made->shape},
                          i,
                          made->view,
                          made->order,
                          made->shape,
                          parts > 1 ? part : -1,
                          rule.value};
      if (parts > 1) placed.theirs.shape.erase(placed.theirs.shape.begin());
      LF_CHECK(taken_.insert(placed.theirs.name).second, "two tensors named ", placed.theirs.name);
      plan_.placed.push_back(std::move(placed));
    }
  }

  const NetworkLayout& layout_;
  const Config& config_;
  const std::vector<TensorLayout>& ours_;
  std::string where_;
  LayoutSizes sizes_;
  std::vector<Rule> rules_;
  std::set<std::string> names_, taken_;
  LayoutPlan plan_;
};

}  // namespace

LayoutPlan plan_layout(const NetworkLayout& layout, const Config& config,
                       const std::vector<TensorLayout>& ours, const std::string& where) {
  const auto refuse = [&](const auto&... parts) {
    fail(Code::kUsage, where, ": the layout ", layout.name, " ", parts..., "; it is for ",
         layout.help);
  };
  if (config.model().kind_case() != layout.model) refuse("is not for this kind of model");
  const std::string misfit = layout.misfit(config.model());
  if (!misfit.empty()) refuse("cannot hold this network: ", misfit);
  return Planner(layout, config, ours, where).plan();
}

std::span<const NetworkLayout* const> layout_table() {
  static constexpr std::array kLayouts = {
      &kLucidrainsUnet3d,       &kDiffusersUnet2d, &kDit,
      &kDiffusersAutoencoderKl, &kPhenakiCvivit,   &kImprovedDiffusion,
      &kGuidedDiffusion,        &kTamingVqgan,     &kDiffusersVq};
  return kLayouts;
}

const NetworkLayout& layout_of_name(const std::string& name) {
  std::vector<std::string> names;
  for (const NetworkLayout* layout : layout_table()) {
    if (name == layout->name) return *layout;
    names.emplace_back(layout->name);
  }
  fail(Code::kUsage, "there is no layout '", printable(name), "'", did_you_mean(name, names),
       "; the layouts are ", join(names, ", "));
}

std::string name_today(const NetworkLayout& layout, std::string name) {
  for (const auto& [before, now] : layout.older) {
    const size_t at = name.find(before);
    if (at != std::string::npos) name.replace(at, std::string_view(before).size(), now);
  }
  return name;
}

}  // namespace lf
