// World over Open MPI; see world.h. One of the three files that include mpi.h.
#include "comm/world.h"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <list>
#include <memory>
#include <thread>

#include "base/clock.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/log.h"
#include "comm/activity.h"
#include "comm/mpi_process.h"
#include "comm/patience.h"

namespace lf {

struct World::Link {
  struct Posted {
    std::string bytes;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  MPI_Comm comm = MPI_COMM_NULL;      // ours alone; null in a world of one without MPI
  MPI_Comm farewell = MPI_COMM_NULL;  // of ranks that end with an error; not of parts
  std::list<Posted> posted;           // being sent: MPI reads them in place
};

namespace {

std::unique_ptr<World> g_world;

constexpr int kGatherTag = 1, kPostTag = 2, kFarewellTag = 3;
constexpr std::chrono::milliseconds kUntilHeard{2000}, kUntilStopped{3000};
constexpr size_t kPart = size_t{1} << 28;  // MPI counts are ints

void finish(MPI_Request* request, const char* what) {
  Patience patience;
  while (true) {
    int done = 0;
    check_mpi(MPI_Test(request, &done, MPI_STATUS_IGNORE), what);
    if (done != 0) return;
    if (g_world) World::follow();
    patience.pause();
  }
}

template <typename T>
T reduce(MPI_Comm comm, T value, MPI_Datatype type, MPI_Op operation, const char* name) {
  if (comm == MPI_COMM_NULL) return value;
  const CollectiveNote note(name, sizeof(T));
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Iallreduce(MPI_IN_PLACE, &value, 1, type, operation, comm, &request), name);
  finish(&request, name);
  return value;
}

void broadcast_bytes(MPI_Comm comm, void* bytes, size_t size) {
  for (size_t at = 0; at < size; at += kPart) {
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(MPI_Ibcast(static_cast<char*>(bytes) + at,
                         static_cast<int>(std::min(kPart, size - at)), MPI_BYTE, 0, comm, &request),
              "broadcast");
    finish(&request, "broadcast");
  }
}

template <typename Transfer>
void in_parts(size_t size, const char* what, Transfer&& transfer) {
  for (size_t at = 0; at < size; at += kPart) {
    MPI_Request request = MPI_REQUEST_NULL;
    check_mpi(transfer(at, static_cast<int>(std::min(kPart, size - at)), &request), what);
    finish(&request, what);
  }
}

std::string first_difference(const std::string& mine, const std::string& other) {
  const std::vector<std::string> a = split(mine, '\n'), b = split(other, '\n');
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i) {
    const std::string left = i < a.size() ? a[i] : "", right = i < b.size() ? b[i] : "";
    if (left != right) {
      return str("'", printable(left, 120), "' against '", printable(right, 120), "'");
    }
  }
  return "nothing visible";
}

}  // namespace

World::World() : link_(std::make_unique<Link>()) {
  const int expected = launched_ranks();
  if (expected == 0) return;
  start_mpi(expected);
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &link_->comm), "make a communicator");
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &link_->farewell), "make a communicator");
  MPI_Comm_set_errhandler(link_->comm, MPI_ERRORS_RETURN);
  MPI_Comm_set_errhandler(link_->farewell, MPI_ERRORS_RETURN);
  find_machine();
}

World::~World() = default;

// Own places, and those of the machine's ranks, by the communicator.
void World::find_machine() {
  MPI_Comm_rank(link_->comm, &rank_);
  MPI_Comm_size(link_->comm, &size_);
  MPI_Comm machine = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(link_->comm, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &machine),
            "find the ranks of this machine");
  MPI_Comm_rank(machine, &local_rank_);
  MPI_Comm_size(machine, &local_size_);
  MPI_Comm_free(&machine);
  on_one_machine_ = local_size_ == size_;
}

World::World(const World& whole, int number) : link_(std::make_unique<Link>()) {
  if (whole.link_->comm == MPI_COMM_NULL) return;
  check_mpi(MPI_Comm_split(whole.link_->comm, number, whole.rank_, &link_->comm), "part the ranks");
  MPI_Comm_set_errhandler(link_->comm, MPI_ERRORS_RETURN);
  find_machine();
  local_rank_ = whole.local_rank_;
  local_size_ = whole.local_size_;
}

World& World::part(int number) { return *parts_.emplace_back(new World(*this, number)); }

World& World::join() {
  if (g_world == nullptr) g_world.reset(new World());
  return *g_world;
}

bool World::joined() { return g_world != nullptr; }

int World::end(int status, const std::string& sentence) {
  if (!mpi_is_running()) {
    if (sentence.empty()) return status;
    // What is wrong before MPI starts is wrong with every rank: the launcher stops the others while
    // they wait, once the first has exited.
    if (launched_rank() > 0) std::this_thread::sleep_for(kUntilHeard);
    log_fatal_line(sentence);
  } else if (status == 0) {
    if (g_world) g_world->leave();
    MPI_Finalize();
  } else if (g_world && status != static_cast<int>(Code::kPeer)) {
    g_world->part_ways(status, sentence);
  } else {
    if (!sentence.empty()) log_fatal_line(sentence);
    abort(status);
  }
  return status;
}

// Without unwinding: MPI may still write to what a collective was given.
void World::follow() {
  const MPI_Comm comm = g_world->link_->farewell;
  int waits = 0, status = 0;
  MPI_Iprobe(MPI_ANY_SOURCE, kFarewellTag, comm, &waits, MPI_STATUS_IGNORE);
  if (waits == 0) return;
  MPI_Recv(&status, 1, MPI_INT, MPI_ANY_SOURCE, kFarewellTag, comm, MPI_STATUS_IGNORE);
  g_world->part_ways(status, "");
  ::_exit(status);
}

void World::part_ways(int status, const std::string& sentence) {
  const Clock::time_point begun = Clock::now();
  if (is_root() && !sentence.empty()) log_fatal_line(sentence);
  // Others tell rank 0, which tells all. Small messages leave at once.
  for (int rank = 0; rank < (is_root() ? size_ : 1); ++rank) {
    if (rank != rank_) MPI_Send(&status, 1, MPI_INT, rank, kFarewellTag, link_->farewell);
  }
  struct Farewell {
    int64_t status, words;  // words 0: none
  };
  const Farewell mine{status, sentence.empty() ? 0 : 1 + crc32c(sentence.data(), sentence.size())};
  std::vector<Farewell> all(static_cast<size_t>(size_));
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Iallgather(&mine, 2, MPI_INT64_T, all.data(), 2, MPI_INT64_T, link_->farewell, &request);
  const auto all_end = [&](std::chrono::milliseconds until) {
    int done = 0;
    for (Patience patience; done == 0 && Clock::now() - begun < until; patience.pause()) {
      MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    }
    return done != 0;
  };
  bool together = all_end(kUntilHeard);
  const auto below = all.begin() + rank_;
  const bool said = together && std::any_of(all.begin(), below, [&](const Farewell& other) {
                      return other.words == mine.words;
                    });
  if (!is_root() && !sentence.empty() && !said) log_fatal_line(sentence);
  together = (together || all_end(kUntilStopped)) &&
             std::all_of(all.begin(), all.end(),
                         [&](const Farewell& other) { return other.status == status; });
  if (!together) abort(status);
  finish_mpi(status);
}

void World::abort(int status) { abort_all_ranks(status); }

void World::leave() {
  for (const std::unique_ptr<World>& part : parts_) part->leave();
  for (Link::Posted& message : link_->posted) finish(&message.request, "post");
  link_->posted.clear();
  if (link_->comm != MPI_COMM_NULL) MPI_Comm_free(&link_->comm);
  if (link_->farewell != MPI_COMM_NULL) MPI_Comm_free(&link_->farewell);
}

void World::barrier() {
  if (link_->comm == MPI_COMM_NULL) return;
  const CollectiveNote note("barrier", 0);
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Ibarrier(link_->comm, &request), "barrier");
  finish(&request, "barrier");
}

std::string World::broadcast(const std::string& bytes) {
  if (link_->comm == MPI_COMM_NULL) return bytes;
  const CollectiveNote note("broadcast of bytes", bytes.size());
  uint64_t size = bytes.size();
  broadcast_bytes(link_->comm, &size, sizeof(size));
  std::string all = is_root() ? bytes : std::string(size, '\0');
  broadcast_bytes(link_->comm, all.data(), all.size());
  return all;
}

std::vector<std::string> World::gather(const std::string& bytes) {
  const MPI_Comm comm = link_->comm;
  if (comm == MPI_COMM_NULL) return {bytes};
  const CollectiveNote note("gather of bytes", bytes.size());
  uint64_t size = bytes.size();
  std::vector<uint64_t> sizes(is_root() ? static_cast<size_t>(size_) : 0);
  MPI_Request request = MPI_REQUEST_NULL;
  // NOLINTNEXTLINE(mpi-type-mismatch): clang-tidy 14 does not see that unsigned long is uint64_t
  check_mpi(MPI_Igather(&size, 1, MPI_UINT64_T, sizes.data(), 1, MPI_UINT64_T, 0, comm, &request),
            "gather");
  finish(&request, "gather");
  if (!is_root()) {
    in_parts(bytes.size(), "gather", [&](size_t at, int count, MPI_Request* sent) {
      return MPI_Isend(bytes.data() + at, count, MPI_BYTE, 0, kGatherTag, comm, sent);
    });
    return {};
  }
  std::vector<std::string> all = {bytes};
  for (int rank = 1; rank < size_; ++rank) {
    std::string& text = all.emplace_back(sizes[static_cast<size_t>(rank)], '\0');
    in_parts(text.size(), "gather", [&](size_t at, int count, MPI_Request* received) {
      return MPI_Irecv(text.data() + at, count, MPI_BYTE, rank, kGatherTag, comm, received);
    });
  }
  return all;
}

std::vector<std::string> World::all_gather(const std::string& bytes) {
  // Each entry behind its length, as one text.
  std::string packed;
  for (const std::string& entry : gather(bytes)) {
    const uint64_t size = entry.size();
    packed.append(reinterpret_cast<const char*>(&size), sizeof(size)).append(entry);
  }
  packed = broadcast(packed);
  std::vector<std::string> all;
  for (size_t at = 0; at < packed.size();) {
    uint64_t size = 0;
    std::memcpy(&size, packed.data() + at, sizeof(size));
    all.push_back(packed.substr(at + sizeof(size), size));
    at += sizeof(size) + size;
  }
  return all;
}

int64_t World::sum(int64_t value) {
  return reduce(link_->comm, value, MPI_INT64_T, MPI_SUM, "sum");
}
int64_t World::min(int64_t value) {
  return reduce(link_->comm, value, MPI_INT64_T, MPI_MIN, "min");
}
int64_t World::max(int64_t value) {
  return reduce(link_->comm, value, MPI_INT64_T, MPI_MAX, "max");
}
double World::sum(double value) { return reduce(link_->comm, value, MPI_DOUBLE, MPI_SUM, "sum"); }
double World::max(double value) { return reduce(link_->comm, value, MPI_DOUBLE, MPI_MAX, "max"); }

void World::post(int rank, const std::string& bytes) {
  LF_CHECK(link_->comm != MPI_COMM_NULL && rank != rank_, "a message to oneself");
  Link::Posted& message = link_->posted.emplace_back(Link::Posted{bytes, MPI_REQUEST_NULL});
  check_mpi(MPI_Isend(message.bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, rank,
                      kPostTag, link_->comm, &message.request),
            "post");
}

std::optional<std::string> World::take(int rank) {
  LF_CHECK(link_->comm != MPI_COMM_NULL && rank != rank_, "a message from oneself");
  std::erase_if(link_->posted, [](Link::Posted& message) {
    int sent = 0;
    check_mpi(MPI_Test(&message.request, &sent, MPI_STATUS_IGNORE), "post");
    return sent != 0;
  });
  int waits = 0, size = 0;
  MPI_Status status;
  check_mpi(MPI_Iprobe(rank, kPostTag, link_->comm, &waits, &status), "look for a message");
  if (waits == 0) return std::nullopt;
  MPI_Get_count(&status, MPI_BYTE, &size);
  std::string bytes(static_cast<size_t>(size), '\0');
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Irecv(bytes.data(), size, MPI_BYTE, rank, kPostTag, link_->comm, &request), "take");
  finish(&request, "take");
  return bytes;
}

const void* World::communicator() const {
  return link_->comm == MPI_COMM_NULL ? nullptr : &link_->comm;
}

void World::agree(const std::string& what, const std::string& text) {
  if (size_ == 1) return;
  // Two checksums of different kinds and the length; the texts themselves travel only if they
  // differ somewhere.
  const std::string mark =
      str(text.size(), " ", crc32c(text.data(), text.size()), " ", std::hash<std::string>()(text));
  const Dissent dissent = find_dissent(all_gather(mark));
  if (dissent.ranks.empty()) return;
  const int odd = dissent.ranks.front();
  const bool shows = rank_ == odd || rank_ == dissent.reference;
  const std::vector<std::string> texts = all_gather(shows ? text : "");
  fail(Code::kUsage, name_ranks(dissent.ranks), dissent.ranks.size() == 1 ? " has" : " have",
       " another ", what, " than rank ", dissent.reference, ": ",
       first_difference(texts[static_cast<size_t>(odd)],
                        texts[static_cast<size_t>(dissent.reference)]),
       "; every rank must be started with the same");
}

std::string name_ranks(const std::vector<int>& ranks) {
  if (ranks.size() == 1) return str("rank ", ranks[0]);
  std::string text = "ranks ";
  constexpr size_t kShown = 8;
  const size_t shown = std::min(ranks.size(), kShown);
  for (size_t i = 0; i < shown; ++i) {
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return ranks.size() > kShown ? str(text, ", ... (", ranks.size(), " in all)") : text;
}

Dissent find_dissent(const std::vector<std::string>& by_rank) {
  Dissent dissent;
  int64_t most = 0;
  for (size_t rank = 0; rank < by_rank.size(); ++rank) {
    const auto votes = std::count(by_rank.begin(), by_rank.end(), by_rank[rank]);
    if (votes > most) {
      most = votes;
      dissent.reference = static_cast<int>(rank);
    }
    if (votes == static_cast<int64_t>(by_rank.size())) return dissent;
  }
  for (size_t rank = 0; rank < by_rank.size(); ++rank) {
    if (by_rank[rank] != by_rank[static_cast<size_t>(dissent.reference)]) {
      dissent.ranks.push_back(static_cast<int>(rank));
    }
  }
  return dissent;
}

}  // namespace lf
