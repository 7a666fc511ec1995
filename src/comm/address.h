// Where the other ranks reach rank 0 by TCP and UDP: for the store through which NCCL connects and
// for the watchdog's heartbeats. MPI's own connections have their own settings.
#pragma once

#include <string>

#include "comm/world.h"
#include "run.pb.h"

namespace lf {

// comm.address if it is set; the loopback address if all ranks share a machine; else rank 0's host
// name. The same on every rank. Collective.
std::string root_address(World& world, const CommConfig& config);

}  // namespace lf
