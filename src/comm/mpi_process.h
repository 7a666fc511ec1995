// Open MPI in this process. Declares nothing of mpi.h, so that whoever includes this need not see
// MPI.
#pragma once

namespace lf {

// Throws Code::kPeer, "MPI could not ACTION: ...", unless `status`, which an MPI function returned,
// is MPI_SUCCESS.
void check_mpi(int status, const char* action);

}  // namespace lf
