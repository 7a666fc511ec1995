// Open MPI in this process: how it starts, fails and stops. Declares nothing of mpi.h.
#pragma once

namespace lf {

// Throws Code::kPeer, "MPI could not ACTION: ...", unless `status`, which an MPI function returned,
// is MPI_SUCCESS.
void check_mpi(int status, const char* action);

// How many ranks the launcher (mpirun, or srun with PMIx) started; 0 without a launcher.
// Code::kUsage if srun started several tasks that Open MPI cannot connect.
int launched_ranks();

// This process's rank among them, as the launcher says; 0 without one.
int launched_rank();

// Starts MPI, for any number of threads. Code::kUsage if it sees fewer ranks than were launched.
void start_mpi(int launched);

// Whether MPI is started and not yet finalised.
bool mpi_is_running();

// Leaves MPI in order, as all ranks must; if that hangs this process still exits with the status.
void finish_mpi(int status);

// Stops every rank with this status at once, or this process alone if MPI is not running.
[[noreturn]] void abort_all_ranks(int status);

}  // namespace lf
