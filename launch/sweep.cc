// `lastframe sweep`: compares arms over seeds, on this machine or as jobs of a cluster, or says
// what that would take.
#include "sweep/sweep.h"

#include <cmath>
#include <cstdio>

#include "base/clock.h"
#include "base/console.h"
#include "base/error.h"
#include "base/json.h"
#include "base/stop.h"
#include "base/stop_signals.h"
#include "base/text.h"
#include "eval/metrics.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/output.h"
#include "launch/version.h"
#include "sweep/children.h"

namespace lf {
namespace {

constexpr char kOfSweep[] = "sweep.";

// The seconds of a time such as 50m or 2h; 0 where none is given.
double span_of(const Arguments& arguments, const std::string& option) {
  if (!arguments.has(option)) return 0;
  std::string text = arguments.get(option);
  const char unit = text.empty() ? ' ' : text.back();
  const double scale = unit == 's' ? 1 : unit == 'm' ? 60 : unit == 'h' ? 3600 : 0;
  double value = 0;
  if (scale == 0 || !parse(text.substr(0, text.size() - 1), &value) || value <= 0) {
    arguments.refuse(option, " is '", printable(text), "', expected a time such as 50m or 2h");
  }
  return value * scale;
}

SweepPlan plan_of_call(const Arguments& arguments) {
  std::vector<std::string> of_sweep, of_runs;
  for (const std::string& set : arguments.sets()) {
    if (set.starts_with(kOfSweep)) {
      of_sweep.push_back(set.substr(sizeof kOfSweep - 1));
    } else {
      of_runs.push_back(set);
    }
  }
  const Sweep sweep = load_sweep(arguments.positional()[0], of_sweep);
  for (const Measure& measure : sweep.measure()) {
    if (measure.metric() != "loss") metric_named(measure.metric());
  }
  for (const Anchor& anchor : sweep.anchor()) metric_named(anchor.metric());
  return plan_of(sweep, of_runs);
}

SweepCall call_of(const Arguments& arguments) {
  SweepCall call;
  call.folder = arguments.get("--out");
  call.only = arguments.get("--only");
  call.budget_seconds = span_of(arguments, "--budget");
  call.jobs = static_cast<int>(arguments.integer("--jobs"));
  call.ranks = static_cast<int>(arguments.integer("--ranks"));
  call.allow_short = arguments.has("--allow-short");
  call.program = version();
  return call;
}

void number_or_null(Json& json, const char* name, double value) {
  value > 0 ? json.field(name, value) : json.key(name).raw("null");
}

std::string line_of(const PlannedRun& run) {
  std::string line = str(run.arm, " seed ", run.seed, ": ");
  line += run.images == 0 ? "images not known yet"
                          : str(human_count(static_cast<uint64_t>(run.images)), " images, ",
                                human_count(static_cast<uint64_t>(run.steps)), " steps");
  if (run.seconds > 0) line += ", about " + human_seconds(run.seconds);
  return line + (run.finished ? ", finished" : "") + "\n";
}

std::string forecast_json(const SweepPlan& plan, const SweepForecast& told) {
  Json json;
  const auto write_run = [&](const PlannedRun& run) {
    json.object([&] {
      json.field("arm", run.arm).field("seed", run.seed);
      run.images > 0 ? json.field("images", run.images) : json.key("images").raw("null");
      run.steps > 0 ? json.field("steps", run.steps) : json.key("steps").raw("null");
      number_or_null(json, "estimated_seconds", run.seconds);
      run.hash.empty() ? json.key("finished").raw("null") : json.field("finished", run.finished);
      run.hash.empty() ? json.key("hash").raw("null") : json.field("hash", run.hash);
    });
  };
  json.object([&] {
    json.field("name", plan.sweep.name()).field("question", plan.sweep.question());
    json.array("runs", [&] {
      for (const PlannedRun& run : told.runs) write_run(run);
    });
    json.array("arms", [&] {
      for (size_t i = 0; i < told.sizes.size(); ++i) {
        if (told.sizes[i].parameters == 0) continue;
        json.object([&] {
          json.field("name", plan.arms[i].name).field("parameters", told.sizes[i].parameters);
          number_or_null(json, "bits", told.sizes[i].bits);
        });
      }
    });
    number_or_null(json, "estimated_seconds", told.seconds);
    json.field("reason", told.unknown);
  });
  return json.text() + "\n";
}

std::string forecast_text(const SweepForecast& told) {
  std::string text;
  for (const PlannedRun& run : told.runs) text += line_of(run);
  return text +
         (told.seconds > 0 ? "in all about " + human_seconds(told.seconds)
                           : "time not known: " + told.unknown) +
         "\n";
}

// The call's own words for the elements of an array.
std::vector<std::string> words_of_call(const Arguments& arguments) {
  std::vector<std::string> words = {arguments.positional()[0], "--out", arguments.get("--out")};
  for (const std::string& set : arguments.sets()) words.insert(words.end(), {"--set", set});
  if (arguments.has("--only")) words.insert(words.end(), {"--only", arguments.get("--only")});
  if (arguments.has("--allow-short")) words.emplace_back("--allow-short");
  return words;
}

// Submits what the runs share as one job, and the runs as an array that waits for it.
int submit(const Arguments& arguments, SweepPlan& plan, const SweepCall& call) {
  const char* file = "slurm/sweep.sbatch";
  if (!real_file_system().exists(file)) {
    arguments.refuse("there is no ", file,
                     " here; submit from the checkout or from PREFIX/share/lastframe");
  }
  const int64_t runs = fix_images(plan, call);
  const std::string log = call.folder + "/logs/sbatch";
  const auto sbatch = [&](std::vector<std::string> options) {
    std::vector<std::string> words = {"sbatch", "--parsable",
                                      "--job-name=sweep-" + plan.sweep.name()};
    words.insert(words.end(), options.begin(), options.end());
    words.emplace_back(file);
    for (const std::string& word : words_of_call(arguments)) words.push_back(word);
    std::string job = output_of(words, log);
    return job.substr(0, job.find_first_of(";\n"));
  };
  const std::string first = sbatch({"--array=0"});
  const std::string rest = sbatch(
      {str("--array=1-", runs), "--dependency=afterok:" + first, "--kill-on-invalid-dep=yes"});
  print(str("submitted as jobs ", first, " (what the runs share) and ", rest, " (", runs,
            " runs); --status tells where they are\n"));
  return 0;
}

// The results of a folder, as this call is to print them.
void print_results(const Arguments& arguments) {
  const char* file = arguments.has("--json") ? "/results.json" : "/results.md";
  print(read_file(real_file_system(), arguments.get("--out") + file, uint64_t{1} << 30));
}

int run_command(const Arguments& arguments) {
  SweepPlan plan = plan_of_call(arguments);
  const SweepCall call = call_of(arguments);
  if (arguments.has("--dry-run")) {
    const SweepForecast told = forecast(plan, call);
    print(arguments.has("--json") ? forecast_json(plan, told) : forecast_text(told));
    return 0;
  }
  if (arguments.has("--status")) {
    print(status_text(plan, call));
    return 0;
  }
  catch_stop_signals();
  if (const double seconds = span_of(arguments, "--for"); seconds > 0)
    set_stop_deadline(unix_now() + seconds);
  if (arguments.has("--slurm")) return submit(arguments, plan, call);
  if (arguments.has("--element")) {
    const int64_t element = arguments.integer("--element");
    return element == 0 ? prepare_sweep(plan, call) : run_element(plan, call, element - 1);
  }
  try {
    const int status = run_sweep(plan, call);
    print_results(arguments);
    return status;
  } catch (const Error& error) {
    if (error.code() != Code::kInterrupted) throw;
    throw Error(Code::kInterrupted, "sweep: stopped; the same command resumes");
  }
}

constexpr Option kSweepOptions[] = {
    {"--out",
     output("DIR", "/"),
     "folder of runs and results; the same command resumes it",
     {.required = "--dry-run"}},
    {"--set", sets(),
     "override one option of every arm's config, or with sweep. before its name one of the sweep "
     "file: sweep.seeds=1; repeatable"},
    {"--budget", text("TIME"),
     "instead of the sweep's images: as many as fit into a time such as 2h, by how fast the steps "
     "are here"},
    {"--for",
     text("TIME"),
     "stop cleanly after a time such as 50m, with status 75; the same command resumes",
     {.without = "--dry-run|--status"}},
    {"--jobs", integer(1, 1024), "runs at a time; no result depends on it", {.fallback = "2"}},
    {"--ranks",
     integer(1, 65535),
     "ranks of each run, started by launch/local or LASTFRAME_LAUNCHER",
     {.fallback = "1"}},
    {"--only", text("ARMS"), "some of the arms, with commas between their names"},
    {"--allow-short", kNoValue,
     "accept fewer steps than the sweep's minimum_steps; prints no verdict"},
    {"--dry-run", kNoValue,
     "print the runs and what they would take; needs no data and trains nothing"},
    {"--status", kNoValue, "print where each run is", {.without = "--dry-run|--slurm"}},
    {"--slurm",
     kNoValue,
     "submit slurm/sweep.sbatch as an array, an element for each run; the same command again "
     "resumes",
     {.without = "--dry-run|--for|--element"}},
    {"--element",
     integer(0, 1 << 20),
     "do one part of a sweep that was submitted: 0 what the runs share, N run N",
     {.without = "--dry-run|--status"}},
    kJsonOption,
};

}  // namespace

const Command kSweepCommand = {
    .name = "sweep",
    .positional = "FILE",
    .summary = "compares models over seeds by one file, with the means, intervals and verdicts",
    .details =
        "FILE says what is compared (`lastframe list sweep`, configs/experiments): arms, axes that "
        "multiply them, seeds, what is trained first, what is measured and how arms are made "
        "comparable.\n"
        "\n"
        "Arms are paired by seeds. A comparison is won or lost where three seeds or more are "
        "paired, all of them agree in sign, and the 95 % interval of the mean difference by "
        "Student's t leaves out 0; where it holds 0 no difference is seen, and with fewer seeds it "
        "is undecided. A verdict is won where each of its comparisons is, and lost where one is "
        "lost; it is that of all metrics where they agree, else undecided.\n"
        "\n"
        "A finished run leaves a row, in DIR and in the sweep's file of rows, and is not done "
        "again, here or wherever the rows are carried: a row's hash covers what decides the "
        "numbers, and no path. A run that fails is named and kept and does not stop the others; "
        "the status is then 1. SIGTERM, SIGUSR1 and Ctrl-C save checkpoints and lead to status "
        "75.\n"
        "\n"
        "DIR holds results.json, results.md, rows.jsonl, runs/ARM-SEED-HASH, stores/, first/, "
        "pictures/ and logs/.",
    .example =
        "lastframe sweep configs/experiments/1.sweep --dry-run\n"
        "lastframe sweep configs/experiments/1.sweep --out runs/1 --only A,V --for 50m \\\n"
        "    --set source.cifar.path=cifar-10-batches-bin\n"
        "lastframe sweep configs/experiments/3.sweep --out runs/3 --set sweep.seeds=1 --budget 2h",
    .options = kSweepOptions,
    .run = run_command,
    .hands_on_sets = true,
};

}  // namespace lf
