// `lastframe doctor`: what this program runs on, an entry for each rank, and with --smoke whether
// it works together (smoke.h). Rank 0 prints. Repairs nothing.
#include <ATen/Parallel.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/host.h"
#include "base/json.h"
#include "base/log.h"
#include "comm/world.h"
#include "data/image/image.h"
#include "data/video/support.h"
#include "kernels/gpu/device.h"
#include "launch/commands.h"
#include "launch/libraries.h"
#include "launch/options/arguments.h"
#include "launch/output.h"
#include "launch/plugin.h"
#include "launch/smoke.h"
#include "launch/version.h"

namespace lf {
namespace {

struct Cpu {
  std::string model;
  std::vector<std::string> features;  // by which kernels are chosen
  int64_t cores = 0;                  // logical, of the machine
  std::vector<int> allowed;           // those this rank may run on
};

struct Body {
  std::string host;
  int64_t pid = 0;
  Cpu cpu;
  int threads = 0;
  std::vector<LoadedLibrary> libraries;
  std::string device;  // of the plugin, "" without one
  std::vector<std::string> warnings;
};

struct Smoke {
  AllReduceTrial all_reduce;
  FolderTrial folder;
  bool signals_ok = false;
  std::vector<std::string> troubles;
};

Cpu look_at_cpu() {
  Cpu cpu;
  cpu.cores = ::sysconf(_SC_NPROCESSORS_ONLN);
  // cpu_set_t holds 1024, fewer than some machines have.
  constexpr int kMostCpus = 65536;
  cpu_set_t* set = CPU_ALLOC(kMostCpus);
  if (set != nullptr && ::sched_getaffinity(0, CPU_ALLOC_SIZE(kMostCpus), set) == 0) {
    for (int i = 0; i < kMostCpus; ++i) {
      if (CPU_ISSET_S(i, CPU_ALLOC_SIZE(kMostCpus), set)) cpu.allowed.push_back(i);
    }
  }
  if (set != nullptr) CPU_FREE(set);
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string value = colon + 2 <= line.size() ? line.substr(colon + 2) : "";
    if (line.starts_with("model name") && cpu.model.empty()) cpu.model = value;
    if (!cpu.features.empty() || !(line.starts_with("flags") || line.starts_with("Features")))
      continue;
    const std::vector<std::string> words = split(value, ' ');
    for (const char* feature :
         {"sse4_2", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
          "amx_tile", "amx_int8", "amx_bf16", "crc32", "asimd", "sve", "bf16"}) {
      if (std::find(words.begin(), words.end(), feature) != words.end()) {
        cpu.features.emplace_back(feature);
      }
    }
  }
  return cpu;
}

// {0, 1, 2, 5} -> "0-2,5".
std::string as_ranges(const std::vector<int>& numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t end = i;
    while (end + 1 < numbers.size() && numbers[end + 1] == numbers[end] + 1) ++end;
    text += str(text.empty() ? "" : ",", numbers[i]);
    if (end > i) text += str("-", numbers[end]);
    i = end + 1;
  }
  return text;
}

Body look_at_body(const World& world) {
  const Plugin& plugin = open_plugin();  // before anything asks LibTorch about CUDA
  Body body;
  body.host = host_name();
  body.pid = ::getpid();
  body.cpu = look_at_cpu();
  body.threads = at::get_num_threads();
  body.libraries = loaded_libraries();
  body.warnings = double_libraries(body.libraries);
  if (!survey_gpus().problem.empty()) body.warnings.push_back(survey_gpus().problem);
  if (!plugin.problem.empty()) body.warnings.push_back(plugin.problem);
  try {
    if (plugin.device != nullptr) body.device = plugin.device->description();
  } catch (const Error& error) {
    body.warnings.push_back(str("the CUDA plugin is open but does not work: ", error.what()));
  }
  const auto allowed = static_cast<int>(body.cpu.allowed.size());
  if (world.local_size() > 1 && allowed == 1 && body.cpu.cores > world.local_size()) {
    body.warnings.emplace_back(
        "this rank is bound to one core, and so are all its threads; start mpirun "
        "with --bind-to none or --map-by slot:PE=k");
  }
  return body;
}

void write_gpus(Json& json) {
  json.array("gpus", [&] {
    for (const Gpu& gpu : survey_gpus().gpus) {
      json.object([&] {
        json.field("name", gpu.name).field("bytes", gpu.bytes);
        json.field("compute_capability", str(gpu.major, ".", gpu.minor));
      });
    }
  });
}

void write_libraries(Json& json, const std::vector<LoadedLibrary>& libraries) {
  json.array("libraries", [&] {
    for (const LoadedLibrary& library : libraries) {
      json.object([&] {
        json.field("name", library.name).field("version", library.version);
        json.field("path", library.path);
      });
    }
  });
}

std::string rank_as_json(const World& world, const Body& body) {
  Json json;
  json.object([&] {
    json.field("rank", world.rank()).field("local_rank", world.local_rank());
    json.field("host", body.host).field("pid", body.pid);
    json.field("cpu", body.cpu.model).field("cpu_features", body.cpu.features);
    json.field("cores", body.cpu.cores).field("affinity", as_ranges(body.cpu.allowed));
    json.field("threads", body.threads);
    write_gpus(json);
    json.field("device", body.device);
    write_libraries(json, body.libraries);
  });
  return json.text();
}

std::string rank_as_line(const World& world, const Body& body) {
  std::vector<std::string> gpus;
  for (const Gpu& gpu : survey_gpus().gpus) gpus.push_back(gpu.name);
  return str("rank ", world.rank(), "  ", body.host, " pid ", body.pid, "  ", body.cpu.cores,
             " cores, may use ", as_ranges(body.cpu.allowed), ", ", body.threads, " threads  ",
             gpus.empty() ? "no GPU" : join(gpus, ", "));
}

// What this program was built without, and cannot do for that.
std::vector<std::string> built_without() {
  std::vector<std::string> texts;
  if (!decodes_webp()) texts.emplace_back("libwebp: WebP pictures are refused");
  if (video_support().empty()) {
    texts.emplace_back("FFmpeg, or it is not installed: videos are neither read nor written");
  }
  return texts;
}

// What must be the same on every rank, one line each.
std::string identity_of(const Body& body) {
  std::string text = str("lastframe ", version(), "\n");
  for (const LoadedLibrary& library : body.libraries) {
    text += str(library.name, " ", library.version, "\n");
  }
  return text;
}

// The warnings of all ranks, each once, with the first rank that has it. On rank 0; elsewhere
// empty.
std::vector<std::string> gather_warnings(World& world, const Body& body) {
  const std::vector<std::string> identities = world.gather(identity_of(body));
  const std::vector<std::string> lists = world.gather(join(body.warnings, "\n"));
  std::vector<std::string> warnings;
  std::vector<std::string> seen;
  for (size_t rank = 0; rank < lists.size(); ++rank) {
    for (const std::string& warning : split(lists[rank], '\n')) {
      if (warning.empty() || std::find(seen.begin(), seen.end(), warning) != seen.end()) continue;
      seen.push_back(warning);
      warnings.push_back(str("rank ", rank, ": ", warning));
    }
    const std::vector<std::string> theirs = split(identities[rank], '\n');
    const std::vector<std::string> ours = split(identities[0], '\n');
    for (const std::string& line : theirs) {
      if (std::find(ours.begin(), ours.end(), line) != ours.end()) continue;
      warnings.push_back(str("rank ", rank, " runs ", line,
                             ", which rank 0 does not; use one build and "
                             "one set of libraries on all machines"));
    }
  }
  return warnings;
}

Smoke try_everything(World& world, const Arguments& arguments) {
  Smoke smoke;
  smoke.all_reduce = try_all_reduce(world, arguments.integer("--mib") << 20);
  smoke.folder = try_folder(world, arguments.get("--folder"));
  const SignalTrial signal = try_signal(world);
  smoke.signals_ok = world.min(int64_t{signal.ok}) == 1;
  if (!smoke.all_reduce.ok) {
    smoke.troubles.push_back(str("an all-reduce over ", smoke.all_reduce.backend,
                                 " gave wrong sums; run it on fewer machines to find the one"));
  }
  if (!smoke.folder.trouble.empty()) smoke.troubles.push_back(smoke.folder.trouble);
  for (const std::string& trouble : world.gather(signal.trouble)) {
    if (!trouble.empty()) smoke.troubles.push_back(trouble);
  }
  return smoke;
}

int status_of(const Smoke& smoke) {
  if (!smoke.all_reduce.ok || !smoke.signals_ok) return static_cast<int>(Code::kPeer);
  return static_cast<int>(smoke.folder.ok() ? Code::kOk : Code::kStorage);
}

void write_smoke(Json& json, const Smoke& smoke) {
  json.field("allreduce_ok", smoke.all_reduce.ok);
  json.object("allreduce", [&] {
    json.field("backend", smoke.all_reduce.backend).field("bytes", smoke.all_reduce.bytes);
    json.field("seconds", smoke.all_reduce.seconds);
    json.field("bus_bytes_per_s", smoke.all_reduce.bus_bandwidth);
  });
  json.object("folder", [&] {
    json.field("ok", smoke.folder.ok()).field("shared", smoke.folder.shared);
    json.field("rename", smoke.folder.rename).field("fsync", smoke.folder.fsync);
    json.field("flock", smoke.folder.flock).field("fcntl", smoke.folder.fcntl);
    json.field("fsync_seconds", smoke.folder.fsync_seconds);
  });
  json.field("signals_ok", smoke.signals_ok);
  json.field("troubles", smoke.troubles);
}

std::string report_as_json(const World& world, const std::vector<std::string>& ranks,
                           const std::vector<std::string>& warnings,
                           const std::optional<Smoke>& smoke) {
  Json json;
  json.object([&] {
    json.field("version", version_number()).field("commit", commit());
    json.field("world", world.size());
    json.array("ranks", [&] {
      for (const std::string& rank : ranks) json.raw(rank);
    });
    json.field("cuda_driver", survey_gpus().driver);
    json.field("built_without", built_without());
    json.field("warnings", warnings);
    if (smoke) write_smoke(json, *smoke);
  });
  return json.text() + "\n";
}

std::string smoke_as_text(const World& world, const Smoke& smoke) {
  const auto verdict = [](bool ok) { return ok ? "ok" : "FAILED"; };
  const AllReduceTrial& trial = smoke.all_reduce;
  std::string text = str("\nall-reduce  ", verdict(trial.ok), ", ",
                         human_bytes(static_cast<uint64_t>(trial.bytes)), " over ", trial.backend,
                         " in ", std::round(trial.seconds * 1e5) / 1e2, " ms");
  if (world.size() > 1) {
    text += str(", bus bandwidth ", human_bytes(static_cast<uint64_t>(trial.bus_bandwidth)), "/s");
  }
  text += str("\nfolder      rename ", verdict(smoke.folder.rename), ", fsync ",
              verdict(smoke.folder.fsync), ", flock ", verdict(smoke.folder.flock), ", fcntl ",
              verdict(smoke.folder.fcntl), ", seen by all ranks ", verdict(smoke.folder.shared),
              "\nSIGUSR1     ", verdict(smoke.signals_ok), "\n");
  for (const std::string& trouble : smoke.troubles) text += "trouble: " + trouble + "\n";
  return text;
}

std::string report_as_text(const World& world, const Body& body,
                           const std::vector<std::string>& ranks,
                           const std::vector<std::string>& warnings,
                           const std::optional<Smoke>& smoke) {
  std::string text = str("lastframe ", version(), "\n\nlibraries\n");
  for (const LoadedLibrary& library : body.libraries) {
    std::string head = str("  ", library.name, " ", library.version);
    head.resize(std::max<size_t>(head.size() + 2, 28), ' ');
    text += head + library.path + "\n";
  }
  for (const std::string& missing : built_without()) text += "  built without " + missing + "\n";
  text += str("\nCPU   ", body.cpu.model, "\n      ", join(body.cpu.features, " "), "\n");
  const GpuSurvey& survey = survey_gpus();
  text += survey.gpus.empty() ? "GPU   none" : "";
  for (const Gpu& gpu : survey.gpus) {
    text += str(gpu.index == 0 ? "GPU   " : "\n      ", gpu.index, " ", gpu.name, ", ",
                human_bytes(gpu.bytes), ", compute capability ", gpu.major, ".", gpu.minor);
  }
  text += survey.driver.empty() ? " (no driver)\n" : str(" (driver of CUDA ", survey.driver, ")\n");
  if (!body.device.empty()) text += "      " + body.device + "\n";
  text += str("\n", join(ranks, "\n"), "\n");
  if (smoke) text += smoke_as_text(world, *smoke);
  for (const std::string& warning : warnings) text += "warning: " + warning + "\n";
  return text;
}

int run_doctor(const Arguments& arguments) {
  World& world = World::join();
  start_log("lastframe", world.rank());
  const Body body = look_at_body(world);
  const bool as_json = arguments.has("--json");
  const std::vector<std::string> ranks =
      world.gather(as_json ? rank_as_json(world, body) : rank_as_line(world, body));
  const std::vector<std::string> warnings = gather_warnings(world, body);
  std::optional<Smoke> smoke;
  if (arguments.has("--smoke")) smoke = try_everything(world, arguments);
  if (world.is_root()) {
    print(as_json ? report_as_json(world, ranks, warnings, smoke)
                  : report_as_text(world, body, ranks, warnings, smoke));
  }
  world.barrier();  // a status other than 0 stops all ranks: rank 0 has printed by then
  return smoke ? status_of(*smoke) : 0;
}

constexpr Option kDoctorOptions[] = {
    {"--smoke", kNoValue, "also test an all-reduce with known sums, a folder and SIGUSR1"},
    {"--folder",
     text("DIR"),
     "folder in which rename, fsync and locks are tested",
     {.fallback = ".", .only_with = "--smoke"}},
    {"--mib",
     integer(1, 1024),
     "size of the timed all-reduce in MiB",
     {.fallback = "16", .only_with = "--smoke"}},
    kJsonOption,
};

}  // namespace

const Command kDoctorCommand = {
    .name = "doctor",
    .summary = "shows what this program runs on, and tests it",
    .details =
        "Prints the version and path of every shared library that matters, the CPU's features, "
        "the GPUs, and one line for each rank. Two copies of one library in the process are a "
        "warning. With --smoke every rank also takes part in an all-reduce whose sums are known "
        "exactly, in a test of the folder and in a delivery of SIGUSR1; if one fails, the exit "
        "status says so.\n"
        "\n"
        "As root, Open MPI's mpirun needs OMPI_ALLOW_RUN_AS_ROOT=1 and "
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 in the environment.",
    .example =
        "lastframe doctor\n"
        "mpirun -n 4 --oversubscribe --bind-to none lastframe doctor --smoke --json\n"
        "srun -n 8 lastframe doctor --smoke --folder /scratch/me",
    .options = kDoctorOptions,
    .run = run_doctor,
};

}  // namespace lf
