#include "comm/mpi_backend.h"

#include <ATen/ATen.h>

#include <mutex>

#include "comm/process_group.h"
#include "comm/world.h"
#include "tests/error_of.h"

namespace lf {
namespace {

using c10d::ReduceOp;
using std::chrono::milliseconds;

constexpr milliseconds kTimeout{30000};
const std::vector<at::ScalarType> kTypes = {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16,
                                            at::kChar,  at::kShort,  at::kInt,  at::kLong,
                                            at::kByte,  at::kBool};
const std::vector<int64_t> kSizes = {0, 1, 7, 1000000};

// Rank's values: small whole numbers, so that sums and products of four ranks are exact in every
// type, and known to every rank.
at::Tensor values_of(int rank, int64_t size, at::ScalarType type) {
  const at::Tensor index = at::arange(size, at::kLong);
  return (index * 7 + rank * 3).remainder(4).to(type == at::kBool ? at::kBool : type);
}

// What one thread gets from all ranks' values.
at::Tensor reference(ReduceOp::RedOpType op, int64_t size, at::ScalarType type) {
  const bool logical = type == at::kBool;
  at::Tensor all = values_of(0, size, type).to(at::kDouble);
  for (int rank = 1; rank < World::join().size(); ++rank) {
    const at::Tensor next = values_of(rank, size, type).to(at::kDouble);
    switch (op) {
      case ReduceOp::SUM:
      case ReduceOp::AVG:
        all = all + next;
        break;
      case ReduceOp::PRODUCT:
        all = all * next;
        break;
      case ReduceOp::MIN:
        all = at::minimum(all, next);
        break;
      default:
        all = at::maximum(all, next);
    }
  }
  if (op == ReduceOp::AVG) all = all / World::join().size();
  return logical ? all.ne(0) : all.to(type);
}

void all_reduce(MpiBackend& backend, const at::Tensor& tensor, ReduceOp::RedOpType op) {
  std::vector<at::Tensor> tensors = {tensor};
  c10d::AllreduceOptions options;
  options.reduceOp = op;
  backend.allreduce(tensors, options)->wait();
}

TEST(MpiBackend, AllReduceIsExactForEveryTypeAndSize) {
  MpiBackend backend(World::join(), kTimeout);
  for (const at::ScalarType type : kTypes) {
    for (const int64_t size : kSizes) {
      for (const auto op : {ReduceOp::SUM, ReduceOp::MAX, ReduceOp::MIN, ReduceOp::PRODUCT}) {
        if (size > 7 && op != ReduceOp::SUM && type != at::kFloat) continue;  // time
        const at::Tensor tensor = values_of(World::join().rank(), size, type).clone();
        all_reduce(backend, tensor, op);
        EXPECT_TRUE(at::equal(tensor, reference(op, size, type)))
            << c10::toString(type) << " " << size << " operation " << static_cast<int>(op);
      }
    }
  }
  backend.shutdown();
}

TEST(MpiBackend, AverageIsRoundedOnceInLowPrecision) {
  MpiBackend backend(World::join(), kTimeout);
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
    const at::Tensor tensor = values_of(World::join().rank(), 1000, type).clone();
    all_reduce(backend, tensor, ReduceOp::AVG);
    const at::Tensor wanted = reference(ReduceOp::AVG, 1000, at::kDouble);
    // float's own division by 3 is the only rounding besides the last.
    EXPECT_TRUE(at::allclose(tensor.to(at::kDouble), wanted.to(type).to(at::kDouble), 1e-6, 0))
        << c10::toString(type);
  }
  const at::Tensor whole = at::ones({3}, at::kInt);
  EXPECT_TRUE(contains(error_of(Code::kBug, [&] { all_reduce(backend, whole, ReduceOp::AVG); }),
                       "expected floating point"));
  backend.shutdown();
}

TEST(MpiBackend, StridedTensorsKeepTheirLayout) {
  MpiBackend backend(World::join(), kTimeout);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kLong}) {
    const at::Tensor base = values_of(World::join().rank(), 33 * 17, type).view({33, 17});
    const at::Tensor tensor = base.t().contiguous().t();
    ASSERT_FALSE(tensor.is_contiguous());
    all_reduce(backend, tensor, ReduceOp::SUM);
    EXPECT_TRUE(at::equal(tensor, reference(ReduceOp::SUM, 33 * 17, type).view({33, 17})));
  }
  backend.shutdown();
}

TEST(MpiBackend, BroadcastGivesEveryRootsValues) {
  MpiBackend backend(World::join(), kTimeout);
  for (const at::ScalarType type : kTypes) {
    for (const int64_t size : kSizes) {
      for (int root = 0; root < backend.getSize(); ++root) {
        const at::Tensor tensor = values_of(backend.getRank(), size, type).clone();
        std::vector<at::Tensor> tensors = {tensor};
        c10d::BroadcastOptions options;
        options.rootRank = root;
        backend.broadcast(tensors, options)->wait();
        EXPECT_TRUE(at::equal(tensor, values_of(root, size, type)));
      }
    }
  }
  // Strided on the receiving side.
  const at::Tensor strided = at::full({5, 3}, backend.getRank()).t();
  std::vector<at::Tensor> tensors = {strided};
  c10d::BroadcastOptions options;
  options.rootRank = backend.getSize() - 1;
  backend.broadcast(tensors, options)->wait();
  EXPECT_TRUE(strided.eq(backend.getSize() - 1).all().item<bool>());
  backend.shutdown();
}

TEST(MpiBackend, AllGatherOrdersByRank) {
  MpiBackend backend(World::join(), kTimeout);
  const int ranks = backend.getSize();
  for (const at::ScalarType type : kTypes) {
    for (const int64_t size : kSizes) {
      at::Tensor mine = values_of(backend.getRank(), size, type);
      std::vector<std::vector<at::Tensor>> lists(1);
      for (int rank = 0; rank < ranks; ++rank) lists[0].push_back(at::zeros({size}, type));
      std::vector<at::Tensor> inputs = {mine};
      backend.allgather(lists, inputs)->wait();
      at::Tensor flat = at::zeros({ranks * size}, type);
      backend._allgather_base(flat, mine)->wait();
      for (int rank = 0; rank < ranks; ++rank) {
        const at::Tensor wanted = values_of(rank, size, type);
        EXPECT_TRUE(at::equal(lists[0][static_cast<size_t>(rank)], wanted));
        EXPECT_TRUE(at::equal(flat.narrow(0, rank * size, size), wanted));
      }
    }
  }
  backend.barrier()->wait();
  backend.shutdown();
}

TEST(MpiBackend, QueuedCallsRunInOrderAndFuturesComplete) {
  MpiBackend backend(World::join(), kTimeout);
  std::mutex mutex;
  std::vector<uint64_t> order;
  backend.set_trace([&](const CollectiveSpan& span) {
    const std::lock_guard<std::mutex> lock(mutex);
    order.push_back(span.sequence);
  });
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  std::vector<at::Tensor> tensors;
  for (int i = 0; i < 50; ++i) {
    tensors.push_back(at::full({1 + i * 100}, static_cast<double>(i)));
    std::vector<at::Tensor> one = {tensors.back()};
    works.push_back(backend.allreduce(one));
  }
  for (int i = 49; i >= 0; --i) {
    const auto at = static_cast<size_t>(i);
    const auto future = works[at]->getFuture();
    future->wait();
    EXPECT_TRUE(future->value().toTensorVector()[0].is_alias_of(tensors[at]));
    EXPECT_TRUE(works[at]->wait());
    EXPECT_TRUE(works[at]->isSuccess());
    EXPECT_EQ(tensors[at][0].item<double>(), i * backend.getSize());
  }
  backend.barrier()->wait();
  const std::lock_guard<std::mutex> lock(mutex);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_GE(order.size(), 50U);
}

TEST(MpiBackend, ForeignTensorsAreRefusedAndHurtNobody) {
  MpiBackend backend(World::join(), kTimeout);
  error_of(Code::kBug,
           [&] { all_reduce(backend, at::ones({3}, at::kComplexFloat), ReduceOp::SUM); });
  error_of(Code::kBug, [&] { all_reduce(backend, at::ones({3}, at::kInt), ReduceOp::BXOR); });
  std::vector<at::Tensor> two = {at::ones({1}), at::ones({1})};
  error_of(Code::kBug, [&] { backend.allreduce(two); });
  c10d::BroadcastOptions options;
  options.rootRank = backend.getSize();
  std::vector<at::Tensor> one = {at::ones({1})};
  error_of(Code::kBug, [&] { backend.broadcast(one, options); });
  all_reduce(backend, one[0], ReduceOp::SUM);
  EXPECT_EQ(one[0].item<float>(), backend.getSize());
  EXPECT_EQ(backend.getError(), c10d::ErrorType::SUCCESS);
  backend.shutdown();
  EXPECT_TRUE(contains(error_of(Code::kBug, [&] { all_reduce(backend, one[0], ReduceOp::SUM); }),
                       "after the backend's shutdown"));
}

// The last rank makes the call `odd` where the others make `usual`.
template <typename Usual, typename Odd>
void expect_mismatch(Usual&& usual, Odd&& odd) {
  World& world = World::join();
  MpiBackend backend(World::join(), kTimeout);
  const bool is_odd = world.rank() == world.size() - 1;
  c10::intrusive_ptr<c10d::Work> work;
  const std::string message = error_of(Code::kBug, [&] {
    work = is_odd ? odd(backend) : usual(backend);
    work->wait();
  });
  EXPECT_TRUE(contains(message, "ranks called different collectives")) << message;
  EXPECT_TRUE(contains(message, str("rank ", world.size() - 1, " #1"))) << message;
  EXPECT_TRUE(work->getFuture()->hasError());
  EXPECT_EQ(backend.getError(), c10d::ErrorType::COMM_ERROR);
  error_of(Code::kBug, [&] { backend.barrier()->wait(); });  // it stays failed
}

TEST(MpiBackend, MismatchedCallsAreAnErrorOnEveryRank) {
  if (World::join().size() == 1) GTEST_SKIP() << "one rank cannot differ";
  const auto reduce = [](at::Tensor tensor, ReduceOp::RedOpType op = ReduceOp::SUM) {
    return [tensor, op](MpiBackend& backend) {
      std::vector<at::Tensor> one = {tensor};
      c10d::AllreduceOptions options;
      options.reduceOp = op;
      return backend.allreduce(one, options);
    };
  };
  const auto broadcast = [](int root) {
    return [root](MpiBackend& backend) {
      std::vector<at::Tensor> one = {at::ones({1000})};
      c10d::BroadcastOptions options;
      options.rootRank = root;
      return backend.broadcast(one, options);
    };
  };
  const auto barrier = [](MpiBackend& backend) { return backend.barrier(); };
  expect_mismatch(reduce(at::ones({1 << 20})), reduce(at::ones({1000})));
  expect_mismatch(reduce(at::ones({1000})), reduce(at::ones({1000}, at::kInt)));
  expect_mismatch(reduce(at::ones({1000})), reduce(at::ones({1000}), ReduceOp::MAX));
  expect_mismatch(reduce(at::ones({1000})), broadcast(0));
  expect_mismatch(broadcast(0), broadcast(1));
  expect_mismatch(barrier, reduce(at::ones({0})));
}

TEST(MpiBackend, ALateRankFailsTheWorkAndTheFutureOfTheOthers) {
  World& world = World::join();
  if (world.size() == 1) GTEST_SKIP() << "one rank waits for nobody";
  MpiBackend backend(World::join(), kTimeout);
  c10d::BarrierOptions options;
  options.timeout = milliseconds(400);
  if (world.rank() == world.size() - 1) {
    world.barrier();
    backend.barrier()->wait();  // alone with calls that were given up
    return;
  }
  const auto begun = std::chrono::steady_clock::now();
  const auto work = backend.barrier(options);
  const auto future = work->getFuture();
  const std::string message = error_of(Code::kPeer, [&] { work->wait(); });
  EXPECT_TRUE(contains(message, "#1 backend barrier has not finished")) << message;
  error_of(Code::kPeer, [&] { future->waitAndThrow(); });
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(10));
  world.barrier();
}

// Stands for the plugin: checks that every rank reaches the store, and gives a backend for a
// device that no tensor is on.
class StoreProbe : public DeviceBackend {
 public:
  c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store,
                                                      int rank, int size, int device,
                                                      milliseconds timeout) override {
    EXPECT_EQ(device, 3);
    EXPECT_GT(timeout, milliseconds(0));
    const auto bytes = [](const std::string& text) {
      return std::vector<uint8_t>(text.begin(), text.end());
    };
    store->set(std::to_string(rank), bytes(str("here is ", rank)));
    for (int other = 0; other < size; ++other) {
      EXPECT_EQ(store->get(std::to_string(other)), bytes(str("here is ", other)));
    }
    World::join().barrier();  // rank 0 serves the store until all have read
    return c10::make_intrusive<MpiBackend>(World::join(), timeout);
  }
};

TEST(ProcessGroup, GivesThePluginAStoreThatEveryRankReaches) {
  World& world = World::join();
  StoreProbe probe;
  ProcessGroupPtr group = make_process_group(world, CommConfig(), &probe, 3);
  std::vector<at::Tensor> one = {at::ones({1})};
  group->allreduce(one)->wait();  // host memory goes over MPI all the same
  EXPECT_EQ(one[0].item<float>(), world.size());
  end_process_group(group);
  EXPECT_FALSE(group);
}

}  // namespace
}  // namespace lf
