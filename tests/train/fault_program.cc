// `lastframe train` with a model that fails where it is told to: the scripts of this folder say
// what happens, where, on which rank and at which step in the variable LF_FAULT, "WHAT WHERE RANK
// STEP".
//   WHAT   loss-nan, gradient-nan    a number that is not finite, at this step only
//          output-nan                the same, in what is reconstructed
//          loss-nan-on               from this step on
//          throw, exit, kill         the rank ends: by an exception, _exit(9), SIGKILL
//          usr1, term, term-twice    the rank gets these signals
//          sleep, hang               a wait of eight seconds; for ever
//          sleep-on, crawl-on        a wait of 0.2 or 1.7 seconds in each step
//   WHERE  build, resume, forward, second-forward (of a step), reduce (backward has shared the
//          gradients of all weights but the first), checkpoint, validation, preview, reconstruct
//          (in evaluations; ranks that only evaluate are at step -1)
#include <ATen/TensorOperators.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <limits>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "base/stop_signals.h"
#include "comm/activity.h"
#include "train/train.h"

namespace lf {
namespace {

struct Fault {
  std::string what, where;
  int rank = -1;
  int64_t step = 0;
  bool over = false;

  bool strikes(const std::string& here) const {
    const int64_t now = current_activity().step;
    const bool lasts = what.ends_with("-on");
    return where == here && rank == World::join().rank() && (lasts ? now >= step : now == step) &&
           !over;
  }
};

Fault g_fault;

void wait(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

void strike(const std::string& here) {
  if (!g_fault.strikes(here)) return;
  const std::string& what = g_fault.what;
  g_fault.over = !what.ends_with("-on");
  if (what == "throw") fail(Code::kData, "a fault in ", here, " of rank ", g_fault.rank);
  if (what == "exit") ::_exit(9);
  if (what == "kill") ::raise(SIGKILL);
  if (what == "usr1") ::raise(SIGUSR1);
  if (what == "term" || what == "term-twice") ::raise(SIGTERM);
  if (what == "term-twice") ::raise(SIGTERM);
  if (what == "sleep") wait(8);
  if (what == "sleep-on") wait(0.2);
  if (what == "crawl-on") wait(1.7);
  if (what == "hang") wait(86400);
}

class FaultyModel : public Model {
 public:
  explicit FaultyModel(std::unique_ptr<Model> real) : real_(std::move(real)) {
    real_->parameters().weights().front().tensor.register_hook([](const at::Tensor& gradient) {
      strike("reduce");
      return gradient;
    });
  }
  const ParameterTable& parameters() const override {
    strike(current_activity().phase.data());  // resume and checkpoint ask for them
    return real_->parameters();
  }
  std::vector<Phase> phases() const override { return real_->phases(); }
  at::Tensor preview(const Clips& clips) override {
    strike("preview");
    return real_->preview(clips);
  }
  at::Tensor reconstruct(const Clips& clips) override {
    const at::Tensor made = real_->reconstruct(clips);
    if (g_fault.what == "output-nan" && g_fault.strikes("reconstruct")) {
      return made * std::numeric_limits<float>::quiet_NaN();
    }
    strike("reconstruct");
    return made;
  }
  Loss loss(const Clips& clips, size_t phase, bool training) override {
    Loss out = real_->loss(clips, phase, training);
    const int64_t step = current_activity().step;
    calls_ = step == step_ ? calls_ + 1 : 1;
    step_ = step;
    const char* here = !training ? "validation" : calls_ == 1 ? "forward" : "second-forward";
    if (g_fault.what.starts_with("loss-nan") && g_fault.strikes(here)) {
      out.total = out.total * std::numeric_limits<float>::quiet_NaN();
    } else if (g_fault.what == "gradient-nan" && g_fault.strikes(here)) {
      // The value stays; the square root's gradient at 0 is infinite.
      const at::Tensor nothing = real_->parameters().weights().front().tensor * 0;
      out.total = out.total + nothing.sqrt().sum();
    } else {
      strike(here);
    }
    return out;
  }

 private:
  std::unique_ptr<Model> real_;
  int64_t step_ = -1, calls_ = 0;
};

std::unique_ptr<Model> make_faulty(const Config& config, const ClipShape& shape, at::Device device,
                                   const SumOverRanks& sum, const OpenExport& open) {
  strike("build");
  return std::make_unique<FaultyModel>(make_model(config, shape, device, sum, open));
}

int train(const std::vector<std::string>& words) {
  std::string config_file;
  std::vector<std::string> sets;
  TrainJob job;
  for (size_t i = 0; i + 1 < words.size(); i += 2) {
    if (words[i] == "--config") config_file = words[i + 1];
    if (words[i] == "--set") sets.push_back(words[i + 1]);
    if (words[i] == "--run") job.run_folder = words[i + 1];
    if (words[i] == "--until-images") job.until_images = std::stoll(words[i + 1]);
  }
  job.code_version = "test";
  job.make = make_faulty;
  const Config config = load_config(config_file, sets);
  catch_stop_signals();
  World& world = World::join();
  start_log("fault_program", world.rank());
  const int status = run_training(world, config, job);
  world.barrier();
  return status;
}

}  // namespace
}  // namespace lf

int main(int argc, char** argv) {
  std::istringstream(std::getenv("LF_FAULT")) >> lf::g_fault.what >> lf::g_fault.where >>
      lf::g_fault.rank >> lf::g_fault.step;
  int status = 1;
  try {
    status = lf::train({argv + 2, argv + argc});
  } catch (const lf::Error& error) {
    lf::log_fatal_line(error.what());
    status = error.exit_status();
  }
  return lf::World::end(status);
}
