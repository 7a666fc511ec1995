#include "comm/process_group.h"

#include <chrono>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "base/error.h"
#include "comm/address.h"

namespace lf {
namespace {

using std::chrono::milliseconds;

constexpr double kGraceSeconds = 5;  // the watchdog, which can name the rank, comes first

milliseconds collective_timeout(const CommConfig& config) {
  return milliseconds(static_cast<int64_t>((config.timeout_seconds() + kGraceSeconds) * 1000));
}

// Rank 0 serves it on a free port.
c10::intrusive_ptr<c10d::Store> make_tcp_store(World& world, const CommConfig& config) {
  const std::string address = root_address(world, config);
  c10d::TCPStoreOptions options;
  options.port = 0;
  options.waitWorkers = false;  // they learn the port below
  options.timeout = collective_timeout(config);
  c10::intrusive_ptr<c10d::Store> store;
  std::string port;
  std::string problem;
  try {
    if (world.is_root()) {
      options.isServer = true;
      const auto server = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
      port = std::to_string(server->getPort());
      store = server;
    }
  } catch (const std::exception& error) {
    problem = error.what();
  }
  port = world.broadcast(port);
  if (!port.empty() && !world.is_root()) {
    try {
      options.isServer = false;
      options.port = static_cast<uint16_t>(std::stoi(port));
      store = c10::make_intrusive<c10d::TCPStore>(address, options);
    } catch (const std::exception& error) {
      problem = error.what();
    }
  }
  if (world.max(static_cast<int64_t>(store == nullptr)) != 0) {
    const std::string first = problem.substr(0, problem.find('\n'));
    fail(Code::kPeer, "not every rank reaches the store of rank 0 at ", address, " port ", port,
         first.empty() ? "" : ": ", first, "; set comm.address to a name the machines reach");
  }
  return store;
}

}  // namespace

ProcessGroupPtr make_process_group(World& world, const CommConfig& config,
                                   DeviceBackend* device_backend, int device) {
  const bool on_device = device_backend != nullptr;
  c10::intrusive_ptr<c10d::Store> store = c10::make_intrusive<c10d::HashStore>();
  if (on_device) store = make_tcp_store(world, config);
  auto group = c10::make_intrusive<c10d::ProcessGroup>(store, world.rank(), world.size());
  using Type = c10d::ProcessGroup::BackendType;
  group->setBackend(c10::DeviceType::CPU, Type::CUSTOM,
                    c10::make_intrusive<MpiBackend>(world, collective_timeout(config)));
  if (on_device) {
    group->setBackend(c10::DeviceType::CUDA, Type::NCCL,
                      device_backend->make_nccl_backend(
                          c10::make_intrusive<c10d::PrefixStore>("nccl", store), world.rank(),
                          world.size(), device, collective_timeout(config)));
  }
  group->setDefaultBackend(on_device ? Type::NCCL : Type::CUSTOM);
  group->setGroupName("world");
  return group;
}

MpiBackend& mpi_backend_of(c10d::ProcessGroup& group) {
  const auto backend = group.getBackend(c10::DeviceType::CPU);
  auto* mpi = dynamic_cast<MpiBackend*>(backend.get());
  LF_CHECK(mpi != nullptr, "the group was not made by make_process_group()");
  return *mpi;
}

void end_process_group(ProcessGroupPtr& group) {
  if (!group) return;
  group->shutdown();
  group.reset();
}

}  // namespace lf
