// This machine: its name, and the cores of it that a process may use.
#pragma once

#include <string>

namespace lf {

std::string host_name();  // as gethostname() gives it; "unknown" if it fails

// `wanted`, or where it is 0 the share of one of `ranks_here` ranks in the cores that this process
// may use by its CPU affinity and its control group's quota; at least 1.
int threads_for(int wanted, int ranks_here);

}  // namespace lf
