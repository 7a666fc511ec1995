#include "train/initial_weights.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/upsample_linear1d.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <optional>
#include <utility>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/file.h"
#include "base/glob.h"
#include "base/hash.h"
#include "config/config.h"
#include "run/adapters.h"
#include "run/run.h"

namespace lf {
namespace {

// --- where weights come from ---------------------------------------------------------------------

struct Donor {
  std::unique_ptr<Checkpoint> checkpoint;  // one of the two
  std::unique_ptr<SafetensorsFile> file;
  LoadableTensors tensors;  // adapters merged
  std::string path, kind;
  int64_t images = 0;
};

Donor of_checkpoint(const std::string& path) {
  Donor donor;
  donor.checkpoint =
      std::make_unique<Checkpoint>(Checkpoint::open(real_file_system(), newest_checkpoint(path)));
  const Checkpoint& checkpoint = *donor.checkpoint;
  donor.path = checkpoint.folder();
  donor.kind = checkpoint.has("ema") ? "ema" : "model";
  donor.images = checkpoint.manifest().images();
  donor.tensors = with_merged_adapters(
      tensors_of(checkpoint, donor.kind),
      parse_config(checkpoint.manifest().config(), "the config in " + checkpoint.folder()));
  return donor;
}

Donor of_file(const std::string& path) {
  Donor donor;
  donor.path = path;
  donor.file = std::make_unique<SafetensorsFile>(real_file_system(), path);
  const SafetensorsFile& file = *donor.file;
  for (const TensorEntry& entry : file.tensors()) donor.tensors.layouts.push_back(entry.layout);
  donor.tensors.load = [&file](const std::string& name) {
    return read_tensor(file, *file.find(name));
  };
  const auto of = [&](const char* key) {
    const auto found = file.metadata().find(key);
    return found == file.metadata().end() ? std::string() : found->second;
  };
  donor.kind = of("kind");
  if (donor.kind == kAdaptersKind) {
    fail(Code::kUsage, "train.init is ", printable(path),
         ", which holds adapters without the weights they belong to; merge them first, by "
         "`lastframe export BASE --adapters ",
         printable(path), " --out FILE`");
  }
  parse(of("images"), &donor.images);
  if (!of("config").empty()) {
    donor.tensors = with_merged_adapters(
        donor.tensors, parse_config(of("config"), "the config in " + printable(path)));
  }
  return donor;
}

Donor open_donor(const std::string& path) {
  FileInfo info;
  if (!real_file_system().info(path, &info)) {
    fail(Code::kUsage, "train.init is ", printable(path),
         ", which is not there; give a run's folder, or a file of `lastframe export RUN --out`");
  }
  return info.is_folder ? of_checkpoint(path) : of_file(path);
}

// --- how a tensor of another shape is adapted ----------------------------------------------------

using Shape = std::vector<int64_t>;

// Only the first dimension differs.
bool same_but_rows(const Shape& there, const Shape& here) {
  return there.size() == here.size() && !here.empty() && there[0] > 0 && there[0] != here[0] &&
         std::equal(there.begin() + 1, there.end(), here.begin() + 1);
}
bool more_rows(const Shape& there, const Shape& here) {
  return same_but_rows(there, here) && there[0] < here[0];
}
// Filters within images, here over three frames (with_neighbours() of kernels/convolution.h).
bool over_three_frames(const Shape& there, const Shape& here) {
  return there.size() == 4 && here.size() == 4 && here[0] == there[0] && here[1] == 3 * there[1] &&
         here[2] == there[2] && here[3] == there[3];
}

at::Tensor first_rows(const at::Tensor& there, const at::Tensor& here) {
  return at::cat({there, here.slice(0, there.size(0))});
}
// The last row is that of no class.
at::Tensor class_rows(const at::Tensor& there, const at::Tensor& here) {
  const int64_t classes = there.size(0) - 1;
  return at::cat({there.slice(0, 0, classes), here.slice(0, classes, here.size(0) - 1),
                  there.slice(0, classes)});
}
// The first and the last position stay what they were.
at::Tensor interpolated(const at::Tensor& there, const at::Tensor& here) {
  const at::Tensor rows = there.t().unsqueeze(0);
  const std::array<int64_t, 1> size = {here.size(0)};
  return at::upsample_linear1d(rows, at::IntArrayRef(size), /*align_corners=*/true).squeeze(0).t();
}
at::Tensor in_the_middle(const at::Tensor& there, const at::Tensor& here) {
  at::Tensor out = at::zeros_like(here);
  out.slice(1, there.size(1), 2 * there.size(1)).copy_(there);
  return out;
}

struct Rule {
  const char* pattern;
  bool volume;  // only where convolutions are over space and time
  bool (*fits)(const Shape& there, const Shape& here);
  at::Tensor (*adapt)(const at::Tensor& there, const at::Tensor& here);
  const char* how;
};
constexpr std::array<Rule, 7> kRules = {{
    {"classes.weight", false, more_rows, class_rows, "further classes are new"},
    {"classes", false, more_rows, class_rows, "further classes are new"},
    {"classifier.head.*", false, more_rows, first_rows, "further classes are new"},
    {"time", false, same_but_rows, interpolated, "interpolated"},
    {"row", false, same_but_rows, interpolated, "interpolated"},
    {"column", false, same_but_rows, interpolated, "interpolated"},
    {"*", true, over_three_frames, in_the_middle, "of the middle frame; its neighbours' are 0"},
}};

// What makes a new layer over frames the identity at first; elsewhere such tensors are 0 anyway.
constexpr std::array<const char*, 1> kZeroIfNew = {"*temporal.out.weight"};

const Rule* rule_for(const TensorLayout& there, const TensorLayout& here, bool volume) {
  for (const Rule& rule : kRules) {
    if (matches_glob(rule.pattern, here.name) && (!rule.volume || volume) &&
        rule.fits(there.shape, here.shape)) {
      return &rule;
    }
  }
  return nullptr;
}

// --- what becomes of each tensor -----------------------------------------------------------------

struct Intake {
  enum Fate { kTaken, kAdapted, kNew, kLeftOut };
  Fate fate;
  TensorLayout there, here;  // here of a new one, there of one that is left out
  const Rule* rule = nullptr;
  at::Tensor into = {};
  bool constant = false;  // made by a formula
};
constexpr std::array<const char*, 4> kFates = {"taken", "adapted", "new", "left out"};

struct IntakePlan {
  std::vector<Intake> intakes;                // by name
  std::vector<TensorLayout> misfits, wanted;  // there and here
  int64_t count(Intake::Fate fate) const {
    return std::count_if(intakes.begin(), intakes.end(),
                         [&](const Intake& intake) { return intake.fate == fate; });
  }
};

// Nothing is read yet.
IntakePlan plan_intake(const std::vector<TensorLayout>& source, const ParameterTable& table,
                       bool volume) {
  std::map<std::string, TensorLayout> left;
  for (const TensorLayout& layout : source) left[layout.name] = layout;
  std::vector<NamedTensor> all = table.weights();
  all.insert(all.end(), table.buffers().begin(), table.buffers().end());
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  IntakePlan plan;
  for (const NamedTensor& named : all) {
    const TensorLayout here = layout_of(named);
    const auto& constants = table.constants();
    const bool constant =
        std::find(constants.begin(), constants.end(), named.name) != constants.end();
    const auto found = left.find(named.name);
    if (found == left.end()) {
      plan.intakes.push_back({Intake::kNew, {}, here, nullptr, named.tensor, constant});
      continue;
    }
    const TensorLayout there = found->second;
    left.erase(found);
    const bool convertible =
        there.dtype == here.dtype || (is_float(there.dtype) && is_float(here.dtype));
    if (convertible && there.shape == here.shape) {
      plan.intakes.push_back({Intake::kTaken, there, here, nullptr, named.tensor});
    } else if (const Rule* rule = convertible ? rule_for(there, here, volume) : nullptr) {
      plan.intakes.push_back({Intake::kAdapted, there, here, rule, named.tensor});
    } else if (constant) {
      plan.intakes.push_back({Intake::kNew, there, here, nullptr, named.tensor});
    } else {
      plan.misfits.push_back(there);
      plan.wanted.push_back(here);
    }
  }
  for (const auto& [name, layout] : left) {
    plan.intakes.push_back({Intake::kLeftOut, layout, {}, nullptr, {}});
  }
  return plan;
}

// Adapters always begin anew, and constants need not be there.
void require_strict(const IntakePlan& plan, const std::string& path) {
  std::vector<TensorLayout> asked = plan.wanted, found = plan.misfits;
  for (const Intake& intake : plan.intakes) {
    if (intake.fate == Intake::kTaken || is_adapter(intake.here.name)) continue;
    if (intake.constant && intake.there.name.empty()) continue;
    if (!intake.here.name.empty()) asked.push_back(intake.here);
    if (!intake.there.name.empty()) found.push_back(intake.there);
  }
  const std::string facts = differences(asked, found);
  if (facts.empty()) return;
  const bool fits = plan.count(Intake::kTaken) > 0;
  fail(Code::kUsage, "train.init is ", printable(path), ", which does not fit the model: ", facts,
       fits ? "; train.init_strict=false takes what fits and begins the rest anew, or use the "
              "config it was made with"
            : "; none of its tensors fits, use the config it was made with");
}

void require_loose(const IntakePlan& plan, const std::string& path) {
  if (!plan.misfits.empty()) {
    fail(Code::kUsage, "train.init is ", printable(path), ", of which ", plan.misfits.size(),
         " tensors have the model's names and other shapes or types: ",
         differences(plan.wanted, plan.misfits),
         "; choose the widths, layers and codes of the config it was made with");
  }
  if (plan.count(Intake::kTaken) + plan.count(Intake::kAdapted) > 0) return;
  fail(Code::kUsage, "train.init is ", printable(path), ", and none of its ", plan.intakes.size(),
       " tensors is one of the model's; give a run or an export of a model of the same kind");
}

uint64_t add_to_hash(const TensorLayout& layout, const at::Tensor& value, uint64_t hash) {
  const at::Tensor bytes = value.contiguous();
  return fnv1a(str(layout.name, " ", describe(layout), " ",
                   crc32c(bytes.const_data_ptr(), bytes.nbytes()), "\n"),
               hash);
}

void fill(const Intake& intake, const at::Tensor& value) {
  const at::NoGradGuard no_grad;
  if (intake.fate == Intake::kNew) {
    for (const char* pattern : kZeroIfNew) {
      if (matches_glob(pattern, intake.here.name)) intake.into.zero_();
    }
    return;
  }
  at::Tensor fitting = value.to(at::TensorOptions(intake.into.scalar_type()));
  if (intake.rule != nullptr) fitting = intake.rule->adapt(fitting, intake.into.to(at::kCPU));
  intake.into.copy_(fitting);
}

std::string line_of(const Intake& intake) {
  const bool left_out = intake.fate == Intake::kLeftOut;
  std::string line = str(kFates[intake.fate], "  ", (left_out ? intake.there : intake.here).name,
                         "  ", describe(left_out ? intake.there : intake.here));
  if (intake.fate == Intake::kLeftOut || intake.there.name.empty()) return line;
  if (intake.there.shape != intake.here.shape || intake.there.dtype != intake.here.dtype) {
    line += " from " + describe(intake.there);
  }
  return intake.rule == nullptr ? line : line + ", " + intake.rule->how;
}

// "new: 'a', 'b', 'c' and 12 more" for each fate but the first.
std::vector<std::string> summary_of(const IntakePlan& plan, const InitRecord& record) {
  constexpr size_t kShown = 4;
  std::string counts;
  for (size_t fate = 0; fate < kFates.size(); ++fate) {
    counts +=
        str(fate == 0 ? "" : ", ", plan.count(static_cast<Intake::Fate>(fate)), " ", kFates[fate]);
  }
  std::string from = printable(record.path());
  if (!record.kind().empty()) {
    from += str(" (", printable(record.kind()), ", image ",
                human_count(static_cast<uint64_t>(record.images())), ")");
  }
  std::vector<std::string> lines = {str("initial weights from ", from, ": tensors ", counts)};
  for (size_t fate = 1; fate < kFates.size(); ++fate) {
    std::vector<std::string> names;
    size_t all = 0;
    for (const Intake& intake : plan.intakes) {
      if (intake.fate != static_cast<Intake::Fate>(fate)) continue;
      if (++all > kShown) continue;
      names.push_back(printable(intake.here.name.empty() ? intake.there.name : intake.here.name));
    }
    if (all == 0) continue;
    lines.push_back(str(kFates[fate], ": ", join(names, ", "),
                        all > kShown ? str(" and ", all - kShown, " more") : ""));
  }
  return lines;
}

}  // namespace

InitialWeights take_initial_weights(const Config& config, const Model& model) {
  const Donor donor = open_donor(config.train().init());
  const bool volume = config.model().unet().temporal() == UnetConfig::VOLUME;
  const IntakePlan plan = plan_intake(donor.tensors.layouts, model.parameters(), volume);
  if (config.train().init_strict()) {
    require_strict(plan, donor.path);
  } else {
    require_loose(plan, donor.path);
  }
  InitialWeights out;
  uint64_t hash = kFnvBasis;
  for (const Intake& intake : plan.intakes) {
    out.list += line_of(intake) + "\n";
    if (intake.fate == Intake::kLeftOut) continue;
    at::Tensor value;
    if (intake.fate != Intake::kNew) {
      value = donor.tensors.load(intake.here.name);
      hash = add_to_hash(intake.there, value, hash);
    }
    fill(intake, value);
  }
  InitRecord& record = out.record;
  record.set_path(donor.path);
  record.set_kind(donor.kind);
  record.set_images(donor.images);
  record.set_hash(hash);
  record.set_taken(plan.count(Intake::kTaken));
  record.set_adapted(plan.count(Intake::kAdapted));
  record.set_made_new(plan.count(Intake::kNew));
  record.set_left_out(plan.count(Intake::kLeftOut));
  out.summary = summary_of(plan, record);
  return out;
}

}  // namespace lf
