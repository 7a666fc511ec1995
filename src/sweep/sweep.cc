#include "sweep/sweep.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <optional>

#include "base/clock.h"
#include "base/console.h"
#include "base/error.h"
#include "base/host.h"
#include "base/json.h"
#include "base/parallel.h"
#include "base/stop.h"
#include "config/config.h"
#include "config/reflect.h"
#include "sweep/images.h"
#include "sweep/measuring.h"

namespace lf {
namespace {

constexpr std::chrono::seconds kForecast(7);  // that it may ask models for; it is to end within ten
constexpr char kImages[] = "images";          // what is kept of a call

FileSystem& files() { return real_file_system(); }

// The folder is one sweep's, and one process's at a time.
class Claim {
 public:
  Claim(const std::string& folder, const std::string& name) {
    check_owner(folder, name);
    lock_ = files().open_lock(folder + "/lock");
    if (lock_->try_lock() == LockFile::Lock::kTaken) {
      std::string holder = read_file(files(), folder + "/lock", 1 << 10);
      fail(Code::kUsage, "another sweep is running in ", printable(folder), " (", printable(holder),
           "); wait for it, or name another folder by --out");
    }
    lock_->replace(str("process ", ::getpid(), " on ", host_name()));
  }

  static void check_owner(const std::string& folder, const std::string& name) {
    const std::string owner = folder + "/kept/sweep";
    files().make_folders(folder);
    if (!files().exists(owner)) {
      const std::vector<std::string> there = files().list(folder);
      const bool ours = std::all_of(there.begin(), there.end(), [](const std::string& one) {
        return one == "lock" || one == "kept";
      });
      if (!ours) {
        fail(Code::kUsage, printable(folder),
             " holds something else than a sweep; name a new folder by --out");
      }
      files().make_folders(folder + "/kept");
      publish_file(files(), owner, name + "\n");
      return;
    }
    std::string held = read_file(files(), owner, 1 << 10);
    while (!held.empty() && held.back() == '\n') held.pop_back();
    if (held != name) {
      fail(Code::kUsage, printable(folder), " holds the results of the sweep ", printable(held),
           ", not of ", name, "; name another folder by --out");
    }
  }

 private:
  std::unique_ptr<LockFile> lock_;
};

// ---- what arms may not differ in
// --------------------------------------------------------------------

void check_same_images(const SweepPlan& plan, const std::vector<size_t>& asked) {
  const Config first = held_out_data(plan.sweep, plan.arms[asked.front()].config);
  for (const size_t i : asked) {
    Config one, other;
    *one.mutable_source() = held_out_data(plan.sweep, plan.arms[i].config).source();
    *other.mutable_source() = first.source();
    const std::vector<std::string> lines = config_differences(other, one, false);
    if (lines.empty()) continue;
    fail(Code::kUsage, "arms ", plan.arms[asked.front()].name, " and ", plan.arms[i].name,
         " would be measured on different held-out images: ", lines.front(),
         "; give all arms one source and size");
  }
}

void check_bits(const SweepPlan& plan, const std::vector<size_t>& asked,
                const std::vector<ArmSize>& sizes) {
  const double expected = sizes[plan.reference].bits;
  for (const size_t i : asked) {
    const bool told = sizes[i].parameters > 0 && sizes[plan.reference].parameters > 0;
    if (plan.arms[i].equal != Sweep::BITS || !told || sizes[i].bits == expected) continue;
    fail(Code::kUsage, "the codes of arm ", plan.arms[i].name, " have ", sizes[i].bits,
         " bits, and those of ", plan.arms[plan.reference].name, " ", expected,
         "; the sweep compares at equal bits, so change grids, groups or codes");
  }
}

// ---- one call -----------------------------------------------------------------------------------

std::string log_folder(const std::string& folder) {
  files().make_folders(folder + "/logs");
  return folder + "/logs";
}

// A sweep that has been read, in its folder.
class Session {
 public:
  // Children that still run at `until` are killed.
  Session(SweepPlan& plan, const SweepCall& call,
          Clock::time_point until = Clock::time_point::max())
      : plan_(plan),
        call_(call),
        children_({own_program(), log_folder(call.folder), call.ranks, until}),
        workshop_(files(), call.folder, children_, plan.sweep),
        asked_(arms_chosen(plan, call.only)) {
    for (const std::string& sentence : plan.left_out) console_line(sentence);
    check_same_images(plan, asked_);
  }

  void find_images() {
    const std::vector<double> shares = lf::find_images(plan_, call_, asked_, workshop_, true);
    refuse_if_short(plan_, call_, asked_, workshop_, shares);
    shorten_firsts(plan_, call_);
  }
  // Without timing anything.
  void guess_images() {
    lf::find_images(plan_, call_, asked_, workshop_, false);
    shorten_firsts(plan_, call_);
  }
  void keep_images() const {
    std::string text;
    for (const ArmPlan& arm : plan_.arms) text += str(arm.images, " ", arm.name, "\n");
    publish_file(files(), call_.folder + "/kept/" + kImages, text);
  }
  // As an earlier call found them.
  void take_images() {
    const std::string text = workshop_.kept(kImages);
    if (text.empty())
      fail(Code::kUsage, "no sweep was begun in ", printable(call_.folder), "; leave --status out");
    for (const std::string& line : split(text, '\n')) {
      const size_t space = line.find(' ');
      for (ArmPlan& arm : plan_.arms) {
        if (space != std::string::npos && line.substr(space + 1) == arm.name)
          parse(line.substr(0, space), &arm.images);
      }
    }
    shorten_firsts(plan_, call_);
  }

  // Which runs there are and which are done.
  void identify() {
    identities_.emplace(plan_);
    std::vector<ArmRun> runs = runs_of(plan_, asked_);
    lf::identify(runs, plan_, *identities_);
    shared_.emplace(Shared{plan_,
                           workshop_,
                           *identities_,
                           std::vector<ArmSize>(plan_.arms.size()),
                           {},
                           call_.allow_short,
                           call_.program});
    runs_.emplace(*shared_, std::move(runs));
    runs_->find_finished();
  }

  // Not without the data, of which a forecast has no need.
  bool identify_if_there() {
    try {
      identities_.emplace(plan_);
    } catch (const Error&) {
      return false;
    }
    identify();
    return true;
  }

  void prepare(const std::vector<size_t>& runs);
  void publish() const;
  Results results() const {
    return results_of(plan_, runs_->runs(), shared_->sizes, anchors_, call_.allow_short);
  }
  Runs& runs() { return *runs_; }
  const std::vector<size_t>& asked() const { return asked_; }
  Workshop& workshop() { return workshop_; }

 private:
  void measure_sizes(const std::vector<size_t>& arms);
  void export_held_out();

  SweepPlan& plan_;
  const SweepCall& call_;
  Children children_;
  Workshop workshop_;
  std::vector<size_t> asked_;
  std::optional<Identities> identities_;
  std::optional<Shared> shared_;
  std::optional<Runs> runs_;
  std::vector<AnchorResult> anchors_;
};

void Session::measure_sizes(const std::vector<size_t>& arms) {
  run_parallel(arms.size(), call_.jobs, [&](uint64_t i) {
    const ArmPlan& arm = plan_.arms[arms[i]];
    shared_->sizes[arms[i]] = workshop_.size_of(arm);
    shared_->sizes[arms[i]].multiplications = workshop_.multiplications_of(arm);
  });
  if (std::any_of(arms.begin(), arms.end(),
                  [&](size_t i) { return plan_.arms[i].equal == Sweep::BITS; })) {
    if (shared_->sizes[plan_.reference].parameters == 0)
      shared_->sizes[plan_.reference] = workshop_.size_of(plan_.arms[plan_.reference]);
    check_bits(plan_, arms, shared_->sizes);
  }
}

// The images themselves, as one frame each.
void Session::export_held_out() {
  const std::string array = call_.folder + "/pictures/held_out.npy";
  if (plan_.sweep.pictures() == 0 || files().exists(array)) return;
  Config images = plan_.arms[plan_.reference].config;
  if (images.has_recipe()) {  // a video source has none
    images.mutable_recipe()->Clear();
    images.mutable_recipe()->set_frames(1);
  }
  images.mutable_store()->clear_fresh_draws();
  images.mutable_store()->clear_draws();
  const std::string store = workshop_.picture_store(images);
  const int64_t count = std::min<int64_t>(plan_.sweep.pictures(), workshop_.clips_of(store));
  children_.call({"export", store, "--npy", array, "--range", str("0:", count)}, "pictures");
}

// Makes what these runs share.
void Session::prepare(const std::vector<size_t>& runs) {
  std::vector<size_t> arms;
  for (const size_t i : runs) {
    const size_t arm = runs_->runs()[i].arm;
    if (std::find(arms.begin(), arms.end(), arm) == arms.end()) arms.push_back(arm);
  }
  for (const Anchor& anchor : plan_.sweep.anchor()) {
    const auto arm = std::find_if(plan_.arms.begin(), plan_.arms.end(), [&](const ArmPlan& one) {
      return one.arm.name() == anchor.arm();
    });
    anchors_.push_back({anchor.name(), anchor.metric(), workshop_.anchor(anchor, *arm)});
  }
  if (arms.empty()) return;
  for (const FirstPlan& first : plan_.firsts) workshop_.weights_of(first, *identities_);
  shared_->extractors = extractor_hashes(plan_, workshop_);
  measure_sizes(arms);
  // Before two runs ask for one.
  for (const size_t i : arms) {
    workshop_.training_store(plan_.arms[i].config);
    workshop_.held_out_store(plan_.arms[i].config);
    if (plan_.sweep.pictures() > 0) workshop_.picture_store(plan_.arms[i].config);
  }
  workshop_.held_out_store(plan_.arms[plan_.reference].config);
  export_held_out();
}

void Session::publish() const {
  const Results found = results();
  Sweep named = plan_.sweep;
  named.clear_rows();
  const ResultsHead head{hash_of(named.SerializeAsString()), call_.program, call_.allow_short,
                         call_.folder};
  const std::unique_ptr<LockFile> lock = locked(files(), call_.folder + "/kept/results.lock");
  publish_file(files(), call_.folder + "/results.json", results_json(plan_, found, head, files()));
  publish_file(files(), call_.folder + "/results.md",
               results_text(plan_, found, call_.allow_short));
}

int status_of(const std::vector<ArmRun>& runs) {
  return std::any_of(
             runs.begin(), runs.end(),
             [](const ArmRun& run) { return run.asked && run.state == ArmRun::State::kFailed; })
             ? 1
             : 0;
}

// A folder that goes away.
class TemporaryFolder {
 public:
  TemporaryFolder()
      : path_(str(std::filesystem::temp_directory_path().string(), "/lastframe-sweep-",
                  ::getpid())) {}
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace

int run_sweep(SweepPlan& plan, const SweepCall& call) {
  const Claim claim(call.folder, plan.sweep.name());
  Session session(plan, call);
  session.find_images();
  session.keep_images();
  session.identify();
  const std::vector<size_t> waiting = session.runs().waiting();
  const ArmPlan& reference = plan.arms[plan.reference];
  console_line(str(reference.images, " images of ", reference.name, ", ", reference.steps(),
                   " steps of ", reference.batch, "; ", waiting.size(), " runs to go, ", call.jobs,
                   " at a time"));
  session.prepare(waiting);
  session.publish();
  try {
    session.runs().run_all(call.jobs, [&] { session.publish(); });
  } catch (const Error& error) {
    if (error.code() == Code::kInterrupted) session.publish();
    throw;
  }
  session.publish();
  return status_of(session.runs().runs());
}

int64_t fix_images(SweepPlan& plan, const SweepCall& call) {
  const Claim claim(call.folder, plan.sweep.name());
  Session session(plan, call);
  session.find_images();
  session.keep_images();
  return static_cast<int64_t>(runs_of(plan, session.asked()).size());
}

int prepare_sweep(SweepPlan& plan, const SweepCall& call) {
  Claim::check_owner(call.folder, plan.sweep.name());
  Session session(plan, call);
  session.take_images();
  session.identify();
  session.prepare(session.runs().waiting());
  session.publish();
  return 0;
}

int run_element(SweepPlan& plan, const SweepCall& call, int64_t element) {
  Claim::check_owner(call.folder, plan.sweep.name());
  Session session(plan, call);
  session.take_images();
  session.identify();
  const auto index = static_cast<size_t>(element);
  if (index >= session.runs().runs().size())
    fail(Code::kUsage, "the sweep has no run ", element, "; submit it anew");
  if (!session.runs().runs()[index].asked) return 0;
  session.prepare({index});
  session.runs().run_one(index);
  session.runs().find_finished();  // by others meanwhile
  session.publish();
  return session.runs().runs()[index].state == ArmRun::State::kFinished ? 0 : 1;
}

SweepForecast forecast(SweepPlan& plan, const SweepCall& call) {
  const TemporaryFolder scratch;
  SweepCall dry = call;
  const bool begun = !call.folder.empty() && files().exists(call.folder + "/kept/sweep");
  if (begun) Claim::check_owner(call.folder, plan.sweep.name());
  if (!begun) dry.folder = scratch.path();
  SweepForecast out;
  Session session(plan, dry, Clock::now() + kForecast);
  session.guess_images();
  out.sizes.resize(plan.arms.size());
  run_parallel(session.asked().size(), std::max(2, call.jobs), [&](uint64_t i) {
    const size_t arm = session.asked()[i];
    if (session.workshop().awaits_tokenizer(plan.arms[arm])) return;
    out.sizes[arm] = unless_late([&] { return session.workshop().size_of(plan.arms[arm]); });
  });
  check_bits(plan, session.asked(), out.sizes);
  std::vector<ArmRun> runs = runs_of(plan, session.asked());
  if (session.identify_if_there()) runs = session.runs().runs();
  double all = 0;
  for (const ArmRun& run : runs) {
    if (!run.asked) continue;
    const ArmPlan& arm = plan.arms[run.arm];
    const double step = session.workshop().known_step_seconds(arm, call.jobs);
    const double seconds = run_seconds(plan, arm, step, static_cast<double>(arm.steps()));
    const bool finished = run.state == ArmRun::State::kFinished;
    out.runs.push_back({arm.name, run.seed, arm.images, arm.steps(), arm.images > 0 ? seconds : 0,
                        run.hash, finished});
    all += finished ? 0 : out.runs.back().seconds;
    if (arm.images == 0) {
      out.unknown = "what arm " + arm.name +
                    " is to be equal in was not measured yet; the sweep itself does it first";
    } else if (seconds == 0 && out.unknown.empty()) {
      out.unknown = "no step of arm " + arm.name +
                    " was timed in --out yet; --budget times it, and so does its first run";
    }
  }
  if (out.unknown.empty()) out.seconds = kFixedSeconds + all / call.jobs;
  return out;
}

std::string status_text(SweepPlan& plan, const SweepCall& call) {
  if (!files().exists(call.folder + "/kept/sweep")) {
    fail(Code::kUsage, "no sweep was begun in ", printable(call.folder),
         "; leave --status out to begin it");
  }
  Claim::check_owner(call.folder, plan.sweep.name());
  Session session(plan, call);
  session.take_images();
  session.identify();
  std::string text;
  for (const ArmRun& run : session.runs().runs()) {
    const ArmPlan& arm = plan.arms[run.arm];
    std::string line = str(arm.name, " seed ", run.seed, ": ", name_of(run.state));
    const std::string path = call.folder + "/" + run.folder + "/status.json";
    if (run.state == ArmRun::State::kFailed) line += ": " + run.error;
    if (run.state != ArmRun::State::kFinished && files().exists(path)) {
      const std::string told = read_file(files(), path, 1 << 16);
      line += str(", ", json_member(told, "state"), " at ", json_member(told, "images"), " of ",
                  arm.images, " images");
    }
    text += line + "\n";
  }
  return text;
}

}  // namespace lf
