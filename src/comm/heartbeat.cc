#include "comm/heartbeat.h"

#include <netdb.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <thread>
#include <type_traits>

namespace lf {
namespace {

static_assert(std::is_trivially_copyable_v<Beat>);

constexpr int kMeetings = 100;  // tries, 50 ms each
constexpr std::chrono::milliseconds kBetweenMeetings{50};

bool resolve(const std::string& host, sockaddr_in& address) {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0 || found == nullptr) return false;
  address = *reinterpret_cast<const sockaddr_in*>(found->ai_addr);
  ::freeaddrinfo(found);
  return true;
}

}  // namespace

HeartbeatChannel::HeartbeatChannel(World& world, const std::string& root_address)
    : rank_(world.rank()), size_(world.size()), heard_(static_cast<size_t>(world.size())) {
  if (size_ == 1) return;
  const bool open = open_sockets(world, root_address);
  if (world.min(static_cast<int64_t>(open)) == 0) return;
  meet(world);
}

HeartbeatChannel::~HeartbeatChannel() {
  if (socket_ >= 0) ::close(socket_);
}

bool HeartbeatChannel::open_sockets(World& world, const std::string& root_address) {
  socket_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  sockaddr_in local{};
  local.sin_family = AF_INET;
  local.sin_addr.s_addr = htonl(INADDR_ANY);
  bool open = socket_ >= 0 &&
              ::bind(socket_, reinterpret_cast<const sockaddr*>(&local), sizeof(local)) == 0;
  // Rank 0's port and the job's token, to all.
  struct {
    uint64_t token = 0;
    uint16_t port = 0;
  } greeting;
  if (rank_ == 0 && open) {
    socklen_t length = sizeof(local);
    open = ::getsockname(socket_, reinterpret_cast<sockaddr*>(&local), &length) == 0 &&
           ::getrandom(&greeting.token, sizeof(greeting.token), 0) == sizeof(greeting.token);
    greeting.port = local.sin_port;
  }
  const std::string text =
      world.broadcast(std::string(reinterpret_cast<const char*>(&greeting), sizeof(greeting)));
  text.copy(reinterpret_cast<char*>(&greeting), sizeof(greeting));
  token_ = greeting.token;
  if (rank_ != 0) {
    open = open && resolve(root_address, root_);
    root_.sin_port = greeting.port;
  }
  return open;
}

void HeartbeatChannel::meet(World& world) {
  int heard = 0;
  std::vector<bool> seen(static_cast<size_t>(size_), false);
  const int wanted = rank_ == 0 ? size_ - 1 : 1;
  // Rank 0 keeps answering while others have not heard it yet, so all ranks stop together.
  for (int meeting = 0; meeting < kMeetings && !connected_; ++meeting) {
    send({});
    std::this_thread::sleep_for(kBetweenMeetings);
    receive([&](const Beat& beat) {
      if (!seen[static_cast<size_t>(beat.rank)]) ++heard;
      seen[static_cast<size_t>(beat.rank)] = true;
    });
    connected_ = world.min(static_cast<int64_t>(heard >= wanted)) == 1;
  }
}

void HeartbeatChannel::send(Beat beat) {
  if (socket_ < 0) return;
  beat.rank = rank_;
  beat.token = token_;
  const auto send_to = [&](const sockaddr_in& address) {
    (void)::sendto(socket_, &beat, sizeof(beat), MSG_DONTWAIT | MSG_NOSIGNAL,
                   reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  };
  if (rank_ != 0) {
    send_to(root_);
    return;
  }
  for (const sockaddr_in& address : heard_) {
    if (address.sin_port != 0) send_to(address);
  }
}

void HeartbeatChannel::receive(const std::function<void(const Beat&)>& take) {
  if (socket_ < 0) return;
  Beat beat;
  sockaddr_in from{};
  while (true) {
    socklen_t length = sizeof(from);
    const ssize_t got = ::recvfrom(socket_, &beat, sizeof(beat), MSG_DONTWAIT,
                                   reinterpret_cast<sockaddr*>(&from), &length);
    if (got < 0) return;
    if (got != sizeof(beat) || beat.token != token_ || beat.rank < 0 || beat.rank >= size_ ||
        beat.rank == rank_) {
      continue;
    }
    beat.activity.phase.back() = beat.activity.collective.back() = '\0';
    if (rank_ == 0) heard_[static_cast<size_t>(beat.rank)] = from;
    take(beat);
  }
}

}  // namespace lf
