// All-reduces 16 MiB again and again as a training would, under the watchdog, until ranks_test.py
// stops it. Arguments: comm.timeout_seconds, the rank that hangs by itself at step 20 (-1: none),
// and after how many seconds of steps to exit in order.
#include <ATen/core/Tensor.h>
#include <ATen/ops/ones.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "comm/process_group.h"
#include "comm/watchdog.h"

namespace lf {
namespace {

void train(double timeout, int hanging, double seconds) {
  World& world = World::join();
  CommConfig config;
  config.set_timeout_seconds(timeout);
  ProcessGroupPtr group = make_process_group(world, config);
  Watchdog watchdog(world, config);
  const Watchdog::Phase phase("train");
  std::fprintf(stderr, "rank %d is process %d\n", world.rank(), static_cast<int>(::getpid()));
  std::vector<at::Tensor> tensors = {at::ones({4 << 20})};
  const Clock::time_point begun = Clock::now();
  for (int64_t step = 0;; ++step) {
    watchdog.begin_step(step);
    if (step >= 20 && world.rank() == hanging) {
      std::this_thread::sleep_for(std::chrono::hours(1));
    }
    group->allreduce(tensors)->wait();
    tensors[0].fill_(1);
    if (world.max(static_cast<int64_t>(seconds_since(begun) > seconds)) != 0) break;
  }
  end_process_group(group);
}

}  // namespace
}  // namespace lf

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  int status = 0;
  try {
    lf::start_log("hang_program", lf::World::join().rank());
    lf::train(std::atof(argv[1]), std::atoi(argv[2]), std::atof(argv[3]));
  } catch (const lf::Error& error) {
    lf::log_fatal_line(error.what());
    status = error.exit_status();
  }
  return lf::World::end(status);
}
