// One of the three files that include mpi.h.
#include "comm/mpi_process.h"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "base/error.h"

namespace lf {

static int number_in(const char* variable) {
  const char* text = std::getenv(variable);
  return text == nullptr ? 0 : std::atoi(text);
}

void check_mpi(int status, const char* action) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  fail(Code::kPeer, "MPI could not ", action, ": ", std::string(text, static_cast<size_t>(length)),
       "; was a rank lost? See the ranks' logs, then start the job again");
}

int launched_ranks() {
  if (const int ranks = number_in("OMPI_COMM_WORLD_SIZE"); ranks > 0) return ranks;
  if (const int ranks = number_in("PMI_SIZE"); ranks > 0) return ranks;
  const int tasks = number_in("SLURM_STEP_NUM_TASKS");
  if (std::getenv("PMIX_RANK") != nullptr) return std::max(tasks, 1);
  if (tasks > 1) {  // each would take itself for the whole world
    fail(Code::kUsage, "srun started ", tasks,
         " tasks without a way for Open MPI to connect them; ",
         "use srun --mpi=pmix, or mpirun inside the allocation");
  }
  return 0;
}

int launched_rank() {
  for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"}) {
    if (std::getenv(variable) != nullptr) return number_in(variable);
  }
  return 0;
}

void start_mpi(int launched) {
  ::setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);  // more threads than cores must not collapse
  int provided = 0;
  check_mpi(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &provided), "start");
  if (provided != MPI_THREAD_MULTIPLE) {
    fail(Code::kUsage, "this Open MPI gives thread level ", provided, ", expected ",
         MPI_THREAD_MULTIPLE, " (MPI_THREAD_MULTIPLE); use a build that supports threads");
  }
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (size < launched) {
    fail(Code::kUsage, "the launcher started ", launched, " ranks but Open MPI sees ", size,
         "; start with Open MPI's own mpirun, or with srun --mpi=pmix");
  }
}

bool mpi_is_running() {
  int started = 0, finalised = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&finalised);
  return started != 0 && finalised == 0;
}

static void exit_in_five_seconds(int status) {
  std::thread([status] {
    std::this_thread::sleep_for(std::chrono::seconds(5));
    ::_exit(status);
  }).detach();
}

void finish_mpi(int status) {
  std::fflush(nullptr);
  exit_in_five_seconds(status);
  MPI_Finalize();
}

void abort_all_ranks(int status) {
  std::fflush(nullptr);
  if (mpi_is_running()) {
    exit_in_five_seconds(status);  // MPI_Abort asks the launcher's daemon, which may be gone too
    MPI_Abort(MPI_COMM_WORLD, status);
  }
  ::_exit(status);
}

}  // namespace lf
