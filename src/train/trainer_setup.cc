// How a Trainer comes to be: stores opened (a generated one is built first), the model made and
// made equal over the ranks, the newest checkpoint taken up. The loop itself is in trainer.cc.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "data/build.h"
#include "train/clips.h"
#include "train/trainer.h"

namespace lf {
namespace {

// What the scheduler gave this process, shared with the other ranks of the machine.
int threads_of_rank(const World& world, int asked) {
  if (asked > 0) return asked;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  const int usable = ::sched_getaffinity(0, sizeof(cores), &cores) == 0
                         ? CPU_COUNT(&cores)
                         : static_cast<int>(std::thread::hardware_concurrency());
  const int all = static_cast<int>(std::thread::hardware_concurrency());
  // A launcher that bound each rank has divided the cores already.
  return std::max(1, usable < all ? usable : usable / world.local_size());
}

void append(TensorGroup& group, const std::vector<NamedTensor>& tensors) {
  for (const NamedTensor& named : tensors)
    group.tensors.push_back({named.name, named.tensor.detach()});
}

NamedTensors as_pairs(const std::vector<NamedTensor>& tensors) {
  NamedTensors out;
  for (const NamedTensor& named : tensors) out.emplace_back(named.name, named.tensor);
  return out;
}

}  // namespace

Trainer::Trainer(World& world, const Config& config, const TrainJob& job)
    : world_(world), config_(config), job_(job) {
  const int64_t batch = config.train().batch();
  const int64_t parts = static_cast<int64_t>(world.size()) * config.train().accumulation();
  if (batch % parts != 0) {
    std::vector<std::string> allowed;
    for (int64_t n = 1; n <= std::min<int64_t>(batch, 1024) && allowed.size() < 16; ++n) {
      if (batch % (n * config.train().accumulation()) == 0) allowed.push_back(std::to_string(n));
    }
    fail(Code::kUsage, "train.batch is ", batch, ", which ", world.size(), " ranks times ",
         config.train().accumulation(), " accumulation do not divide; start with one of ",
         join(allowed, ", "), " ranks, or change train.batch");
  }
  at::set_num_threads(threads_of_rank(world, config.train().threads()));
  real_file_system().make_folders(job.run_folder);
  open_log_file(job.run_folder + "/logs");
  end_ = job.until_images > 0 ? std::min<int64_t>(job.until_images, config.train().images())
                              : config.train().images();
  watchdog_ = std::make_unique<Watchdog>(world, config.comm());
  group_ = make_process_group(world, config.comm());
  open_stores();
  build_model();
  saver_ = std::make_unique<Saver>(
      world, config_, RunIdentity{job.run_folder, store_->index().store_id(), job.code_version});
  resume();
  coordinator_ = std::make_unique<Coordinator>(world, config_, job.run_folder, images_, end_);
  if (world.is_root()) {
    publish_file(real_file_system(), job.run_folder + "/config.pbtxt", print_config(config_));
  }
}

Trainer::~Trainer() {
  saver_.reset();
  loader_.reset();
  image_loader_.reset();
  syncs_.clear();
  watchdog_.reset();
  if (group_ && std::uncaught_exceptions() == 0) {
    try {
      end_process_group(group_);
    } catch (const std::exception& error) {
      LF_ERROR("while ending communication: ", error.what());
    }
  }
}

void Trainer::open_stores() {
  const Watchdog::Phase phase("open the store", 24 * 3600);
  std::string folder = config_.train().store();
  if (folder.empty()) {
    if (!config_.source().has_generated()) {
      fail(Code::kUsage,
           "train.store is not set; give the folder that `lastframe build` made "
           "(--set train.store=DIR), or a generated source");
    }
    folder = job_.run_folder + "/store";
    const std::unique_ptr<Source> source = open_source(config_.source());
    BuildRequest request;
    request.config = config_;
    request.source = source.get();
    request.folder = folder;
    request.rank = world_.rank();
    request.size = world_.size();
    request.threads = at::get_num_threads();
    build_store(request);
    world_.barrier();
  }
  store_ = Store::open(folder);
  world_.agree("the store", store_->index().store_id());
  validation_store_ = config_.train().validation_store().empty()
                          ? store_
                          : Store::open(config_.train().validation_store());
  loader_ =
      std::make_unique<Loader>(store_, config_.loader(),
                               LoaderShare{config_.train().seed(), world_.rank(), world_.size(),
                                           static_cast<uint64_t>(config_.train().batch())});
}

void Trainer::build_model() {
  const Watchdog::Phase phase("build the model", 3600);
  model_ = make_model(config_, shape_of_clips(*store_), device_);
  if (const int64_t images = model_->images_per_clip(); images > 0) {
    constexpr uint64_t kImages = 0x1ace;  // another order than the clips'
    image_loader_ = std::make_unique<Loader>(
        store_, config_.loader(),
        LoaderShare{config_.train().seed() ^ kImages, world_.rank(), world_.size(),
                    static_cast<uint64_t>(config_.train().batch() * images)});
  }
  for (const Phase& part : model_->phases()) {
    optimizers_.emplace_back(part, config_.train().optimizer());
    syncs_.push_back(std::make_unique<GradientSync>(world_, group_, as_pairs(part.weights),
                                                    GradientSyncOptions::from(config_.comm())));
  }
  syncs_.front()->broadcast(as_pairs(model_->parameters().buffers()));
  ema_ = std::make_unique<Ema>(config_.train().ema(), model_->parameters().weights());
  if (world_.is_root()) {
    LF_INFO("model: ", human_count(static_cast<uint64_t>(model_->parameters().count())),
            " parameters; ", world_.size(), " ranks of ", at::get_num_threads(), " threads; store ",
            store_->folder(), ": ", human_count(store_->clips()), " clips");
  }
}

std::vector<TensorGroup> Trainer::state() const {
  std::vector<TensorGroup> groups(1);
  groups[0].kind = "model";
  append(groups[0], model_->parameters().weights());
  append(groups[0], model_->parameters().buffers());
  if (ema_->enabled()) append(groups.emplace_back(TensorGroup{"ema", {}}), ema_->tensors());
  TensorGroup& moments = groups.emplace_back(TensorGroup{"optimizer", {}});
  for (const Optimizer& optimizer : optimizers_) append(moments, optimizer.state());
  return groups;
}

void Trainer::resume() {
  const Watchdog::Phase phase("resume", 3600);
  images_ = saver_->restore(state());
  if (images_ % config_.train().batch() != 0) {
    fail(Code::kUsage, "the run stands at image ", images_,
         ", which train.batch=", config_.train().batch(),
         " does not divide; resume with the batch it was trained with");
  }
  loader_->seek(static_cast<uint64_t>(images_));
  if (image_loader_) {
    image_loader_->seek(static_cast<uint64_t>(images_ * model_->images_per_clip()));
  }
  if (world_.is_root() && images_ > 0) {
    LF_INFO("resumed from ", saver_->newest(), " at image ",
            human_count(static_cast<uint64_t>(images_)));
  }
}

}  // namespace lf
