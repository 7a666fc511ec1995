#include "comm/address.h"

#include "base/host.h"

namespace lf {

std::string root_address(World& world, const CommConfig& config) {
  std::string address = config.address();
  if (address.empty() && world.on_one_machine()) address = "127.0.0.1";
  if (address.empty()) address = host_name();
  return world.broadcast(address);
}

}  // namespace lf
