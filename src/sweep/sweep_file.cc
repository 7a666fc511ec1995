#include "sweep/sweep_file.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "config/config.h"
#include "config/reflect.h"

namespace lf {
namespace {

constexpr uint64_t kLargestSweep = 1 << 20;
constexpr size_t kMostArms = 10000;

std::string beside(const std::filesystem::path& folder, const std::string& path) {
  if (path.empty() || std::filesystem::path(path).is_absolute()) return path;
  return (folder / path).lexically_normal().string();
}

void place_paths(Sweep& sweep, const std::filesystem::path& folder) {
  sweep.set_config(beside(folder, sweep.config()));
  sweep.set_rows(beside(folder, sweep.rows()));
  for (Arm& arm : *sweep.mutable_arm()) arm.set_config(beside(folder, arm.config()));
  for (First& first : *sweep.mutable_first()) first.set_config(beside(folder, first.config()));
}

bool is_name(const std::string& text) {
  return !text.empty() && text.size() <= 60 && std::isalnum(static_cast<unsigned char>(text[0])) &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) {
           return std::isalnum(c) ||
                  std::string("._+-").find(static_cast<char>(c)) != std::string::npos;
         });
}

// The names of a list, each of which there must be once.
template <typename List>
std::vector<std::string> names_of(const List& list, const char* what) {
  std::vector<std::string> names;
  for (const auto& one : list) {
    if (!is_name(one.name())) {
      fail(Code::kUsage, "an ", what, " is called '", printable(one.name()),
           "', expected a name of letters, digits and ._+- that begins with one of the first two");
    }
    if (std::find(names.begin(), names.end(), one.name()) != names.end()) {
      fail(Code::kUsage, "two ", what, "s are called ", one.name(), "; rename one");
    }
    names.push_back(one.name());
  }
  return names;
}

void check_arm_name(const std::string& name, const std::vector<std::string>& names,
                    const std::string& who) {
  if (std::find(names.begin(), names.end(), name) != names.end()) return;
  fail(Code::kUsage, who, " names the arm '", printable(name), "', which there is not",
       did_you_mean(name, names), "; the arms are ", join(names, ", "));
}

const Arm* arm_named(const Sweep& sweep, const std::string& name) {
  for (const Arm& arm : sweep.arm()) {
    if (arm.name() == name) return &arm;
  }
  return nullptr;
}

// The arm after its bases.
std::vector<const Arm*> chain_of(const Sweep& sweep, const Arm& arm) {
  std::vector<const Arm*> chain = {&arm};
  while (!chain.front()->base().empty()) {
    const Arm* base = arm_named(sweep, chain.front()->base());
    LF_CHECK(base != nullptr);
    if (std::find(chain.begin(), chain.end(), base) != chain.end()) {
      fail(Code::kUsage, "arm ", arm.name(), " begins with itself, by way of ", base->name(),
           "; remove one `base`");
    }
    chain.insert(chain.begin(), base);
  }
  return chain;
}

void check_axes(const Sweep& sweep) {
  std::set<std::string> seen;
  for (const SweepAxis& axis : sweep.axis()) {
    if (axis.option().empty() || axis.value().empty()) {
      fail(Code::kUsage, "an axis has ", axis.option().empty() ? "no option" : "no values",
           "; expected axis { option: \"recipe.frames\" value: [\"1\", \"8\"] }");
    }
    if (!seen.insert(axis.option()).second) {
      fail(Code::kUsage, "two axes are of ", printable(axis.option()), "; join them");
    }
    for (const Along& along : axis.along()) {
      if (along.value_size() == axis.value_size()) continue;
      fail(Code::kUsage, "axis ", printable(axis.option()), " has ", axis.value_size(),
           " values, and ", printable(along.option()), " along it ", along.value_size(),
           "; expected one for each");
    }
  }
}

void check_measures(const Sweep& sweep) {
  if (sweep.measure().empty()) {
    fail(Code::kUsage, "the sweep measures nothing; give measure { metric: \"psnr\" }");
  }
  std::string of_curve;
  for (const Measure& measure : sweep.measure()) {
    if (measure.metric().empty())
      fail(Code::kUsage, "a measure has no metric; see lastframe list metrics");
    if (!measure.curve() || measure.extractor().empty()) continue;
    if (!of_curve.empty() && of_curve != measure.extractor()) {
      fail(Code::kUsage, "two measures with a curve have the extractors ", printable(of_curve),
           " and ", printable(measure.extractor()), ", expected one; leave `curve` out of one");
    }
    of_curve = measure.extractor();
  }
}

void check(const Sweep& sweep) {
  check_ranges(sweep);
  if (sweep.arm().empty() && sweep.axis().empty()) {
    fail(Code::kUsage, "the sweep has neither arms nor axes; give arm { name: \"a\" set: ... }");
  }
  names_of(sweep.first(), "first");
  names_of(sweep.verdict(), "verdict");
  const std::vector<std::string> arms = names_of(sweep.arm(), "arm");
  for (const Arm& arm : sweep.arm()) {
    if (!arm.base().empty()) check_arm_name(arm.base(), arms, str("`base` of arm ", arm.name()));
  }
  for (const Anchor& anchor : sweep.anchor()) {
    check_arm_name(anchor.arm(), arms, str("anchor '", printable(anchor.name()), "'"));
  }
  check_axes(sweep);
  check_measures(sweep);
  std::vector<std::string> made;
  for (const ArmAt& arm : arms_of(sweep)) made.push_back(arm.name);
  for (const SweepVerdict& verdict : sweep.verdict()) {
    for (const Pair& pair : verdict.compare()) {
      check_arm_name(pair.better(), made, str("verdict ", verdict.name()));
      check_arm_name(pair.than(), made, str("verdict ", verdict.name()));
    }
  }
  if (sweep.has_reference()) check_arm_name(sweep.reference(), made, "`reference`");
  firsts_in_order(sweep);
}

// "frames=4" of recipe.frames; values that no file name takes are cut down to what it takes.
std::string label_of(const std::string& option, std::string value) {
  for (char& c : value) {
    const bool plain =
        std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-' || c == '+';
    if (!plain) c = '_';
  }
  return option.substr(option.rfind('.') + 1) + "=" + value.substr(0, 40);
}

std::vector<ArmAt> multiplied(const std::vector<ArmAt>& arms, const SweepAxis& axis) {
  std::vector<ArmAt> out;
  for (const ArmAt& arm : arms) {
    for (int i = 0; i < axis.value_size(); ++i) {
      ArmAt one = arm;
      one.name += (one.name.empty() ? "" : "-") + label_of(axis.option(), axis.value(i));
      one.at[axis.option()] = axis.value(i);
      one.choices.push_back({axis.option() + "=" + axis.value(i)});
      for (const Along& along : axis.along()) {
        if (along.value(i).empty()) continue;
        one.choices.back().push_back(along.option() + "=" + along.value(i));
      }
      out.push_back(std::move(one));
    }
  }
  if (out.size() > kMostArms) {
    fail(Code::kUsage, "the axes make more than ", kMostArms, " arms; leave values out");
  }
  return out;
}

// Depth first; `open` are those that wait for this one.
void add_after_needs(const Sweep& sweep, const First& first, std::vector<std::string>& open,
                     std::vector<const First*>& out) {
  if (std::find(out.begin(), out.end(), &first) != out.end()) return;
  const bool again = std::find(open.begin(), open.end(), first.name()) != open.end();
  open.push_back(first.name());
  if (again) {
    fail(Code::kUsage, "what is trained first needs itself: ", join(open, " -> "),
         "; remove one of these placeholders");
  }
  std::string text;
  for (const std::string& set : first.set()) text += set + "\n";
  if (!first.config().empty()) text += read_file(real_file_system(), first.config(), kLargestSweep);
  for (const std::string& name : placeholders_in(text)) {
    for (const First& other : sweep.first()) {
      if (other.name() == name) add_after_needs(sweep, other, open, out);
    }
  }
  open.pop_back();
  out.push_back(&first);
}

}  // namespace

Sweep load_sweep(const std::string& path, const std::vector<std::string>& sets) {
  const std::string name = "sweep " + printable(path);
  const std::string text = read_file(real_file_system(), path, kLargestSweep);
  if (!valid_utf8(text)) {
    fail(Code::kUsage, name,
         " is not text; expected protobuf's text format, as in configs/experiments");
  }
  Sweep sweep;
  parse_message(text, name, sweep);
  place_paths(sweep, std::filesystem::path(path).parent_path());
  for (const std::string& set : sets) set_option(sweep, set);
  if (!sweep.has_name()) sweep.set_name(std::filesystem::path(path).stem().string());
  try {
    check(sweep);
  } catch (const Error& error) {
    throw Error(error.code(), name + ": " + error.what());
  }
  return sweep;
}

std::vector<ArmAt> arms_of(const Sweep& sweep) {
  std::vector<ArmAt> arms;
  for (const Arm& arm : sweep.arm()) {
    ArmAt one{.arm = arm, .name = arm.name(), .file = sweep.config()};
    for (const Arm* link : chain_of(sweep, arm)) {
      one.choices.emplace_back(link->set().begin(), link->set().end());
      if (!link->config().empty()) one.file = link->config();
    }
    arms.push_back(std::move(one));
  }
  if (arms.empty()) arms.push_back({.file = sweep.config()});
  for (const SweepAxis& axis : sweep.axis()) arms = multiplied(arms, axis);
  for (ArmAt& arm : arms) {
    for (const std::vector<std::string>& step : arm.choices) {
      arm.set.insert(arm.set.end(), step.begin(), step.end());
    }
  }
  return arms;
}

std::vector<std::string> placeholders_in(const std::string& text) {
  std::vector<std::string> names;
  for (size_t at = text.find("${"); at != std::string::npos; at = text.find("${", at + 2)) {
    const size_t end = text.find('}', at);
    if (end != std::string::npos) names.push_back(text.substr(at + 2, end - at - 2));
  }
  return names;
}

std::string with_placeholders(std::string text, const std::map<std::string, std::string>& values) {
  for (const std::string& name : placeholders_in(text)) {
    const auto value = values.find(name);
    if (value == values.end()) {
      std::vector<std::string> known;
      for (const auto& [one, ignored] : values) known.push_back(one);
      fail(Code::kUsage, "${", printable(name), "} stands for nothing that is trained first",
           did_you_mean(name, known),
           known.empty() ? "; the sweep has no `first`" : "; those are " + join(known, ", "));
    }
    const std::string whole = "${" + name + "}";
    text.replace(text.find(whole), whole.size(), value->second);
  }
  return text;
}

std::vector<const First*> firsts_in_order(const Sweep& sweep) {
  std::vector<const First*> out;
  std::vector<std::string> open;
  for (const First& first : sweep.first()) add_after_needs(sweep, first, open, out);
  return out;
}

}  // namespace lf
