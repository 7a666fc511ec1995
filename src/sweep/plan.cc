#include "sweep/plan.h"

#include <google/protobuf/message.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <set>

#include "base/error.h"
#include "config/config.h"
#include "data/recipe/recipe.h"
#include "data/sources/source.h"
#include "sweep/identity.h"

namespace lf {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr double kHeldOutShare = 0.1;
constexpr std::array kPairwise = {"psnr", "ssim", "crps", "lpips"};
constexpr std::array kHighIsGood = {"psnr",           "ssim",     "precision",       "recall",
                                    "density",        "coverage", "inception_score", "code_usage",
                                    "code_perplexity"};

template <typename List>
bool contains(const List& list, const std::string& name) {
  return std::find(list.begin(), list.end(), name) != list.end();
}

// What decides how a run is compared is the sweep's to say.
void refuse_reserved(const std::vector<std::string>& sets) {
  static const std::map<std::string, std::string> kInstead = {
      {"train.images", "give the sweep's `images` (--set sweep.images=N)"},
      {"train.seed", "give the sweep's `seeds` (--set sweep.seeds=N)"},
      {"train.store", "the sweep builds stores itself; give the source"},
      {"train.validation_store", "the sweep builds stores itself; give `held_out`"}};
  for (const std::string& set : sets) {
    const auto found = kInstead.find(set.substr(0, set.find('=')));
    if (found == kInstead.end()) continue;
    fail(Code::kUsage, "an arm cannot set ", found->first, ": ", found->second);
  }
}

// Later steps may choose anew what earlier ones chose.
Config config_of(const std::string& who, const std::string& file,
                 const std::vector<std::vector<std::string>>& steps) {
  try {
    Config config = load_config(file, {});
    for (const std::vector<std::string>& sets : steps) {
      refuse_reserved(sets);
      set_options(config, sets);
    }
    return config;
  } catch (const Error& error) {
    throw Error(error.code(), who + ": " + error.what());
  }
}

std::vector<std::string> of_source(const std::vector<std::string>& sets) {
  std::vector<std::string> out;
  for (const std::string& set : sets) {
    if (set.starts_with("source")) out.push_back(set);
  }
  return out;
}

ArmPlan arm_plan(const Sweep& sweep, ArmAt at, const std::vector<std::string>& sets) {
  ArmPlan arm;
  static_cast<ArmAt&>(arm) = std::move(at);
  std::vector<std::vector<std::string>> steps = arm.choices;
  steps.emplace(steps.begin(), sweep.set().begin(), sweep.set().end());
  steps.push_back(sets);
  arm.config = config_of("arm " + arm.name, arm.file, steps);
  const Arm& told = arm.arm;
  arm.about = told.about();
  arm.equal = told.has_equal() ? told.equal() : sweep.equal();
  arm.seeds = told.seeds() > 0 ? told.seeds() : sweep.seeds();
  arm.extra = told.extra();
  arm.batch = arm.config.train().batch();
  return arm;
}

FirstPlan first_plan(const Sweep& sweep, const First& first, const std::vector<std::string>& sets) {
  FirstPlan plan{first.name(), config_of("first " + first.name(), first.config(),
                                         {of_source({sweep.set().begin(), sweep.set().end()}),
                                          {first.set().begin(), first.set().end()},
                                          of_source(sets)})};
  if (first.images() > 0) plan.config.mutable_train()->set_images(first.images());
  plan.config.mutable_train()->set_seed(first.seed());
  return plan;
}

void add_measures(SweepPlan& plan) {
  int number = -1;
  for (const Measure& measure : plan.sweep.measure()) {
    ++number;
    MeasurePlan one{
        .name = measure.metric(),
        .metric = measure.metric(),
        .unit = measure.metric() == "psnr" ? "dB" : "",
        .higher = contains(kHighIsGood, measure.metric()),
        .by_features = measure.metric() != "loss" && !contains(kPairwise, measure.metric()),
        .extractor = measure.extractor(),
        .reference = measure.reference(),
        .all_frames = measure.frames() == Measure::ALL,
        .curve = measure.curve()};
    if (one.all_frames) one.name += "_all";
    if (one.by_features && one.extractor.empty()) {
      plan.left_out.push_back(
          str(one.metric, " is left out, as it has no extractor; give one by --set sweep.measure.",
              number, ".extractor=FILE"));
      continue;
    }
    for (const MeasurePlan& other : plan.measures) {
      if (other.name == one.name)
        fail(Code::kUsage, "the sweep measures ", one.name, " twice; remove one");
    }
    plan.measures.push_back(std::move(one));
  }
  if (plan.measures.empty())
    fail(Code::kUsage, "nothing is left to measure: ", plan.left_out.front());
}

// Of train and loader: what differs between arms and what no arm was told to differ in is a slip of
// a config file.
void check_same_training(const SweepPlan& plan) {
  std::set<std::string> meant;
  for (const ArmPlan& arm : plan.arms) {
    for (const std::string& set : arm.set) meant.insert(set.substr(0, set.find_first_of("=+")));
  }
  const auto is_meant = [&](const std::string& path) {
    return std::any_of(meant.begin(), meant.end(), [&](const std::string& group) {
      return path == group || path.starts_with(group + ".");
    });
  };
  const std::map<std::string, std::string> first = departures(plan.arms[0].config);
  for (const ArmPlan& arm : plan.arms) {
    const std::map<std::string, std::string> mine = departures(arm.config);
    std::map<std::string, std::string> all = mine;
    all.insert(first.begin(), first.end());
    for (const auto& [path, ignored] : all) {
      const bool training = path.starts_with("train.") || path.starts_with("loader.");
      if (!training || !decides(path) || path == "train.images" || is_meant(path)) continue;
      const auto a = mine.find(path), b = first.find(path);
      const std::string here = a == mine.end() ? "" : a->second,
                        there = b == first.end() ? "" : b->second;
      if (here == there || here == "{}" || there == "{}") continue;
      fail(Code::kUsage, "the configs of arms ", arm.name, " and ", plan.arms[0].name,
           " differ in ", path, "; an arm that is to differ in training says so by `set`");
    }
  }
}

std::vector<std::string> held_out_of(const Sweep& sweep, const SourceConfig& source) {
  if (!sweep.held_out().empty()) return {sweep.held_out().begin(), sweep.held_out().end()};
  if (source.split().part() != SplitConfig::ALL) return {"source.split.part=TEST"};
  if (source.has_cifar()) return {"source.cifar.test=true"};
  if (source.has_generated()) {
    return {str("source.generated.seed=", source.generated().seed() + 1),
            str("source.generated.count=", sweep.samples())};
  }
  if (source.has_folder()) {
    const std::filesystem::path path =
        std::filesystem::path(source.folder().path() + "/").lexically_normal().parent_path();
    const std::filesystem::path test = path.parent_path() / "test";
    if (path.filename() == "train" && std::filesystem::is_directory(test)) {
      return {"source.folder.path=" + test.string()};
    }
  }
  return {"source.split.part=TEST"};
}

bool splits(const Sweep& sweep, const SourceConfig& source) {
  return held_out_of(sweep, source) == std::vector<std::string>{"source.split.part=TEST"};
}

void fill_below(Message& message, const std::map<std::string, std::string>& values) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> present;
  reflection.ListFields(message, &present);
  for (const FieldDescriptor* field : present) {
    const bool text = field->cpp_type() == FieldDescriptor::CPPTYPE_STRING;
    for (int i = 0; field->is_repeated() && i < reflection.FieldSize(message, field); ++i) {
      if (field->message_type() != nullptr) {
        fill_below(*reflection.MutableRepeatedMessage(&message, field, i), values);
      } else if (text) {
        reflection.SetRepeatedString(
            &message, field, i,
            with_placeholders(reflection.GetRepeatedString(message, field, i), values));
      }
    }
    if (field->is_repeated()) continue;
    if (field->message_type() != nullptr) {
      fill_below(*reflection.MutableMessage(&message, field), values);
    } else if (text) {
      reflection.SetString(&message, field,
                           with_placeholders(reflection.GetString(message, field), values));
    }
  }
}

// What would only be found once its store is built.
void check_recipe(const ArmPlan& arm) {
  try {
    const std::optional<ClipShape> shape = shape_without_data(arm.config.source());
    if (shape) const Recipe recipe(arm.config.recipe(), *shape);
  } catch (const Error& error) {
    fail(error.code(), "arm ", arm.name, ": ", error.what());
  }
}

}  // namespace

SweepPlan plan_of(const Sweep& sweep, const std::vector<std::string>& sets) {
  SweepPlan plan;
  plan.sweep = sweep;
  std::map<std::string, std::string> known;
  for (const First* first : firsts_in_order(sweep)) {
    plan.firsts.push_back(first_plan(sweep, *first, sets));
    known[first->name()] = first->name();
  }
  for (ArmAt& arm : arms_of(sweep)) plan.arms.push_back(arm_plan(sweep, std::move(arm), sets));
  for (ArmPlan& arm : plan.arms) {
    if (arm.name == sweep.reference())
      plan.reference = static_cast<size_t>(&arm - plan.arms.data());
    Config filled = arm.config;
    fill_placeholders(filled, known);
    if (arm.config.source().kind_case() == SourceConfig::KIND_NOT_SET) {
      fail(Code::kUsage, "the config of arm ", arm.name,
           " names no source; set one of source.{folder, cifar, ...}, such as --set "
           "source.folder.path=FOLDER");
    }
    check_recipe(arm);
  }
  add_measures(plan);
  for (const MeasurePlan& measure : plan.measures) with_placeholders(measure.extractor, known);
  check_same_training(plan);
  return plan;
}

std::vector<size_t> arms_chosen(const SweepPlan& plan, const std::string& list) {
  std::vector<size_t> out;
  std::vector<std::string> wanted = list.empty() ? std::vector<std::string>{} : split(list, ',');
  std::set<std::string> used;
  for (size_t i = 0; i < plan.arms.size(); ++i) {
    const ArmPlan& arm = plan.arms[i];
    bool chosen = wanted.empty() && !arm.extra;
    for (const std::string& name : wanted) {
      const bool of_file = name == arm.arm.name();
      if (name != arm.name && !of_file) continue;
      used.insert(name);
      chosen = true;
    }
    if (chosen) out.push_back(i);
  }
  for (const std::string& name : wanted) {
    if (used.contains(name)) continue;
    std::vector<std::string> names;
    for (const ArmPlan& arm : plan.arms) names.push_back(arm.name);
    fail(Code::kUsage, "--only names the arm '", printable(name), "', which the sweep has not",
         did_you_mean(name, names), "; its arms are ", join(names, ", "));
  }
  if (out.empty()) fail(Code::kUsage, "all arms of the sweep are extra; name some by --only");
  return out;
}

void set_images(SweepPlan& plan, int64_t images, const std::vector<double>& shares) {
  for (size_t i = 0; i < plan.arms.size(); ++i) {
    ArmPlan& arm = plan.arms[i];
    const double steps = static_cast<double>(images) * shares[i] / static_cast<double>(arm.batch);
    arm.images = shares[i] > 0 ? std::max<int64_t>(1, static_cast<int64_t>(steps)) * arm.batch : 0;
  }
}

Config training_data(const Sweep& sweep, const Config& arm) {
  Config data;
  *data.mutable_source() = arm.source();
  *data.mutable_recipe() = arm.recipe();
  *data.mutable_store() = arm.store();
  if (arm.source().split().part() == SplitConfig::ALL && splits(sweep, arm.source())) {
    SplitConfig& split = *data.mutable_source()->mutable_split();
    split.set_part(SplitConfig::TRAIN);
    split.set_validation(0);
    split.set_test(kHeldOutShare);
  }
  return data;
}

Config held_out_data(const Sweep& sweep, const Config& arm, int64_t items) {
  Config data = training_data(sweep, arm);
  set_options(data, held_out_of(sweep, arm.source()));
  if (data.store().fresh_draws()) data.mutable_store()->set_fresh_draws(false);
  if (items > sweep.samples()) {
    SplitConfig& split = *data.mutable_source()->mutable_split();
    const bool whole = split.part() == SplitConfig::ALL;
    const double now = whole                               ? 1
                       : split.part() == SplitConfig::TEST ? split.test()
                                                           : split.validation();
    char share[32];
    std::snprintf(share, sizeof share, "%.6f",
                  now * static_cast<double>(sweep.samples()) / static_cast<double>(items));
    if (whole) split.set_validation(0);
    if (split.part() != SplitConfig::VALIDATION) split.set_test(std::strtod(share, nullptr));
    if (split.part() == SplitConfig::VALIDATION) split.set_validation(std::strtod(share, nullptr));
    if (whole) split.set_part(SplitConfig::TEST);
  }
  return data;
}

void fill_placeholders(Config& config, const std::map<std::string, std::string>& values) {
  fill_below(config, values);
}

}  // namespace lf
