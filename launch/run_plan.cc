#include "launch/run_plan.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/ones.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/host.h"
#include "base/json.h"
#include "base/text.h"
#include "data/store/layout.h"
#include "launch/bench/breakdown.h"
#include "launch/cluster_plan.h"
#include "launch/gpus.h"
#include "launch/output.h"
#include "run/stores.h"
#include "train/step.h"

namespace lf {
namespace {

constexpr double kTera = 1e12;
// Of the peak, unless told. Of a GPU: a data sheet's peak is a fifth above what large products
// reach, and a step is not made of those. Of a CPU, whose peak is measured by products: between the
// 0.5 of configs/experiments/1/v and the 1.0 of configs/digits/image and moving-mnist/fdm-small,
// whose convolutions save products (bench step, one thread).
constexpr double kGpuUtilisation = 0.3, kCpuUtilisation = 0.8;

// Of this machine, as one of `ranks_here` ranks has it: the cores' products at their best, and
// copies in memory, which all ranks share.
Processor measure_cpu(const Config& config, int ranks_here) {
  constexpr int kRounds = 5;
  constexpr int64_t kFloats = int64_t{16} << 20;
  at::set_num_threads(threads_for(0, 1));
  const at::Tensor from = at::ones({kFloats}), to = at::ones({kFloats});
  double seconds = 1e9;
  for (int i = 0; i < kRounds; ++i) {
    const Clock::time_point begin = Clock::now();
    to.copy_(from);
    seconds = std::min(seconds, seconds_since(begin));
  }
  at::set_num_threads(threads_for(config.train().threads(), ranks_here));
  Processor out{.cpu = true};
  const bool bf16 = config.train().precision() == BF16;
  out.products = out.convolutions = product_peak(bf16);
  out.features = bf16 ? product_peak(false) : out.products;
  const double copied = static_cast<double>(from.nbytes()) / seconds / ranks_here;
  out.bandwidth = 2 * copied;
  out.host = copied;
  out.link = copied;
  return out;
}

Processor processor_of(const Arguments& arguments, const Config& config) {
  const GpuModel* gpu = find_gpu(arguments.get("--gpu"));
  if (gpu == nullptr) {
    return measure_cpu(config, static_cast<int>(arguments.integer("--gpus-per-node")));
  }
  Processor out;
  const bool bf16 = config.train().precision() == BF16;
  if (bf16 && gpu->bf16 == 0) {
    arguments.refuse("the ", gpu->name, " has no bf16 arithmetic; set train.precision=FP32");
  }
  out.memory = gpu->memory_gib * (1 << 30);
  // LibTorch lets cuDNN's convolutions compute in TF32, and products not.
  out.products = kTera * (bf16 ? gpu->bf16 : gpu->fp32);
  out.convolutions = kTera * (bf16 ? gpu->bf16 : gpu->tf32);
  out.features = kTera * gpu->tf32;
  out.bandwidth = 1e9 * gpu->memory;
  out.link = 1e9 * gpu->link;
  out.host = 1e9 * gpu->host;
  return out;
}

Cluster cluster_of(const Arguments& arguments, const Config& config) {
  Cluster out;
  out.nodes = static_cast<int>(arguments.integer("--nodes"));
  out.gpus_per_node = static_cast<int>(arguments.integer("--gpus-per-node"));
  check_batch(config, out.nodes * out.gpus_per_node);
  out.processor = processor_of(arguments, config);
  out.net = arguments.rate("--net");
  out.fs = arguments.rate("--fs");
  out.utilisation = arguments.has("--utilisation") ? arguments.number("--utilisation")
                    : out.processor.cpu            ? kCpuUtilisation
                                                   : kGpuUtilisation;
  return out;
}

// Refused where it was measured of another model, precision or kind of device.
StepBench bench_of(const Arguments& arguments, const std::string& path, const Config& config,
                   const RunEstimate& run) {
  const std::string text = read_file(real_file_system(), path, 1 << 20);
  const auto number = [&](const char* name) {
    double value = 0;
    if (!parse(json_member(text, name), &value)) {
      fail(Code::kUsage, printable(path), " has no ", name,
           "; expected what `lastframe bench step --json` prints");
    }
    return value;
  };
  StepBench out{.seconds = number("ms_per_step") / 1e3,
                .communication_share = number("communication_share"),
                .ranks = static_cast<int>(number("ranks")),
                .batch = static_cast<int>(number("batch"))};
  const auto same = [&](const std::string& what, const std::string& theirs,
                        const std::string& ours) {
    if (theirs == ours) return;
    fail(Code::kUsage, printable(path), " was measured with ", what, " ", theirs,
         ", and this run has ", ours, "; measure it with this config");
  };
  Json shape;
  shape.array([&] {
    for (const int side : run.format.shape.sides()) shape.value(side);
  });
  same("parameters", json_member(text, "parameters"), std::to_string(run.parameters));
  same("clips of", json_member(text, "clip_shape"), shape.text());
  same("precision", json_member(text, "precision"), Precision_Name(config.train().precision()));
  const std::string device = json_member(text, "device");
  same("device", device.substr(0, device.find(':')),
       arguments.get("--gpu") == "cpu" ? "cpu" : "cuda");
  if (out.ranks < 1 || out.batch < 1) number("a batch and ranks");
  return out;
}

std::string with_unit(double value, const char* unit) {
  char text[64];
  std::snprintf(text, sizeof text, "%.4g%s", value, unit);
  return text;
}

// Rates in powers of 1000, as they are given.
std::string rate_text(double bytes_per_second) {
  if (bytes_per_second >= 1e9) return with_unit(bytes_per_second / 1e9, " GB/s");
  return with_unit(bytes_per_second / 1e6, " MB/s");
}

std::string value_text(const std::string& name, double value) {
  if (name.ends_with("bytes_per_s")) return rate_text(value);
  if (name.find("bytes") != std::string::npos) return human_bytes(static_cast<uint64_t>(value));
  if (name.ends_with("_share")) return with_unit(100 * value, "%");
  if (name.find("seconds") == std::string::npos) return with_unit(value, "");
  if (value >= 60) return human_seconds(value);
  return value >= 1 || value == 0 ? with_unit(value, " s") : with_unit(1e3 * value, " ms");
}

std::string explained(const Quantities& plan) {
  std::string text;
  for (const Quantity& one : plan.all()) {
    char head[64];
    std::snprintf(head, sizeof head, "%-28s %-14s", one.name.c_str(),
                  value_text(one.name, one.value).c_str());
    text += str(head, one.formula.empty() ? "" : "= " + one.formula + "   ", "(", one.about, ")\n");
  }
  return text;
}

std::string summary(const Arguments& arguments, const Config& config, const Quantities& plan) {
  const auto is = [&](const char* name) { return value_text(name, plan[name]); };
  const auto count = [&](const char* name) {
    return human_count(static_cast<uint64_t>(std::llround(plan[name])));
  };
  const bool cpu = arguments.get("--gpu") == "cpu";
  std::string text = str(
      count("gpus"), cpu ? " rank" : " GPU", plan["gpus"] == 1 ? "" : "s",
      cpu ? " on CPU cores" : " (" + arguments.get("--gpu") + ")", " of ", count("nodes"),
      plan["nodes"] == 1 ? " node; " : " nodes; ", count("steps"), " steps of ",
      config.train().batch(), " clips, ", value_text("", plan["images_per_gpu"]),
      cpu ? " a rank\n" : " a GPU\n", "memory      ", is("memory_bytes_per_gpu"),
      plan.has("memory_share") ? str(", ", is("memory_share"), " of ", is("gpu_memory_bytes")) : "",
      "\n");
  if (plan.has("memory_share") && plan["memory_share"] > 1) {
    text += str("            it does not fit: ", std::max(0.0, plan["most_images_at_once"]),
                " clips at a time do; raise train.accumulation, or set train.recompute\n");
  }
  text += str("step        ", is("step_seconds"), ": arithmetic ", is("compute_seconds"),
              ", optimiser ", is("optimizer_seconds"), ", all-reduce ", is("allreduce_seconds"),
              " of which ", is("allreduce_hidden_seconds"), " hidden; ",
              value_text("", plan["images_per_s"]), " images/s\n");
  text += str("data        ", is("data_bytes_per_s"), " of ", is("fs_bytes_per_s"),
              plan["data_seconds"] >= plan["step_seconds"] ? ": reading sets the pace" : "", "\n");
  text +=
      str("checkpoint  training waits ", is("checkpoint_stall_seconds"), ", every ",
          is("checkpoint_interval_seconds"), "; ", is("checkpoint_write_seconds"), " to write\n");
  text += str("lost        ", is("preemption_seconds"), " at a preemption, ", is("kill_seconds"),
              " at a failure without notice\n");
  text += str("FID-50k     ", is("fid50k_seconds"), "\n");
  return text + str("in all      ", value_text("", plan["gpu_hours"]),
                    cpu ? " rank-hours, " : " GPU-hours, ", is("wall_seconds"), "\n");
}

std::string as_json(const Quantities& plan, bool explain) {
  Json json;
  json.object([&] {
    for (const Quantity& one : plan.all()) json.field(one.name, one.value);
    if (!explain) return;
    json.object("formulas", [&] {
      for (const Quantity& one : plan.all()) {
        if (!one.formula.empty()) json.field(one.name, one.formula);
      }
    });
    json.object("about", [&] {
      for (const Quantity& one : plan.all()) json.field(one.name, one.about);
    });
  });
  return json.text() + "\n";
}

}  // namespace

int plan_run(const Arguments& arguments, Config config) {
  if (config.model().kind_case() == ModelConfig::KIND_NOT_SET) {
    arguments.refuse(
        "--gpu plans a training run, and the config has no model; give one as --config");
  }
  // A store that is not here is planned from what the config tells.
  const std::string store = config.train().store();
  if (real_file_system().exists(index_path(store))) {
    config = config_on_stores(config);
  } else if (!store.empty() && config.source().kind_case() == SourceConfig::KIND_NOT_SET) {
    arguments.refuse("train.store: there is no store ", printable(store),
                     ", and the config has no source that tells the shape of its clips; set one");
  } else {
    config.mutable_train()->clear_store();
  }
  config.mutable_train()->clear_validation_store();
  World& world = World::join();
  const Cluster cluster = cluster_of(arguments, config);
  const bool cpu = cluster.processor.cpu;
  // As on a GPU, where the fused operations are off unless asked for.
  if (!cpu && !config.train().gpu_kernels()) config.mutable_train()->set_kernels(REFERENCE);
  const RunEstimate run = estimate_run(world, config, cluster.nodes * cluster.gpus_per_node,
                                       cpu ? Trials::kMemory : Trials::kArithmetic);
  const double sample = sampling_flops(world, config, run.format.shape);
  std::optional<StepBench> bench;
  if (arguments.has("--bench")) {
    bench = bench_of(arguments, arguments.get("--bench"), config, run);
  }
  const Quantities plan = plan_on_cluster(config, run, sample, cluster, bench);
  const bool explain = arguments.has("--explain");
  print(arguments.has("--json")
            ? as_json(plan, explain)
            : summary(arguments, config, plan) + (explain ? "\n" + explained(plan) : ""));
  return 0;
}

}  // namespace lf
