#include "base/host.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <thread>

namespace lf {
namespace {

// Whole cores, rounded up, that the control group's quota lets run at a time; 0: there is none. A
// container sees its own group at the root; of version 1 the quota is in two files.
int cores_of_quota() {
  std::string quota = "max";
  double period = 0;
  if (std::ifstream two("/sys/fs/cgroup/cpu.max"); two >> quota >> period) {
  } else if (std::ifstream one("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"); one >> quota) {
    std::ifstream("/sys/fs/cgroup/cpu/cpu.cfs_period_us") >> period;
  }
  const double allowed = std::atof(quota.c_str());  // "max" and "-1" are none
  return allowed > 0 && period > 0 ? static_cast<int>(std::ceil(allowed / period)) : 0;
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

int threads_for(int wanted, int ranks_here) {
  if (wanted > 0) return wanted;
  const int all = static_cast<int>(std::thread::hardware_concurrency());
  const int ranks = std::max(1, ranks_here);
  cpu_set_t set;
  CPU_ZERO(&set);
  const int usable = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : all;
  // A launcher that bound each rank has divided the cores already.
  int share = usable < all ? usable : usable / ranks;
  if (const int quota = cores_of_quota(); quota > 0) share = std::min(share, quota / ranks);
  return std::max(1, share);
}

}  // namespace lf
