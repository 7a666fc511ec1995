#include "checkpoint/retention.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "checkpoint/run_claim.h"

namespace lf {
namespace {

constexpr std::string_view kReplaced = ".replaced";

struct Named {
  std::string name;
  int64_t images;
  bool replaced;  // moved aside for a newer one of the same position
};

// Newest first; of one position the one that was put in place last comes first.
std::vector<Named> names_of(FileSystem& files, const std::string& folder) {
  std::vector<Named> found;
  FileInfo info;
  if (!files.info(folder, &info) || !info.is_folder) return found;
  for (const std::string& name : files.list(folder)) {
    const bool replaced = name.ends_with(kReplaced);
    const std::string base = replaced ? name.substr(0, name.size() - kReplaced.size()) : name;
    int64_t images = 0;
    if (parse_checkpoint_name(base, &images)) found.push_back({name, images, replaced});
  }
  std::sort(found.begin(), found.end(), [](const Named& a, const Named& b) {
    return a.images != b.images ? a.images > b.images : a.replaced < b.replaced;
  });
  return found;
}

Candidate judge(FileSystem& files, const std::string& folder, const Named& named, Depth depth,
                const std::vector<LifeRecord>& lives) {
  Candidate candidate;
  candidate.folder = folder + "/" + named.name;
  candidate.images = named.images;
  bool newer_format = false;
  try {
    candidate.manifest = verify_checkpoint(files, candidate.folder, depth, &newer_format);
    if (candidate.manifest.images() != named.images) {
      fail(Code::kCheckpoint, printable(candidate.folder), " holds the checkpoint at ",
           candidate.manifest.images(), " images; was it renamed? give it its name back");
    }
    candidate.standing = Standing::kWhole;
  } catch (const Error& error) {
    candidate.standing = newer_format ? Standing::kNewerFormat : Standing::kDamaged;
    candidate.reason = error.what();
    candidate.manifest.Clear();
    return candidate;
  }
  if (!belongs_to_history(lives, candidate.manifest.life(), named.images)) {
    candidate.standing = Standing::kStray;
    candidate.reason =
        str(printable(candidate.folder), " was written by life ", candidate.manifest.life(),
            ", but a later life of the run began from before it; it is of another "
            "history and is not used");
  }
  return candidate;
}

double metric_of(const CheckpointConfig& config, const CheckpointManifest& manifest,
                 const std::vector<NamedNumber>& later) {
  double value = number_of(manifest, config.best_metric(), std::nan(""));
  for (const NamedNumber& number : later) {
    if (number.name() == config.best_metric()) value = number.value();
  }
  return config.best_is_highest() ? -value : value;
}

// Hidden first, so that a removal cut short leaves no partial checkpoint in sight.
void remove_checkpoint(FileSystem& files, const std::string& path, int64_t life) {
  const std::string hidden = str(parent_folder(path), "/.tmp-removed-life-", life);
  files.remove_tree(hidden);
  files.rename(path, hidden);
  files.remove_tree(hidden);
}

}  // namespace

std::vector<Candidate> list_checkpoints(FileSystem& files, const std::string& run_folder,
                                        Depth depth) {
  const std::string folder = checkpoints_folder(run_folder);
  const std::vector<LifeRecord> lives = read_lives(files, run_folder);
  std::vector<Candidate> candidates;
  for (const Named& named : names_of(files, folder)) {
    candidates.push_back(judge(files, folder, named, depth, lives));
  }
  return candidates;
}

std::optional<Candidate> choose_checkpoint(FileSystem& files, const std::string& run_folder) {
  const std::string folder = checkpoints_folder(run_folder);
  const std::vector<LifeRecord> lives = read_lives(files, run_folder);
  std::vector<std::string> reasons;
  for (const Named& named : names_of(files, folder)) {
    Candidate candidate = judge(files, folder, named, Depth::kFull, lives);
    if (candidate.valid()) return candidate;
    if (candidate.standing == Standing::kNewerFormat) fail(Code::kCheckpoint, candidate.reason);
    LF_WARN("passing over a checkpoint: ", candidate.reason);
    if (candidate.standing != Standing::kStray) reasons.push_back(candidate.reason);
  }
  if (reasons.empty()) return std::nullopt;
  fail(Code::kCheckpoint, "none of the ", reasons.size(), " checkpoints in ", printable(folder),
       " can be used (", join(reasons, " | "),
       "); bring one back from a copy, or move the folder away to start from scratch");
}

int remove_leftovers(FileSystem& files, const std::string& run_folder, int64_t life) {
  const std::string folder = checkpoints_folder(run_folder);
  int removed = 0;
  const auto remove = [&](const std::string& path, bool is_folder) {
    LF_INFO("removing ", printable(path), ", left over from an earlier life of the run");
    is_folder ? files.remove_tree(path) : files.remove(path);
    ++removed;
  };
  if (files.exists(folder)) {
    for (const std::string& name : files.list(folder)) {
      if (is_leftover_of(name, life)) remove(folder + "/" + name, true);
      if (!name.ends_with(kReplaced)) continue;
      const std::string successor = name.substr(0, name.size() - kReplaced.size());
      int64_t images = 0;
      if (!parse_checkpoint_name(successor, &images)) continue;
      const Candidate now = judge(files, folder, {successor, images, false}, Depth::kFull, {});
      if (now.valid()) remove(folder + "/" + name, true);
    }
  }
  for (const std::string& place : {run_folder, run_folder + "/lives"}) {
    if (!files.exists(place)) continue;
    for (const std::string& name : files.list(place)) {
      int64_t number = 0;
      const size_t mark = name.find(".tmp-");
      if (mark == std::string::npos || !parse(std::string_view(name).substr(mark + 5), &number)) {
        continue;
      }
      const std::string base = name.substr(0, mark);
      if (base == "latest" || parse(std::string_view(base), &number)) {
        remove(place + "/" + name, false);
      }
    }
  }
  return removed;
}

double seconds_between_saves(const CheckpointConfig& config, double cost) {
  constexpr double kShortest = 60, kSavesForTheirCost = 100;
  return std::min(60 * config.every_minutes(), std::max(kShortest, kSavesForTheirCost * cost));
}

// While saves are cheap they come more often than every_minutes, and the newest few all lie within
// minutes. So of each of the newest keep_last - 1 periods of every_minutes the first one stays too:
// it is the first from the moment it is saved, so none is removed in its place.
static void keep_first_of_periods(const CheckpointConfig& config,
                                  const std::vector<Candidate>& candidates,
                                  const std::vector<size_t>& whole, std::set<size_t>& keep) {
  if (config.every_minutes() <= 0) return;
  std::map<int64_t, size_t, std::greater<>> first;  // of each period, the newest period first
  for (const size_t i : whole) {
    const double saved = candidates[i].manifest.saved_unix_seconds();
    if (saved > 0) first[static_cast<int64_t>(saved / (60 * config.every_minutes()))] = i;
  }
  int32_t periods = 0;
  for (const auto& [period, i] : first) {
    if (++periods < config.keep_last()) keep.insert(i);
  }
}

std::vector<std::string> prunable(const CheckpointConfig& config,
                                  const std::vector<Candidate>& candidates,
                                  const std::vector<std::vector<NamedNumber>>& metrics) {
  std::vector<size_t> whole;  // newest first, as the candidates are
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].valid()) whole.push_back(i);
  }
  if (whole.empty()) return {};
  std::set<size_t> keep(whole.begin(),
                        whole.begin() + std::min<ptrdiff_t>(config.keep_last(),
                                                            static_cast<ptrdiff_t>(whole.size())));
  keep_first_of_periods(config, candidates, whole, keep);
  if (config.keep_every_images() > 0) {
    int64_t last_multiple = 0;
    for (auto i = whole.rbegin(); i != whole.rend(); ++i) {
      const int64_t multiple = candidates[*i].images / config.keep_every_images();
      if (multiple > last_multiple) keep.insert(*i);
      last_multiple = std::max(last_multiple, multiple);
    }
  }
  std::vector<std::pair<double, size_t>> ranked;
  for (const size_t i : whole) {
    const double value = metric_of(config, candidates[i].manifest, metrics[i]);
    if (!std::isnan(value)) ranked.emplace_back(value, i);
    if (awaits_numbers(candidates[i].manifest, metrics[i])) keep.insert(i);
  }
  std::sort(ranked.begin(), ranked.end());
  for (size_t place = 0; place < ranked.size(); ++place) {
    if (place < static_cast<size_t>(config.keep_best())) keep.insert(ranked[place].second);
  }
  std::vector<std::string> folders;
  for (size_t i = whole.front() + 1; i < candidates.size(); ++i) {
    if (!keep.contains(i) && candidates[i].standing != Standing::kNewerFormat) {
      folders.push_back(candidates[i].folder);
    }
  }
  return folders;
}

std::vector<std::string> prune_checkpoints(FileSystem& files, const std::string& run_folder,
                                           const CheckpointConfig& config, const Life& life) {
  life.check(files);
  const std::vector<Candidate> candidates = list_checkpoints(files, run_folder, Depth::kQuick);
  if (candidates.empty()) return {};
  const auto newest = std::find_if(candidates.begin(), candidates.end(), [](const Candidate& c) {
    return c.standing == Standing::kWhole || c.standing == Standing::kDamaged;
  });
  if (newest == candidates.end()) return {};
  if (!newest->valid()) fail(Code::kCheckpoint, newest->reason);
  if (config.read_back()) verify_checkpoint(files, newest->folder, Depth::kFull);
  std::vector<std::vector<NamedNumber>> metrics;
  for (const Candidate& candidate : candidates) {
    metrics.push_back(read_metrics(files, candidate.folder));
  }
  std::vector<std::string> removed = prunable(config, candidates, metrics);
  for (const std::string& path : removed) remove_checkpoint(files, path, life.number());
  return removed;
}

}  // namespace lf
