// Gradients of n ranks against one process that sees all their samples.
#include "comm/gradient_sync.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <chrono>
#include <cmath>
#include <mutex>
#include <thread>

#include "base/text.h"
#include "tests/error_of.h"

namespace lf {
namespace {

using Clock = std::chrono::steady_clock;

// Two convolutions and a linear layer; 5 buckets of a few KiB.
struct Net {
  std::vector<NamedTensor> parameters;
  std::vector<NamedTensor> buffers;

  explicit Net(uint64_t seed) {
    at::manual_seed(seed);
    add("first.weight", at::randn({16, 3, 3, 3}) * 0.2);
    add("first.bias", at::randn({16}) * 0.2);
    add("second.weight", at::randn({32, 16, 3, 3}) * 0.1);
    add("second.bias", at::randn({32}) * 0.1);
    add("last.weight", at::randn({10, 32}) * 0.2);
    add("last.bias", at::randn({10}) * 0.2);
    buffers.push_back({"mean", at::randn({7})});
    buffers.push_back({"count", at::randint(1000, {1})});
  }
  void add(const std::string& name, at::Tensor tensor) {
    parameters.push_back({name, tensor.requires_grad_()});
  }
  const at::Tensor& operator[](size_t i) const { return parameters[i].tensor; }
  at::Tensor loss(const at::Tensor& x, const at::Tensor& y) const {
    at::Tensor h = at::silu(at::conv2d(x, (*this)[0], (*this)[1], 1, 1));
    h = at::silu(at::conv2d(h, (*this)[2], (*this)[3], 1, 1)).mean({2, 3});
    return at::mse_loss(at::linear(h, (*this)[4], (*this)[5]), y);
  }
  void copy_from(const Net& other) {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < parameters.size(); ++i) parameters[i].tensor.copy_(other[i]);
  }
  void descend() {
    const at::NoGradGuard no_grad;
    for (NamedTensor& named : parameters) named.tensor.sub_(named.tensor.grad(), 0.05);
  }
};

GradientSyncOptions small_buckets() {
  GradientSyncOptions options;
  options.first_bucket_mib = 1.0 / 1024;
  options.bucket_mib = 4.0 / 1024;
  return options;
}

// The largest difference of a gradient, relative to the largest entry of all.
double difference(const Net& net, const Net& reference) {
  double worst = 0, scale = 0;
  for (size_t i = 0; i < net.parameters.size(); ++i) {
    const at::Tensor wanted = reference[i].grad();
    scale = std::max(scale, wanted.abs().max().item<double>());
    worst = std::max(worst, (net[i].grad() - wanted).abs().max().item<double>());
  }
  return worst / scale;
}

class Gradients : public ::testing::Test {
 protected:
  void SetUp() override { group_ = make_process_group(world_, CommConfig()); }
  void TearDown() override { end_process_group(group_); }

  // Steps of `micro` micro-batches of two samples a rank, each compared with one process on the
  // joined batch and then taken. Returns the worst relative difference.
  double train(const GradientSyncOptions& options, int steps, int micro, bool* rebuilt = nullptr,
               int64_t* buckets = nullptr) {
    Net net(100 + static_cast<uint64_t>(world_.rank()));  // other weights on every rank
    GradientSync sync(world_, group_, net.parameters, options);
    sync.broadcast(net.buffers);
    sync.check_replicas("after the broadcast", net.buffers);
    double worst = 0;
    for (int step = 0; step < steps; ++step) {
      at::manual_seed(static_cast<uint64_t>(7 + step));
      const int64_t samples = 2 * micro * world_.size();
      const at::Tensor x = at::randn({samples, 3, 8, 8}), y = at::randn({samples, 10});
      for (int part = 0; part < micro; ++part) {
        const int64_t at = 2 * (micro * world_.rank() + part);
        const at::Tensor loss = net.loss(x.narrow(0, at, 2), y.narrow(0, at, 2)) / micro;
        sync.backward(loss, part + 1 == micro);
      }
      Net reference(0);
      reference.copy_from(net);
      reference.loss(x, y).backward();
      worst = std::max(worst, difference(net, reference));
      net.descend();
      sync.zero_gradients();
    }
    sync.check_replicas("after the last step", net.buffers);
    if (rebuilt != nullptr) *rebuilt = sync.rebuilt();
    if (buckets != nullptr) *buckets = sync.buckets();
    return worst;
  }

  World& world_ = World::join();
  ProcessGroupPtr group_;
};

TEST_F(Gradients, EqualThoseOfOneProcessOnTheJoinedBatch) {
  for (const auto layout : {BucketLayout::kFixed, BucketLayout::kLearned}) {
    for (const auto graph :
         {GradientGraph::kEveryParameter, GradientGraph::kStatic, GradientGraph::kAnyParameter}) {
      for (const bool views : {true, false}) {
        for (const int micro : {1, 2, 3}) {
          GradientSyncOptions options = small_buckets();
          options.layout = layout;
          options.graph = graph;
          options.gradients_are_views = views;
          SCOPED_TRACE(str("layout ", static_cast<int>(layout), " graph ", static_cast<int>(graph),
                           " views ", views, " micro-batches ", micro));
          EXPECT_LE(train(options, 4, micro), 1e-6);
        }
      }
    }
  }
}

TEST_F(Gradients, ALearnedLayoutIsRebuiltOnceAndAFixedOneNever) {
  bool rebuilt = false;
  int64_t buckets = 0;
  GradientSyncOptions options = small_buckets();
  train(options, 3, 1, &rebuilt, &buckets);
  EXPECT_FALSE(rebuilt);
  EXPECT_GT(buckets, 1);

  options.layout = BucketLayout::kLearned;
  train(options, 1, 1, &rebuilt, &buckets);
  EXPECT_FALSE(rebuilt);  // one backward only teaches it
  train(options, 2, 1, &rebuilt, &buckets);
  EXPECT_TRUE(rebuilt);
  EXPECT_GT(buckets, 1);

  // A second rebuilding would be a broadcast of the new layout; the steps after make none.
  Net net(1);
  GradientSync sync(world_, group_, net.parameters, options);
  const at::Tensor x = at::randn({2, 3, 8, 8}), y = at::randn({2, 10});
  MpiBackend& backend = mpi_backend_of(*group_);
  std::vector<uint64_t> calls;
  for (int step = 0; step < 5; ++step) {
    const uint64_t before = backend.getSequenceNumberForGroup();
    sync.backward(net.loss(x, y));
    calls.push_back(backend.getSequenceNumberForGroup() - before);
  }
  EXPECT_GT(calls[1], calls[2]);                                     // where it was rebuilt
  const int64_t of_a_step = world_.size() > 1 ? sync.buckets() : 0;  // a mean of one needs no call
  EXPECT_EQ(calls[2], static_cast<uint64_t>(of_a_step));
  EXPECT_EQ(calls[3], calls[2]);
  EXPECT_EQ(calls[4], calls[2]);
}

// What a resumed run needs: its first step has the bits of the same step of an uninterrupted run.
TEST_F(Gradients, HaveTheSameBitsWhateverCameBefore) {
  at::manual_seed(static_cast<uint64_t>(50 + world_.rank()));
  const at::Tensor x = at::randn({2, 3, 8, 8}), y = at::randn({2, 10});
  Net resumed(1), continued(1);
  GradientSync first(world_, group_, resumed.parameters, small_buckets());
  first.backward(resumed.loss(x, y));
  GradientSync second(world_, group_, continued.parameters, small_buckets());
  for (int step = 0; step < 4; ++step) {
    second.zero_gradients();
    second.backward(continued.loss(x, y));
  }
  for (size_t i = 0; i < resumed.parameters.size(); ++i) {
    EXPECT_TRUE(at::equal(resumed[i].grad(), continued[i].grad())) << resumed.parameters[i].name;
  }
}

TEST_F(Gradients, AreViewsOfTheBucketsAndStaySoWhenZeroed) {
  Net net(1);
  GradientSync sync(world_, group_, net.parameters, small_buckets());
  const at::Tensor x = at::randn({2, 3, 8, 8}), y = at::randn({2, 10});
  sync.backward(net.loss(x, y));
  const void* place = net[4].grad().data_ptr();
  sync.zero_gradients();
  EXPECT_EQ(net[4].grad().abs().sum().item<double>(), 0);
  sync.backward(net.loss(x, y));
  EXPECT_EQ(net[4].grad().data_ptr(), place);
  EXPECT_GT(net[4].grad().storage().nbytes(), net[4].nbytes());
}

TEST_F(Gradients, OfTwoPhasesDoNotDisturbEachOther) {
  Net generator(1 + static_cast<uint64_t>(world_.rank()));
  Net critic(5 + static_cast<uint64_t>(world_.rank()));
  GradientSync generator_sync(world_, group_, generator.parameters, small_buckets());
  GradientSync critic_sync(world_, group_, critic.parameters, small_buckets());
  const at::Tensor x = at::randn({2, 3, 8, 8}), y = at::randn({2, 10});
  for (int step = 0; step < 3; ++step) {
    // The generator's loss goes through the critic, whose gradients are not to be shared.
    generator_sync.backward(generator.loss(x, y) * critic.loss(x, y));
    generator.descend();
    generator_sync.zero_gradients();
    critic_sync.zero_gradients();
    critic_sync.backward(critic.loss(x, y));
    critic.descend();
    critic_sync.zero_gradients();
  }
  generator_sync.check_replicas("after the generator's phase");
  critic_sync.check_replicas("after the critic's phase");
}

TEST_F(Gradients, OfParametersLeftOutAreHandledWhereAsked) {
  for (const auto graph : {GradientGraph::kStatic, GradientGraph::kAnyParameter}) {
    Net net(1);
    net.add("unused", at::ones({5}));
    GradientSyncOptions options = small_buckets();
    options.graph = graph;
    GradientSync sync(world_, group_, net.parameters, options);
    Net reference(1);
    at::manual_seed(3);
    const at::Tensor x = at::randn({2, 3, 8, 8}), y = at::randn({2, 10});
    for (int step = 0; step < 3; ++step) {
      sync.zero_gradients();
      sync.backward(net.loss(x, y));
    }
    reference.loss(x, y).backward();
    net.parameters.pop_back();
    EXPECT_LE(difference(net, reference), 1e-6);
  }
}

TEST_F(Gradients, OfAParameterThatAStaticGraphLeftOutAreAnError) {
  Net net(1);
  net.add("late", at::ones({5}));
  GradientSyncOptions options = small_buckets();
  options.graph = GradientGraph::kStatic;
  GradientSync sync(world_, group_, net.parameters, options);
  EXPECT_EQ(sync.buckets(), 0);  // not known yet
  const at::Tensor x = at::randn({2, 3, 8, 8}), y = at::randn({2, 10});
  sync.backward(net.loss(x, y));
  EXPECT_GT(sync.buckets(), 1);
  const std::string message =
      error_of(Code::kBug, [&] { sync.backward(net.loss(x, y) + net[6].sum()); });
  EXPECT_TRUE(contains(message, "parameter 'late' got a gradient")) << message;
}

// Backward of the layers nearest to the input is slow, and records when it ended.
struct SlowBackward : torch::autograd::Function<SlowBackward> {
  static Clock::time_point ended;
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x) {
    return x.view_as(x);
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                 torch::autograd::variable_list gradients) {
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
    ended = Clock::now();
    return gradients;
  }
};
Clock::time_point SlowBackward::ended;

TEST_F(Gradients, OfTheFirstBucketAreReducedBeforeBackwardEnds) {
  if (world_.size() == 1) GTEST_SKIP() << "one rank reduces nothing";
  Net net(1);
  GradientSync sync(world_, group_, net.parameters, small_buckets());
  std::mutex mutex;
  std::vector<CollectiveSpan> spans;
  mpi_backend_of(*group_).set_trace([&](const CollectiveSpan& span) {
    const std::lock_guard<std::mutex> lock(mutex);
    spans.push_back(span);
  });
  for (int step = 0; step < 2; ++step) {
    spans.clear();
    world_.barrier();
    at::Tensor h = at::silu(at::conv2d(at::ones({2, 3, 8, 8}), net[0], net[1], 1, 1));
    h = SlowBackward::apply(h);
    h = at::silu(at::conv2d(h, net[2], net[3], 1, 1)).mean({2, 3});
    sync.backward(at::linear(h, net[4], net[5]).pow(2).mean());
    const std::lock_guard<std::mutex> lock(mutex);
    ASSERT_EQ(static_cast<int64_t>(spans.size()), sync.buckets());
    EXPECT_LT(spans.front().begun, SlowBackward::ended);
    EXPECT_LT(spans.front().ended, SlowBackward::ended);  // the sleep leaves the core to it
    EXPECT_GT(spans.back().begun, SlowBackward::ended);
  }
  mpi_backend_of(*group_).set_trace(nullptr);
}

TEST_F(Gradients, OfDifferentModelsAreRefused) {
  if (world_.size() == 1) GTEST_SKIP() << "one rank cannot differ";
  Net net(1);
  if (world_.rank() == 1) net.add("extra", at::ones({2, 3}));
  const std::string message = error_of(
      Code::kUsage, [&] { GradientSync(world_, group_, net.parameters, small_buckets()); });
  EXPECT_TRUE(contains(message, "set of trained parameters")) << message;
  EXPECT_TRUE(contains(message, "extra Float [2, 3]")) << message;
}

TEST_F(Gradients, ReplicasThatPartAreNamed) {
  if (world_.size() == 1) GTEST_SKIP() << "one replica equals itself";
  Net net(1);
  GradientSync sync(world_, group_, net.parameters, small_buckets());
  sync.check_replicas("at the start", net.buffers);
  const int odd = world_.size() - 1;
  if (world_.rank() == odd) {
    const at::NoGradGuard no_grad;
    float* value = net[2].data_ptr<float>() + 77;
    *value = std::nextafter(*value, 10.0F);
  }
  const std::string message =
      error_of(Code::kBug, [&] { sync.check_replicas("at image 640", net.buffers); });
  EXPECT_TRUE(contains(message, str("replicas differ at image 640: rank ", odd))) << message;
  EXPECT_TRUE(contains(message, "first in 'second.weight'")) << message;
}

}  // namespace
}  // namespace lf
