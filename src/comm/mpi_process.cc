// One of the three files that include mpi.h.
#include "comm/mpi_process.h"

#include <mpi.h>

#include <string>

#include "base/error.h"

namespace lf {

void check_mpi(int status, const char* action) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  fail(Code::kPeer, "MPI could not ", action, ": ", std::string(text, static_cast<size_t>(length)),
       "; was a rank lost? See the ranks' logs, then start the job again");
}

}  // namespace lf
