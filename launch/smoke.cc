// Everything here is cheap enough to run before every job.
#include "launch/smoke.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/host.h"
#include "base/stop_signals.h"
#include "comm/process_group.h"
#include "launch/plugin.h"

namespace lf {
namespace {

// ---- all-reduce ---------------------------------------------------------------------------------

constexpr int kTimedRounds = 5;
constexpr int64_t kFloatInteger = int64_t{1} << 24;  // floats hold all integers up to here

// Rank r contributes (r % 8 + 1) * (i % period): integers whose sums and partial sums a float holds
// exactly, so that every order of summation gives the same bits.
int64_t factor_of(int64_t rank) { return rank % 8 + 1; }

int64_t sum_of_factors(int64_t ranks) {
  int64_t sum = 0;
  for (int64_t rank = 0; rank < ranks; ++rank) sum += factor_of(rank);
  return sum;
}

template <typename T>
void fill(at::Tensor& host, int64_t factor, int64_t period) {
  T* values = host.mutable_data_ptr<T>();
  for (int64_t i = 0; i < host.numel(); ++i) values[i] = static_cast<T>(factor * (i % period));
}

template <typename T>
bool holds(const at::Tensor& host, int64_t factor, int64_t period) {
  const T* values = host.const_data_ptr<T>();
  for (int64_t i = 0; i < host.numel(); ++i) {
    if (values[i] != static_cast<T>(factor * (i % period))) return false;
  }
  return true;
}

// One all-reduce of `elements` T on the group's device; false if a sum is wrong here.
template <typename T>
bool sums_are_right(c10d::ProcessGroup& group, const at::Device& device, World& world,
                    at::ScalarType type, int64_t elements, double* seconds) {
  const int64_t factors = sum_of_factors(world.size());
  const int64_t period = std::clamp<int64_t>(kFloatInteger / factors, 1, 1021);
  at::Tensor host = at::empty({elements}, at::TensorOptions().dtype(type));
  fill<T>(host, factor_of(world.rank()), period);
  at::Tensor tensor = host.to(device, /*non_blocking=*/false, /*copy=*/true);
  std::vector<at::Tensor> list = {tensor};
  world.barrier();
  const Clock::time_point begin = Clock::now();
  group.allreduce(list)->wait();
  if (device.is_cpu()) {
    *seconds = seconds_since(begin);
    return holds<T>(tensor, factors, period);
  }
  // On a device wait() only orders streams; reading an element waits for the sum.
  (void)tensor[elements - 1].item();
  *seconds = seconds_since(begin);
  return holds<T>(tensor.cpu(), factors, period);
}

// ---- folder -------------------------------------------------------------------------------------

// Tries to lock `descriptor` against everybody else, by flock() or by fcntl(). 0, or errno.
int lock(int descriptor, bool by_flock) {
  int status = 0;
  if (by_flock) {
    status = ::flock(descriptor, LOCK_EX | LOCK_NB);
  } else {
    struct flock whole {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    // Owned by the open file, not by the process, so that one process alone can test it.
    status = ::fcntl(descriptor, F_OFD_SETLK, &whole);
  }
  return status == 0 ? 0 : errno;
}

bool means_locked(int error) { return error == EWOULDBLOCK || error == EAGAIN || error == EACCES; }

class Descriptor {
 public:
  Descriptor(const std::string& path, int flags)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0666)) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

void note(std::string* trouble, const std::string& sentence) {
  if (trouble->empty()) *trouble = sentence;
}

// Publishes a file twice (the second time over the first) and reads it back.
void try_publishing(const std::string& path, FolderTrial* trial) {
  FileSystem& files = real_file_system();
  try {
    publish_file(files, path, "first");
    const Clock::time_point begin = Clock::now();
    publish_file(files, path, "second");
    trial->fsync_seconds = seconds_since(begin);
    trial->fsync = true;
    trial->rename = read_file(files, path, 64) == "second";
    if (!trial->rename) note(&trial->trouble, path + " does not hold what was renamed into place");
    files.remove(path);
  } catch (const Error& error) {
    note(&trial->trouble, error.what());
  }
}

// Rank 0 holds the lock; every rank, rank 0 through a second descriptor, must find it taken.
bool lock_is_kept(World& world, const std::string& path, bool by_flock, FolderTrial* trial) {
  const char* kind = by_flock ? "flock" : "fcntl";
  Descriptor owner(world.is_root() ? path : "/dev/null",
                   world.is_root() ? O_RDWR | O_CREAT : O_RDWR);
  bool ok = true;
  if (world.is_root()) {
    const int error = owner.get() < 0 ? errno : lock(owner.get(), by_flock);
    if (error != 0) {
      ok = false;
      note(&trial->trouble, str(path, " cannot be locked by ", kind, ": ", std::strerror(error)));
    }
  }
  world.barrier();
  Descriptor other(path, O_RDWR);
  if (other.get() < 0) {
    trial->shared = ok = false;
    note(&trial->trouble, str("rank ", world.rank(), " does not see ", path,
                              ", which rank 0 wrote; is the folder on a shared file system?"));
  } else if (const int error = lock(other.get(), by_flock); !means_locked(error)) {
    ok = false;
    note(&trial->trouble, error == 0 ? str("rank ", world.rank(), " got the ", kind, " lock of ",
                                           path, " that rank 0 holds; do not run two jobs there")
                                     : str(path, ": ", kind, ": ", std::strerror(error)));
  }
  world.barrier();
  if (world.is_root()) ::unlink(path.c_str());
  return ok;
}

// ---- signal -------------------------------------------------------------------------------------

// The pid of the next rank of this machine.
int64_t neighbour_of(World& world) {
  const std::string host = host_name();
  const std::vector<std::string> everybody = world.all_gather(str(::getpid(), " ", host));
  for (int step = 1; step <= world.size(); ++step) {
    const std::string& entry = everybody[static_cast<size_t>((world.rank() + step) % world.size())];
    const size_t space = entry.find(' ');
    int64_t pid = 0;
    if (entry.substr(space + 1) == host && parse(entry.substr(0, space), &pid)) return pid;
  }
  return ::getpid();
}

}  // namespace

AllReduceTrial try_all_reduce(World& world, int64_t bytes) {
  const Plugin& plugin = open_plugin();
  const bool on_gpu = world.sum(int64_t{plugin.backend != nullptr}) == world.size();
  const auto gpus = static_cast<int>(survey_gpus().gpus.size());
  const int index = on_gpu ? world.local_rank() % gpus : -1;
  const at::Device device =
      on_gpu ? at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(index)) : at::Device(at::kCPU);
  ProcessGroupPtr group =
      make_process_group(world, CommConfig(), on_gpu ? plugin.backend : nullptr, index);
  AllReduceTrial trial{.backend = on_gpu ? "nccl" : "mpi"};
  const int64_t elements = std::max<int64_t>(1, bytes / static_cast<int64_t>(sizeof(float)));
  trial.bytes = elements * static_cast<int64_t>(sizeof(float));
  double seconds = 0, best = 0;
  bool right = sums_are_right<int64_t>(*group, device, world, at::kLong, 1021, &seconds);
  for (int round = 0; round < kTimedRounds; ++round) {
    right = sums_are_right<float>(*group, device, world, at::kFloat, elements, &seconds) && right;
    const double slowest = world.max(seconds);
    best = round == 0 ? slowest : std::min(best, slowest);
  }
  end_process_group(group);
  trial.ok = world.min(int64_t{right}) == 1;
  trial.seconds = best;
  trial.bus_bandwidth =
      best > 0 ? 2.0 * (world.size() - 1) / world.size() * static_cast<double>(trial.bytes) / best
               : 0;
  return trial;
}

FolderTrial try_folder(World& world, const std::string& folder) {
  FolderTrial mine;
  mine.shared = true;
  // Rank 0's, so that all ranks name the same files.
  const std::string stem =
      world.broadcast(str(folder, "/.lastframe-doctor-", host_name(), "-", ::getpid()));
  try_publishing(str(stem, "-rank-", world.rank()), &mine);
  mine.flock = lock_is_kept(world, stem + ".flock", true, &mine);
  mine.fcntl = lock_is_kept(world, stem + ".fcntl", false, &mine);
  const auto everywhere = [&](bool ok) { return world.min(int64_t{ok}) == 1; };
  FolderTrial all;
  all.shared = everywhere(mine.shared);
  all.rename = everywhere(mine.rename);
  all.fsync = everywhere(mine.fsync);
  all.flock = everywhere(mine.flock);
  all.fcntl = everywhere(mine.fcntl);
  all.fsync_seconds = world.max(mine.fsync_seconds);
  for (const std::string& trouble : world.all_gather(mine.trouble)) note(&all.trouble, trouble);
  return all;
}

SignalTrial try_signal(World& world) {
  catch_stop_signals();
  const int64_t neighbour = neighbour_of(world);
  world.barrier();  // all handlers are in place
  SignalTrial trial;
  if (::kill(static_cast<pid_t>(neighbour), SIGUSR1) != 0) {
    trial.trouble = str("rank ", world.rank(), " cannot signal process ", neighbour, " on ",
                        host_name(), ": ", std::strerror(errno), "; separate containers?");
  }
  const Clock::time_point begin = Clock::now();
  while (last_stop_signal() != SIGUSR1 && seconds_since(begin) < 5) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  trial.ok = last_stop_signal() == SIGUSR1;
  if (!trial.ok && trial.trouble.empty()) {
    trial.trouble = str("rank ", world.rank(), " did not see SIGUSR1 within 5 s");
  }
  return trial;
}

}  // namespace lf
