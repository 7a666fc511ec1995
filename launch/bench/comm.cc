// `lastframe bench comm`: the speed of our all-reduce of gradients beside bare MPI_Allreduce. Both
// alternate within one run: on a shared machine only their ratio is stable.
#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "comm/process_group.h"
#include "comm/world.h"
#include "launch/commands.h"
#include "launch/options/arguments.h"
#include "launch/output.h"

namespace lf {
namespace {

constexpr int64_t kSmallest = 4, kLargest = int64_t{64} << 20, kStep = 4;

struct Timing {
  int64_t bytes = 0;
  double direct = 0, backend = 0;  // seconds of one all-reduce, lower quartile of the trials
  double ratio() const { return direct / backend; }
};

// Rather than the median: other programs on the cores lengthen trials, never shorten them.
double lower_quartile(std::vector<double> values) {
  const auto quarter = values.begin() + static_cast<int64_t>(values.size() / 4);
  std::nth_element(values.begin(), quarter, values.end());
  return *quarter;
}

template <typename Reduce>
double seconds_of(int64_t repeats, Reduce&& reduce) {
  float nothing = 0;
  direct_all_reduce(&nothing, 1);  // all ranks start together
  const Clock::time_point begin = Clock::now();
  for (int64_t i = 0; i < repeats; ++i) reduce();
  return seconds_since(begin) / static_cast<double>(repeats);
}

Timing time_size(c10d::ProcessGroup& group, int64_t bytes, int64_t trials) {
  const int64_t count = bytes / static_cast<int64_t>(sizeof(float));
  std::vector<at::Tensor> tensors = {at::zeros({count})};
  const auto direct = [&] {
    direct_all_reduce(static_cast<float*>(tensors[0].data_ptr()), static_cast<size_t>(count));
  };
  const auto backend = [&] { group.allreduce(tensors)->wait(); };
  // Several in a row, so that each way finds its data in the caches it left them in.
  const int64_t repeats = std::clamp<int64_t>((int64_t{32} << 20) / bytes, 1, 100);
  seconds_of(2, direct);
  seconds_of(2, backend);
  std::vector<double> direct_seconds, backend_seconds;
  for (int64_t trial = 0; trial < trials; ++trial) {
    const bool direct_first = trial % 2 == 0;
    if (direct_first) direct_seconds.push_back(seconds_of(repeats, direct));
    backend_seconds.push_back(seconds_of(repeats, backend));
    if (!direct_first) direct_seconds.push_back(seconds_of(repeats, direct));
  }
  return {bytes, lower_quartile(std::move(direct_seconds)),
          lower_quartile(std::move(backend_seconds))};
}

void print_json(const World& world, int64_t trials, const std::vector<Timing>& timings) {
  Json report;
  report.object([&] {
    report.field("world", world.size()).field("trials", trials);
    report.array("allreduce", [&] {
      for (const Timing& timing : timings) {
        report.object([&] {
          report.field("bytes", timing.bytes)
              .field("direct_us", timing.direct * 1e6)
              .field("backend_us", timing.backend * 1e6)
              .field("ratio", timing.ratio());
        });
      }
    });
  });
  print(report.text() + "\n");
}

void print_table(const World& world, const std::vector<Timing>& timings) {
  std::printf("all-reduce of float32 on %d ranks; ratio: speed against MPI_Allreduce\n",
              world.size());
  std::printf("%10s %14s %14s %8s\n", "size", "MPI, us", "ours, us", "ratio");
  for (const Timing& timing : timings) {
    std::printf("%10s %14.1f %14.1f %8.2f\n",
                human_bytes(static_cast<uint64_t>(timing.bytes)).c_str(), timing.direct * 1e6,
                timing.backend * 1e6, timing.ratio());
  }
}

int bench_comm(const Arguments& arguments) {
  const int64_t trials = arguments.integer("--trials");
  const int64_t largest = arguments.integer("--max-bytes", kLargest);
  World& world = World::join();
  if (world.size() < 2) {
    fail(Code::kUsage,
         "lastframe bench comm reduces over ranks and this is the only one; start it with "
         "mpirun -n 2 --bind-to none");
  }
  ProcessGroupPtr group = make_process_group(world, CommConfig());
  std::vector<Timing> timings;
  for (int64_t bytes = kSmallest; bytes <= largest; bytes *= kStep) {
    timings.push_back(time_size(*group, bytes, trials));
  }
  end_process_group(group);
  if (!world.is_root()) return 0;
  if (arguments.has("--json")) {
    print_json(world, trials, timings);
  } else {
    print_table(world, timings);
  }
  return 0;
}

constexpr Option kBenchCommOptions[] = {
    {"--trials",
     integer(1, 10000),
     "trials of each way; the lower quartile is shown",
     {.fallback = "21"}},
    {"--max-bytes",
     integer(kSmallest, kLargest),
     "size of the largest message",
     {.fallback = "67108864"}},
    kJsonOption,
};

}  // namespace

const Command kBenchCommCommand = {
    .name = "bench comm",
    .summary = "times our all-reduce on host memory beside MPI_Allreduce",
    .details =
        "Both reduce the same floats, alternating, at 4 bytes and each power of 4 up to 64 MiB. "
        "The ratio is our speed divided by MPI's own. Ours also checks that all ranks make the "
        "same call, leaves the core to others while a rank is late, and overlaps with "
        "computation.",
    .example =
        "mpirun -n 2 --bind-to none lastframe bench comm\n"
        "mpirun -n 4 --bind-to none lastframe bench comm --max-bytes 16777216 --json",
    .options = kBenchCommOptions,
    .run = bench_comm,
};

}  // namespace lf
