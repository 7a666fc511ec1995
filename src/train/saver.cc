#include "train/saver.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "checkpoint/retention.h"
#include "run/older_programs.h"

namespace lf {
namespace {

constexpr size_t kMostDifferences = 4;  // that a refusal names
constexpr int kMostFailures = 3;        // saves in a row that may fail before the run gives up

// That of the run's checkpoint, as far as a config can differ from it.
Config config_before(const Config& config, const RunIdentity& run,
                     const CheckpointManifest& manifest) {
  Config before = parse_config(manifest.config(), "the config in a checkpoint of " + run.folder);
  complete_config(before, manifest);
  make_paths_absolute(before);
  // Of these the store decides, in whatever words; older programs recorded what was asked for.
  *before.mutable_source() = config.source();
  *before.mutable_recipe() = config.recipe();
  *before.mutable_store() = config.store();
  return before;
}

}  // namespace

Saver::Saver(World& world, const Config& config, RunIdentity run, Staging staging)
    : world_(world),
      config_(config),
      run_(std::move(run)),
      writer_(real_file_system(), config.checkpoint().asynchronous(), std::move(staging)) {
  if (!world.is_root()) return;
  FileSystem& files = real_file_system();
  const JobIdentity job = job_from_environment();
  lock_.emplace(files, run_.folder, job);
  life_.emplace(Life::claim(files, run_.folder, job));
  const int removed = remove_leftovers(files, run_.folder, life_->number());
  if (removed > 0) LF_INFO("removed ", removed, " leftovers of unfinished saves");
}

Saver::~Saver() = default;

void require_same_run(const Config& config, const RunIdentity& run,
                      const CheckpointManifest& manifest) {
  std::vector<std::string> fixed;
  if (!run.store_id.empty() && manifest.store_id() != run.store_id) {
    fixed.push_back(
        str("it was trained on store ", manifest.store_id(), ", this is store ", run.store_id));
  }
  for (std::string& line : config_differences(config_before(config, run, manifest), config, true)) {
    fixed.push_back(std::move(line));
  }
  if (fixed.empty()) return;
  const size_t more = fixed.size() - std::min(fixed.size(), kMostDifferences);
  fixed.resize(fixed.size() - more);
  fail(Code::kUsage, "the run in ", run.folder, ", at image ",
       human_count(static_cast<uint64_t>(manifest.images())),
       ", is not of this config; they differ in what a resumed run may not change: ",
       printable(join(fixed, "; "), 1000), more > 0 ? str("; and ", more, " more") : "",
       ". Give another --run folder to begin a run of this config, or resume that one by "
       "`lastframe train --run ",
       run.folder, "`");
}

void Saver::check_config(const CheckpointManifest& manifest) const {
  require_same_run(config_, run_, manifest);
  const Config before = config_before(config_, run_, manifest);
  for (const std::string& line : config_differences(before, config_, false)) {
    LF_INFO("changed since the checkpoint: ", line);
  }
  if (before.train().batch() != config_.train().batch()) {
    LF_INFO("from image ", manifest.images(), " on a step takes ", config_.train().batch(),
            " clips instead of ", before.train().batch(),
            "; the clips come in the same order, and schedules and averages, which count clips, "
            "continue; the learning rate and the optimiser's betas are for one step, and are not "
            "adapted");
  }
}

int64_t Saver::restore(const std::vector<TensorGroup>& state) {
  FileSystem& files = real_file_system();
  std::string folder;
  if (world_.is_root()) {
    if (const auto candidate = choose_checkpoint(files, run_.folder)) folder = candidate->folder;
  }
  folder = world_.broadcast(folder);
  int64_t images = 0;
  if (!folder.empty()) {
    newest_ = folder;
    const Checkpoint checkpoint = Checkpoint::open(files, folder);
    if (world_.is_root()) check_config(checkpoint.manifest());
    if (checkpoint.manifest().has_init()) init_ = checkpoint.manifest().init();
    world_.barrier();
    for (const TensorGroup& group : state) checkpoint.load_into(group.kind, group.tensors);
    images = checkpoint.manifest().images();
  }
  if (world_.is_root()) life_->resumed_from(files, images);
  writer_.reserve(plan(state), world_.rank(), state);
  return images;
}

std::vector<Shard> Saver::plan(const std::vector<TensorGroup>& state) const {
  const auto least = static_cast<uint64_t>(config_.checkpoint().min_shard_mib() * (1 << 20));
  return plan_shards(state, world_.size(), least);
}

void Saver::begin(int64_t images, const std::vector<TensorGroup>& state,
                  const std::vector<NamedNumber>& numbers, const std::vector<std::string>& awaits) {
  while (stage_ != Stage::kIdle) advance();
  const Clock::time_point begin = Clock::now();
  images_ = images;
  numbers_ = numbers;
  awaits_ = awaits;
  FileSystem& files = real_file_system();
  std::string failure;
  if (world_.is_root()) {
    try {
      hidden_ = begin_checkpoint(files, run_.folder, images, *life_);
    } catch (const Error& error) {
      if (error.code() != Code::kStorage) throw;
      failure = error.what();
      hidden_.clear();
    }
  }
  hidden_ = world_.broadcast(hidden_);
  if (hidden_.empty()) return note_failure(failure);
  try {
    writer_.save(hidden_, plan(state), world_.rank(), state);
  } catch (const Error& error) {
    if (error.code() != Code::kStorage)
      throw;  // kept by the writer otherwise; see gather_and_commit
    failure = error.what();
  }
  stage_ = Stage::kWriting;
  stage_seconds_ = seconds_since(begin);
  save_error_ = failure;
  if (!config_.checkpoint().asynchronous()) {
    while (stage_ != Stage::kIdle) advance();
  }
}

void Saver::poll() {
  if (stage_ != Stage::kIdle && world_.max(static_cast<int64_t>(writer_.busy())) == 0) advance();
}

// One stage further; waits for this rank's part of it.
void Saver::advance() {
  if (stage_ == Stage::kWriting) {
    gather_and_commit();
  } else if (stage_ == Stage::kCommitting) {
    settle();
  }
}

void Saver::describe_run(CheckpointManifest& manifest, int64_t images, int writers) const {
  manifest.set_images(images);
  manifest.set_world_size(writers);
  manifest.set_config(print_config(config_));
  manifest.set_config_fingerprint(config_fingerprint(config_));
  manifest.set_store_id(run_.store_id);
  manifest.set_code_version(run_.code_version);
  for (const int side : run_.clip_shape.sides()) manifest.add_clip_shape(side);
  if (init_) *manifest.mutable_init() = *init_;
}

std::string Saver::save_alone(int64_t images, const std::vector<TensorGroup>& state) {
  FileSystem& files = real_file_system();
  for (const Candidate& candidate : list_checkpoints(files, run_.folder, Depth::kQuick)) {
    if (candidate.valid() && candidate.images >= images) return candidate.folder;
  }
  const std::string hidden = begin_checkpoint(files, run_.folder, images, *life_);
  CheckpointManifest manifest;
  const std::vector<Shard> shards = plan_shards(state, 1, std::numeric_limits<uint64_t>::max());
  for (CheckpointFile& file : write_shards(files, hidden, shards, 0, state)) {
    manifest.add_file()->Swap(&file);
  }
  describe_run(manifest, images, 1);
  return commit_checkpoint(files, run_.folder, hidden, manifest, *life_);
}

// Every rank's file is durable, or failed: rank 0 hears which, and commits behind training's back.
void Saver::gather_and_commit() {
  CheckpointManifest own;
  std::string failure = save_error_;
  if (failure.empty()) {
    try {
      for (CheckpointFile& file : writer_.wait()) own.add_file()->Swap(&file);
    } catch (const Error& error) {
      failure = error.what();
    }
  }
  const bool failed = world_.max(static_cast<int64_t>(!failure.empty())) != 0;
  const std::vector<std::string> failures = world_.gather(failure);
  const std::vector<std::string> records = world_.gather(own.SerializeAsString());
  if (failed) {
    stage_ = Stage::kIdle;
    for (size_t rank = 0; rank < failures.size(); ++rank) {
      if (!failures[rank].empty()) failure = str("rank ", rank, ": ", failures[rank]);
    }
    return note_failure(failure);
  }
  stage_ = Stage::kCommitting;
  write_seconds_ = world_.max(writer_.write_seconds());
  if (!world_.is_root()) return;
  CheckpointManifest manifest;
  bytes_ = 0;
  for (const std::string& bytes : records) {
    CheckpointManifest part;
    LF_CHECK(part.ParseFromString(bytes), "records of a rank");
    manifest.mutable_file()->MergeFrom(part.file());
  }
  for (const CheckpointFile& file : manifest.file()) bytes_ += file.bytes();
  describe_run(manifest, images_, world_.size());
  for (const NamedNumber& number : numbers_) set_number(manifest, number.name(), number.value());
  for (const std::string& name : awaits_) manifest.add_awaits(name);
  writer_.run([this, manifest] {
    FileSystem& files = real_file_system();
    const Clock::time_point begin = Clock::now();
    life_->while_newest(files, [&] {
      published_ = commit_checkpoint(files, run_.folder, hidden_, manifest, *life_);
      prune_checkpoints(files, run_.folder, config_.checkpoint(), *life_);
    });
    commit_seconds_ = seconds_since(begin);
  });
}

// Rank 0's commit is done, or failed; everybody hears.
void Saver::settle() {
  std::string failure;
  published_ = world_.is_root() ? published_ : "";
  if (world_.is_root()) {
    try {
      writer_.wait();
    } catch (const Error& error) {
      // Another life has taken the run over, or what was written does not read back: no retry
      // helps.
      if (error.code() != Code::kStorage) throw;
      failure = error.what();
    }
  }
  stage_ = Stage::kIdle;
  if (world_.max(static_cast<int64_t>(!failure.empty())) != 0) return note_failure(failure);
  failures_ = 0;
  newest_ = world_.broadcast(published_);
  if (world_.is_root()) {
    seconds_ = stage_seconds_ + write_seconds_ + commit_seconds_;
    if (!awaits_.empty()) awaiting_.push_back(newest_);
    LF_INFO("saved ", newest_, ": ", human_bytes(bytes_), " written and synced in ",
            std::round(1e3 * write_seconds_) / 1e3, " s");
  }
}

void Saver::add_numbers(const std::string& folder, const std::vector<NamedNumber>& numbers) {
  FileSystem& files = real_file_system();
  try {
    add_metrics(files, folder, numbers);
    if (stage_ != Stage::kIdle) return;  // its commit looks at them, or the next one
    CheckpointConfig config = config_.checkpoint();
    config.set_read_back(false);  // the newest was, when it was published
    life_->while_newest(files, [&] { prune_checkpoints(files, run_.folder, config, *life_); });
  } catch (const Error& error) {
    if (error.code() != Code::kStorage) throw;
    LF_WARN("metrics of ", folder, " are not kept: ", error.what());
  }
}

void Saver::note_failure(const std::string& message) {
  ++failures_;
  if (world_.is_root()) {
    LF_ERROR("the checkpoint at image ", images_, " could not be saved (", failures_,
             " in a row): ", message, "; the one before stays, training continues");
    try {  // an unfinished checkpoint would take up the room that the next one needs
      if (!hidden_.empty()) real_file_system().remove_tree(hidden_);
    } catch (const Error& error) {
      LF_WARN(error.what());
    }
  }
  if (failures_ >= kMostFailures) {
    fail(Code::kStorage, "checkpoints could not be saved ", failures_, " times in a row",
         message.empty() ? "" : "; the last: ", message);
  }
}

void Saver::finish() {
  while (stage_ != Stage::kIdle) advance();
  if (failures_ > 0) {
    fail(Code::kStorage, "the run's last checkpoint could not be saved; free space under ",
         run_.folder, " and start again: it resumes from ",
         newest_.empty() ? "the start" : newest_);
  }
}

}  // namespace lf
