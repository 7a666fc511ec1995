#include "train/tuning.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/glob.h"
#include "train/optimizer.h"

namespace lf {
namespace {

std::vector<std::string> names_of(const std::vector<NamedTensor>& tensors) {
  std::vector<std::string> names;
  for (const NamedTensor& named : tensors) names.push_back(named.name);
  return names;
}

// What a pattern may have meant: names, what they begin with ("down.0") and their words.
std::vector<std::string> words_of(const std::vector<std::string>& names) {
  std::set<std::string> words(names.begin(), names.end());
  for (const std::string& name : names) {
    for (size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
      words.insert(name.substr(0, dot));
    }
    for (const std::string& word : split(name, '.')) words.insert(word);
  }
  return {words.begin(), words.end()};
}

void require_match(const char* option, const std::string& pattern,
                   const std::vector<std::string>& names, const char* of_what) {
  const auto matches = [&](const std::string& name) { return matches_glob(pattern, name); };
  if (std::any_of(names.begin(), names.end(), matches)) return;
  std::string plain = pattern;
  std::erase_if(plain, [](char c) { return c == '*' || c == '?'; });
  while (plain.ends_with('.')) plain.pop_back();
  plain.erase(0, plain.find_first_not_of('.'));
  const std::string near = nearest(plain, words_of(names));
  const auto like = std::find_if(names.begin(), names.end(), [&](const std::string& name) {
    return !near.empty() && name.find(near) != std::string::npos;
  });
  const std::string& example = like != names.end() ? *like : names.front();
  fail(Code::kUsage, option, " has '", printable(pattern), "', which matches no ", of_what,
       near.empty() ? str("; names are such as '", example, "'")
                    : str(", did you mean '", near, "', as in '", example, "'?"),
       "; `lastframe inspect CHECKPOINT` lists the names");
}

}  // namespace

void check_tuning(const TrainConfig& config, const Model& model) {
  const ParameterTable& table = model.parameters();
  const std::vector<std::string> all = names_of(table.weights());
  for (const std::string& pattern : config.freeze()) {
    require_match("train.freeze", pattern, all, "weight");
  }
  if (table.tuning().rank > 0) {
    for (const std::string& pattern : table.tuning().full) {
      require_match("train.lora.full", pattern, all, "weight");
    }
    if (std::none_of(all.begin(), all.end(),
                     [](const std::string& name) { return name.ends_with(kAdapterA); })) {
      fail(
          Code::kUsage, "train.lora.rank is ", table.tuning().rank,
          ", and the model has no trained linear map or attention that adapters of this rank would "
          "be smaller than; train it without train.lora, or with a smaller rank");
    }
  }
  for (const Phase& phase : model.phases()) {
    if (!trained_part(phase).weights.empty()) continue;
    fail(Code::kUsage, table.tuning().rank > 0 ? "train.lora" : "train.freeze", " freezes all ",
         phase.weights.size(), " weights of the ", phase.name,
         ", which leaves it nothing to train; ",
         table.tuning().rank > 0
             ? "name some in train.lora.full, or leave that part of the loss out"
             : "freeze fewer");
  }
  const std::vector<std::string> trained = names_of(table.trained());
  for (const std::string& pattern : factor_patterns(config.optimizer())) {
    require_match("train.optimizer.factor", pattern, trained, "trained weight");
  }
}

Phase trained_part(const Phase& phase) {
  Phase part{phase.name, {}};
  for (const NamedTensor& weight : phase.weights) {
    if (weight.tensor.requires_grad()) part.weights.push_back(weight);
  }
  return part;
}

}  // namespace lf
