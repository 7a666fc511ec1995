#include "comm/address.h"

#include <unistd.h>

#include <array>

namespace lf {

std::string root_address(World& world, const CommConfig& config) {
  std::string address = config.address();
  if (address.empty() && world.on_one_machine()) address = "127.0.0.1";
  if (address.empty()) {
    std::array<char, 256> name{};
    ::gethostname(name.data(), name.size() - 1);
    address = name.data();
  }
  return world.broadcast(address);
}

}  // namespace lf
