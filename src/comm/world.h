// The control plane: the ranks, small messages between them, and how the process exits. A World is
// Open MPI's (started by mpirun, or by srun with PMIx), or of one process without a launcher. It
// moves bytes and agreements, never gradients (GradientSync does).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lf {

class World {
 public:
  // Joins the world, once per process; later calls return the same. MPI is initialised only if a
  // launcher started us, so a lone process needs no MPI runtime.
  static World& join();
  // True once join() was called.
  static bool joined();
  // The last act of the process; returns `status`. Backends must be destroyed before. 0 leaves MPI
  // in order (collective). With another status a rank logs `sentence`, unless a lower one says the
  // same, and takes those along that wait for it in a collective: if all end so within seconds they
  // leave MPI in order, otherwise every rank is stopped with this status (MPI_Abort).
  static int end(int status, const std::string& sentence = "");
  // Ends this process like another rank that has ended with an error, if one has: for loops that
  // wait for other ranks.
  static void follow();
  // Stops every rank with this status at once, stopped and stuck ones too. From any thread.
  [[noreturn]] static void abort(int status);
  ~World();

  // Collective. The ranks that gave the same number, as a world of their own in the same order,
  // owned by this one.
  World& part(int number);

  int rank() const { return rank_; }
  int size() const { return size_; }
  // Among all ranks of this machine, those of other parts too: they share its cores and devices.
  int local_rank() const { return local_rank_; }
  int local_size() const { return local_size_; }
  bool on_one_machine() const { return on_one_machine_; }
  bool is_root() const { return rank_ == 0; }

  // Collective; every rank must call them in the same order, from one thread. A rank that waits
  // for the others sleeps. A failure of MPI is Code::kPeer.
  void barrier();
  std::string broadcast(const std::string& bytes);                // rank 0's bytes, on every rank
  std::vector<std::string> gather(const std::string& bytes);      // on rank 0, by rank; else empty
  std::vector<std::string> all_gather(const std::string& bytes);  // on every rank, by rank
  int64_t sum(int64_t value);
  int64_t min(int64_t value);
  int64_t max(int64_t value);
  double sum(double value);
  double max(double value);
  // Throws Code::kUsage on every rank, naming `what` and the ranks that differ, unless all ranks
  // gave the same text (their config, their program version).
  void agree(const std::string& what, const std::string& text);

  // Not collective: post() sends a small message to one other rank without waiting, take() returns
  // the oldest one that has come from that rank. From the thread of the collectives.
  void post(int rank, const std::string& bytes);
  std::optional<std::string> take(int rank);

  // The address of Open MPI's MPI_Comm, for MpiBackend; null in a world of one without MPI.
  const void* communicator() const;

 private:
  struct Link;  // to Open MPI
  World();
  World(const World& whole, int number);
  void find_machine();
  void leave();
  void part_ways(int status, const std::string& sentence);
  std::unique_ptr<Link> link_;
  std::vector<std::unique_ptr<World>> parts_;
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  bool on_one_machine_ = true;
};

// "rank 2", "ranks 0, 2 and 5", "ranks 1, 2, 3, ... (12 in all)".
std::string name_ranks(const std::vector<int>& ranks);

// The ranks whose entry is not the one that most have (on a tie, the one of the lowest rank), and
// the lowest rank that has that one.
struct Dissent {
  std::vector<int> ranks;
  int reference = 0;
};
Dissent find_dissent(const std::vector<std::string>& by_rank);

}  // namespace lf
