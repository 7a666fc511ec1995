// The watchdog's channel: small UDP packets, because they never block, never need an answer, and do
// not pass through MPI, which may be what hangs. Every rank sends its beat to rank 0, and rank 0
// its own to every rank it has heard. A lost packet does not matter; a long silence is
// what the watchdog looks for. IPv4.
#pragma once

#include <netinet/in.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "comm/activity.h"
#include "comm/world.h"

namespace lf {

// Plain bytes on the wire: all ranks run one program on one kind of machine.
struct Beat {
  uint64_t token = 0;  // of this job, so that foreign packets are ignored
  int32_t rank = -1;
  int32_t leaving = 0;         // the rank stops its watch in order; silence is fine from now on
  double stalled_seconds = 0;  // since its activity last changed, by the rank's own ticks
  double step_seconds = 0;     // its own part of a step, lately; 0: not known yet
  Activity activity;
};

class HeartbeatChannel {
 public:
  // Collective, and up to five seconds long: opens the sockets and waits until rank 0 and each
  // other rank have heard of one another. If that fails (a firewall), connected() is false on every
  // rank.
  HeartbeatChannel(World& world, const std::string& root_address);
  ~HeartbeatChannel();
  HeartbeatChannel(const HeartbeatChannel&) = delete;
  HeartbeatChannel& operator=(const HeartbeatChannel&) = delete;

  bool connected() const { return connected_; }
  // To rank 0, or from rank 0 to all it has heard. Never blocks, never fails.
  void send(Beat beat);
  // Calls `take` for each packet that has come. Never blocks.
  void receive(const std::function<void(const Beat&)>& take);

 private:
  bool open_sockets(World& world, const std::string& root_address);
  void meet(World& world);

  int rank_, size_;
  int socket_ = -1;
  uint64_t token_ = 0;
  bool connected_ = false;
  sockaddr_in root_{};
  std::vector<sockaddr_in> heard_;  // on rank 0: by rank; port 0 if not yet
};

}  // namespace lf
