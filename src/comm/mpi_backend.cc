// One of the three files that include mpi.h.
#include "comm/mpi_backend.h"

#include <ATen/Parallel.h>
#include <mpi.h>
#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "comm/activity.h"
#include "comm/collective.h"
#include "comm/mpi_process.h"
#include "comm/patience.h"
#include "comm/world.h"

extern "C" void omp_set_num_threads(int);  // of torch's own OpenMP runtime

namespace lf {
namespace {

using Tensors = std::vector<at::Tensor>;

// Open MPI allocates a temporary as long as the message, which above 32 MiB is mapped and unmapped
// at every call; and counts are ints.
constexpr size_t kPartBytes = size_t{8} << 20;
constexpr std::chrono::milliseconds kTick{100};
constexpr double kTickSeconds = 0.1;

struct Wire {
  MPI_Datatype type;
  size_t size;
};

Wire wire_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return {MPI_FLOAT, 4};
    case at::kDouble:
      return {MPI_DOUBLE, 8};
    case at::kChar:
      return {MPI_INT8_T, 1};
    case at::kShort:
      return {MPI_INT16_T, 2};
    case at::kInt:
      return {MPI_INT32_T, 4};
    case at::kLong:
      return {MPI_INT64_T, 8};
    case at::kByte:
      return {MPI_UINT8_T, 1};
    case at::kBool:
      return {MPI_C_BOOL, 1};
    default:
      fail(Code::kBug, "all-reduce of ", c10::toString(type),
           " over MPI; expected a real, integer or bool tensor; convert it first");
  }
}

MPI_Op wire_operation(c10d::ReduceOp::RedOpType reduction, bool logical) {
  switch (reduction) {
    case c10d::ReduceOp::SUM:
    case c10d::ReduceOp::AVG:
      return logical ? MPI_LOR : MPI_SUM;
    case c10d::ReduceOp::MAX:
      return logical ? MPI_LOR : MPI_MAX;
    case c10d::ReduceOp::MIN:
      return logical ? MPI_LAND : MPI_MIN;
    case c10d::ReduceOp::PRODUCT:
      return logical ? MPI_LAND : MPI_PROD;
    default:
      fail(Code::kBug, "all-reduce over MPI with reduction ", static_cast<int>(reduction),
           "; expected SUM, AVG, MIN, MAX or PRODUCT");
  }
}

// transfer(offset, count) for consecutive parts of `count` elements.
template <typename Transfer>
void in_parts(size_t count, size_t element_bytes, const char* what, Transfer&& transfer) {
  const size_t part = kPartBytes / element_bytes;
  for (size_t at = 0; at < count; at += part) {
    check_mpi(transfer(at, static_cast<int>(std::min(part, count - at))), what);
  }
}

}  // namespace

struct MpiBackend::Job {
  CollectiveCall call;
  Tensors inputs, outputs;
  std::function<void()> before;            // all three on the progress thread
  std::function<void(MPI_Comm)> transfer;  // the communicator is null in a world without MPI
  std::function<void()> after;
  c10::intrusive_ptr<CollectiveWork> work;
  int64_t ticks_allowed = 0, ticks = 0;
  int64_t gate[2] = {0, 0};
  CollectiveSpan span;
};

struct MpiBackend::Core {
  MPI_Comm comm = MPI_COMM_NULL;
  int size = 1;
  std::mutex mutex;
  std::condition_variable queued, idle, watch_wakes;
  std::deque<std::shared_ptr<Job>> queue;
  std::deque<std::shared_ptr<Job>> unfinished;  // failed inside MPI, which may still write there
  std::shared_ptr<Job> current;
  Milliseconds timeout{0};
  uint64_t sequence = 0;
  bool stop = false, stop_watch = false, exited = false;
  std::exception_ptr failure;
  std::atomic<bool> failed{false};
  std::function<void(const CollectiveSpan&)> trace;

  void fail_all(const std::exception_ptr& error, const std::shared_ptr<Job>& job);
  void pass_gate(Job& job, CollectiveNote& note);
  [[noreturn]] void report_mismatch(const CollectiveCall& mine);
  void execute(Job& job);
  void progress();
  void watch();
};

void MpiBackend::Core::fail_all(const std::exception_ptr& error, const std::shared_ptr<Job>& job) {
  std::deque<std::shared_ptr<Job>> rest;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!failure) failure = error;
    rest.swap(queue);
  }
  failed = true;
  if (job) job->work->complete(error);
  for (const auto& waiting : rest) waiting->work->complete(error);
}

// Returns when every rank has begun the same call.
void MpiBackend::Core::pass_gate(Job& job, CollectiveNote& note) {
  const int64_t mine = job.call.fingerprint();
  job.gate[0] = mine;
  job.gate[1] = -mine;
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Iallreduce(MPI_IN_PLACE, job.gate, 2, MPI_INT64_T, MPI_MIN, comm, &request),
            "begin a collective");
  Patience patience;
  while (true) {
    int done = 0;
    check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), "wait for the ranks");
    if (done != 0) break;
    if (failed) fail(Code::kPeer, "gave up waiting for the other ranks at ", job.call.describe());
    patience.pause();
  }
  job.span.gathered = Clock::now();
  note.waited(seconds_between(job.span.begun, job.span.gathered));
  if (job.gate[0] != mine || job.gate[1] != -mine) report_mismatch(job.call);
}

// Every rank saw the same reduced fingerprints, so every rank comes here.
void MpiBackend::Core::report_mismatch(const CollectiveCall& mine) {
  std::vector<CollectiveCall> calls(static_cast<size_t>(size));
  check_mpi(MPI_Allgather(&mine, sizeof(CollectiveCall), MPI_BYTE, calls.data(),
                          sizeof(CollectiveCall), MPI_BYTE, comm),
            "all-gather");
  fail(Code::kBug, "ranks called different collectives: ", describe_calls(calls),
       "; they must make the same calls in the same order");
}

void MpiBackend::Core::execute(Job& job) {
  CollectiveNote note(job.call.name(), job.call.bytes);
  if (job.before) job.before();
  if (comm != MPI_COMM_NULL) pass_gate(job, note);
  if (job.transfer) job.transfer(comm);
  if (job.after) job.after();
}

void MpiBackend::Core::progress() {
  const at::NoGradGuard no_grad;
  // Conversions here must not start a second team of OpenMP threads: torch's lazy initialisation
  // of the count first, then our own for this thread.
  (void)at::get_num_threads();
  omp_set_num_threads(1);
  ::prctl(PR_SET_TIMERSLACK, 1000UL);
  std::unique_lock<std::mutex> lock(mutex);
  while (true) {
    queued.wait(lock, [&] { return stop || !queue.empty(); });
    if (queue.empty()) break;
    const std::shared_ptr<Job> job = queue.front();
    queue.pop_front();
    current = job;
    const auto traced = trace;
    lock.unlock();
    job->span.begun = job->span.gathered = Clock::now();
    std::exception_ptr error;
    try {
      execute(*job);
    } catch (...) {
      error = std::current_exception();
    }
    job->span.ended = Clock::now();
    if (traced) traced(job->span);
    if (error) {
      fail_all(error, job);
    } else {
      job->before = job->after = nullptr;  // they hold tensors
      job->transfer = nullptr;
      job->work->complete(nullptr);
    }
    lock.lock();
    if (error) unfinished.push_back(job);
    current.reset();
  }
  exited = true;
  idle.notify_all();
}

void MpiBackend::Core::watch() {
  std::unique_lock<std::mutex> lock(mutex);
  while (!stop_watch) {
    watch_wakes.wait_for(lock, kTick);
    const std::shared_ptr<Job> job = current;
    if (!job || failure) continue;
    // A phase that may be long on one rank keeps the others waiting here as long.
    const auto of_phase = static_cast<int64_t>(current_activity().limit_seconds / kTickSeconds);
    if (++job->ticks < std::max(job->ticks_allowed, of_phase)) continue;
    lock.unlock();
    const Error error(Code::kPeer,
                      str("collective ", job->call.describe(), " has not finished after ",
                          human_seconds(static_cast<double>(job->ticks) * kTickSeconds),
                          "; a rank hangs or is lost (comm.timeout_seconds sets the time)"));
    fail_all(std::make_exception_ptr(error), job);
    lock.lock();
  }
}

MpiBackend::MpiBackend(const World& world, Milliseconds timeout)
    : Backend(world.rank(), world.size()), core_(std::make_shared<Core>()) {
  core_->timeout = timeout;
  core_->size = getSize();
  if (const void* of_world = world.communicator(); of_world != nullptr) {
    check_mpi(MPI_Comm_dup(*static_cast<const MPI_Comm*>(of_world), &core_->comm),
              "make a communicator");
    MPI_Comm_set_errhandler(core_->comm, MPI_ERRORS_RETURN);
  }
  progress_ = std::make_unique<std::thread>([core = core_] { core->progress(); });
  watch_ = std::make_unique<std::thread>([core = core_] { core->watch(); });
  init();
}

MpiBackend::~MpiBackend() { close(false); }

void MpiBackend::shutdown() { close(true); }

void MpiBackend::close(bool collective) {
  if (!progress_) return;
  Core& core = *core_;
  bool exited = false, failed = false;
  {
    std::unique_lock<std::mutex> lock(core.mutex);
    core.stop = true;
    core.queued.notify_all();
    // The watch bounds this; after a failure the thread may sit inside MPI for ever.
    while (!core.exited && !core.failure) core.idle.wait_for(lock, Milliseconds(20));
    core.idle.wait_for(lock, Milliseconds(300), [&] { return core.exited; });
    exited = core.exited;
    failed = core.failure != nullptr;
    core.stop_watch = true;
    core.watch_wakes.notify_all();
  }
  watch_->join();
  if (exited) {
    progress_->join();
  } else {
    progress_->detach();
  }
  progress_.reset();
  watch_.reset();
  // After a failure MPI may still write into the buffers of an unfinished request: keep them.
  if (failed) new std::shared_ptr<Core>(core_);
  if (collective && !failed && mpi_is_running() && core.comm != MPI_COMM_NULL) {
    MPI_Comm_free(&core.comm);
  }
}

void MpiBackend::abort() {
  std::shared_ptr<Job> current;
  {
    const std::lock_guard<std::mutex> lock(core_->mutex);
    current = core_->current;
  }
  core_->fail_all(std::make_exception_ptr(Error(Code::kPeer, "the MPI backend was aborted")),
                  current);
}

c10::intrusive_ptr<c10d::Backend::Options> MpiBackend::getBackendOptions() {
  const std::lock_guard<std::mutex> lock(core_->mutex);
  return c10::make_intrusive<Options>("mpi", core_->timeout);
}

void MpiBackend::setTimeout(Milliseconds timeout) {
  const std::lock_guard<std::mutex> lock(core_->mutex);
  core_->timeout = timeout;
}

uint64_t MpiBackend::getSequenceNumberForGroup() {
  const std::lock_guard<std::mutex> lock(core_->mutex);
  return core_->sequence;
}

c10d::ErrorType MpiBackend::getError() {
  return core_->failed ? c10d::ErrorType::COMM_ERROR : c10d::ErrorType::SUCCESS;
}

void MpiBackend::set_trace(std::function<void(const CollectiveSpan&)> trace) {
  const std::lock_guard<std::mutex> lock(core_->mutex);
  core_->trace = std::move(trace);
}

c10::intrusive_ptr<c10d::Work> MpiBackend::enqueue(std::shared_ptr<Job> job, Milliseconds timeout) {
  Core& core = *core_;
  const std::lock_guard<std::mutex> lock(core.mutex);
  job->call.sequence = ++core.sequence;
  job->work = c10::make_intrusive<CollectiveWork>(getRank(), job->call, job->inputs, job->outputs);
  const c10::intrusive_ptr<CollectiveWork> work = job->work;
  if (core.failure || core.stop) {
    work->complete(core.failure
                       ? core.failure
                       : std::make_exception_ptr(
                             Error(Code::kBug, str("collective ", job->call.describe(),
                                                   " was called after the backend's shutdown"))));
    return work;
  }
  if (timeout <= Milliseconds(0)) timeout = core.timeout;
  job->ticks_allowed = std::max<int64_t>(timeout / kTick, 1);
  job->span = {job->call.sequence, job->call.bytes, Clock::now(), {}, {}, {}};
  core.queue.push_back(std::move(job));
  core.queued.notify_one();
  return work;
}

c10::intrusive_ptr<c10d::Work> MpiBackend::allreduce(Tensors& tensors,
                                                     const c10d::AllreduceOptions& options) {
  const at::Tensor tensor = only_tensor(tensors);
  const at::ScalarType type = tensor.scalar_type();
  const bool low = type == at::kBFloat16 || type == at::kHalf;
  const bool average = options.reduceOp.op_ == c10d::ReduceOp::AVG;
  if (average && !at::isFloatingType(type)) {
    fail(Code::kBug, "an average over ranks of ", c10::toString(type),
         " tensors; expected floating point; sum and divide instead");
  }
  const at::ScalarType wide = low ? at::kFloat : type;
  const Wire wire = wire_type(wide);
  const MPI_Op operation = wire_operation(options.reduceOp.op_, type == at::kBool);
  const auto count = static_cast<size_t>(tensor.numel());

  auto job = std::make_shared<Job>();
  job->call = {0,
               count * c10::elementSize(type),
               c10d::OpType::ALLREDUCE,
               type,
               static_cast<int32_t>(options.reduceOp.op_),
               -1};
  job->inputs = job->outputs = {tensor};
  // Low precision and strided tensors go through a buffer, made and read on the progress thread.
  const bool direct = !low && tensor.is_contiguous();
  const auto buffer = std::make_shared<at::Tensor>(direct ? tensor : at::Tensor());
  if (!direct) {
    job->before = [buffer, tensor, wide] {
      *buffer = tensor.to(tensor.options().dtype(wide).memory_format(at::MemoryFormat::Contiguous),
                          /*non_blocking=*/false, /*copy=*/true);
    };
  }
  job->transfer = [buffer, count, wire, operation](MPI_Comm comm) {
    if (comm == MPI_COMM_NULL) return;
    char* data = static_cast<char*>(buffer->data_ptr());
    in_parts(count, wire.size, "all-reduce", [&](size_t at, int n) {
      return MPI_Allreduce(MPI_IN_PLACE, data + at * wire.size, n, wire.type, operation, comm);
    });
  };
  job->after = [buffer, tensor, average, direct, size = getSize()] {
    if (average) buffer->div_(size);
    if (!direct) tensor.copy_(*buffer);
  };
  return enqueue(std::move(job), options.timeout);
}

c10::intrusive_ptr<c10d::Work> MpiBackend::broadcast(Tensors& tensors,
                                                     const c10d::BroadcastOptions& options) {
  const at::Tensor tensor = only_tensor(tensors);
  if (options.rootRank < 0 || options.rootRank >= getSize()) {
    fail(Code::kBug, "a broadcast from rank ", options.rootRank, " in a world of ", getSize());
  }
  const at::Tensor flat = tensor.contiguous();
  const int root = static_cast<int>(options.rootRank);
  auto job = std::make_shared<Job>();
  job->call = {0, flat.nbytes(), c10d::OpType::BROADCAST, tensor.scalar_type(), -1, root};
  job->inputs = job->outputs = {tensor};
  job->transfer = [flat, root](MPI_Comm comm) {
    if (comm == MPI_COMM_NULL) return;
    char* data = static_cast<char*>(flat.data_ptr());
    in_parts(flat.nbytes(), 1, "broadcast",
             [&](size_t at, int n) { return MPI_Bcast(data + at, n, MPI_BYTE, root, comm); });
  };
  if (!flat.is_same(tensor) && getRank() != root)
    job->after = [tensor, flat] { tensor.copy_(flat); };
  return enqueue(std::move(job), options.timeout);
}

// Of `in` from each rank into `out`, both contiguous.
static std::function<void(MPI_Comm)> gather_into(const at::Tensor& in, const at::Tensor& out) {
  if (in.nbytes() > static_cast<size_t>(INT32_MAX)) {
    fail(Code::kBug, "an all-gather of ", in.nbytes(), " bytes a rank; expected less than 2 GiB");
  }
  return [in, out](MPI_Comm comm) {
    const int bytes = static_cast<int>(in.nbytes());
    if (bytes == 0) return;
    if (comm == MPI_COMM_NULL) {
      std::memcpy(out.data_ptr(), in.data_ptr(), in.nbytes());
      return;
    }
    check_mpi(MPI_Allgather(in.data_ptr(), bytes, MPI_BYTE, out.data_ptr(), bytes, MPI_BYTE, comm),
              "all-gather");
  };
}

c10::intrusive_ptr<c10d::Work> MpiBackend::allgather(std::vector<Tensors>& outputs, Tensors& inputs,
                                                     const c10d::AllgatherOptions& options) {
  const at::Tensor tensor = only_tensor(inputs);
  if (outputs.size() != 1 || outputs[0].size() != static_cast<size_t>(getSize())) {
    fail(Code::kBug, "an all-gather needs one list of ", getSize(), " output tensors");
  }
  for (const at::Tensor& out : outputs[0]) {
    if (out.numel() != tensor.numel() || out.scalar_type() != tensor.scalar_type() ||
        !out.device().is_cpu()) {
      fail(Code::kBug, "an all-gather's outputs must be of the input's size and type");
    }
  }
  const at::Tensor in = tensor.contiguous();
  const at::Tensor flat =
      at::empty({getSize() * in.numel()}, in.options().memory_format(std::nullopt));
  auto job = std::make_shared<Job>();
  job->call = {0, in.nbytes(), c10d::OpType::ALLGATHER, in.scalar_type(), -1, -1};
  job->inputs = {tensor};
  job->outputs = outputs[0];
  job->transfer = gather_into(in, flat);
  job->after = [out = outputs[0], flat, count = in.numel()] {
    int64_t at = 0;
    for (const at::Tensor& one : out) {
      one.copy_(flat.narrow(0, at, count).view(one.sizes()));
      at += count;
    }
  };
  return enqueue(std::move(job), options.timeout);
}

c10::intrusive_ptr<c10d::Work> MpiBackend::_allgather_base(at::Tensor& output, at::Tensor& input,
                                                           const c10d::AllgatherOptions& options) {
  const at::Tensor in = only_tensor({input}).contiguous();
  if (!output.is_contiguous() || output.numel() != getSize() * in.numel() ||
      output.scalar_type() != in.scalar_type() || !output.device().is_cpu()) {
    fail(Code::kBug, "an all-gather's output must be contiguous, ", getSize(),
         " times the input's size and of its type");
  }
  auto job = std::make_shared<Job>();
  job->call = {0, in.nbytes(), c10d::OpType::_ALLGATHER_BASE, in.scalar_type(), -1, -1};
  job->inputs = {input};
  job->outputs = {output};
  job->transfer = gather_into(in, output.detach());
  return enqueue(std::move(job), options.timeout);
}

c10::intrusive_ptr<c10d::Work> MpiBackend::barrier(const c10d::BarrierOptions& options) {
  auto job = std::make_shared<Job>();
  job->call.operation = c10d::OpType::BARRIER;  // the gate is one
  return enqueue(std::move(job), options.timeout);
}

void direct_all_reduce(float* values, size_t count) {
  if (!mpi_is_running()) return;
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, values, static_cast<int>(count), MPI_FLOAT, MPI_SUM,
                          MPI_COMM_WORLD),
            "all-reduce");
}

}  // namespace lf
