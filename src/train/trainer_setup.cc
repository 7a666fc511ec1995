// How a Trainer comes to be: stores opened (a generated one is built first), the model made and
// made equal over the ranks, the newest checkpoint taken up. The loop itself is in trainer.cc.
#include <ATen/Parallel.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "checkpoint/retention.h"
#include "comm/threads.h"
#include "data/store/build.h"
#include "eval/evaluate.h"
#include "run/clips.h"
#include "train/trainer.h"

namespace lf {

// Checkpoints up to `images` whose evaluation was cut off, the oldest first.
static std::vector<std::string> unevaluated(const std::string& run_folder, int64_t images) {
  FileSystem& files = real_file_system();
  std::vector<std::string> folders;
  for (const Candidate& candidate : list_checkpoints(files, run_folder, Depth::kQuick)) {
    if (candidate.valid() && candidate.images <= images &&
        awaits_numbers(candidate.manifest, read_metrics(files, candidate.folder))) {
      folders.insert(folders.begin(), candidate.folder);
    }
  }
  return folders;
}

static void require_store(const Config& config) {
  if (!config.train().store().empty() || config.source().has_generated()) return;
  fail(Code::kUsage,
       "train.store is not set; give the folder that `lastframe build` made "
       "(--set train.store=DIR), or a generated source");
}

Trainer::Trainer(World& world, const Config& config, const TrainJob& job, World* everyone)
    : world_(world), config_(config), job_(job) {
  check_batch(config, world.size());
  require_store(config);
  at::set_num_threads(threads_of_rank(world, config.train().threads()));
  end_ = job.until_images > 0 ? std::min<int64_t>(job.until_images, config.train().images())
                              : config.train().images();
  watchdog_ = std::make_unique<Watchdog>(everyone != nullptr ? *everyone : world, config.comm());
  if (everyone != nullptr) {
    evaluators_ = std::make_unique<Evaluators>(
        *everyone, world, [this](const std::string& checkpoint, const EvaluationRecord& record) {
          publish(checkpoint, record);
        });
  }
  device_ = choose_device(world, config.train(), job.accelerator);
  copies_ = WorkQueue(device_);
  // What a config can be refused for comes before the first thing that is written.
  if (!config.train().store().empty()) open_stores();
  build_step();
  if (config.evaluation().every_images() > 0) {
    check_evaluation(config.evaluation(), shape_of_clips(), step_->model());
  }
  real_file_system().make_folders(job.run_folder);
  open_log_file(job.run_folder + "/logs");
  if (config.train().store().empty()) {
    build_store_of_source();
    open_stores();
  }
  open_loaders();
  saver_ = std::make_unique<Saver>(world, config_,
                                   RunIdentity{job.run_folder, stores_.training->index().store_id(),
                                               job.code_version, stores_.training->clip_shape()},
                                   checkpoint_staging(device_, job.accelerator));
  note_initial_weights();
  resume();
  coordinator_ = std::make_unique<Coordinator>(world, config_, job.run_folder, images_, end_);
  if (!world.is_root()) return;
  record_config();
  if (job.show) {
    // Once a newer start has taken the run over, the page is its own.
    report_ = std::make_unique<LiveReport>([this, life = newest_life(job.run_folder)] {
      if (newest_life(job_.run_folder) == life) job_.show(job_.run_folder);
    });
  }
}

// What the steps from here on are made by. Where none follows, the config of the earlier ones
// stays.
void Trainer::record_config() const {
  FileSystem& files = real_file_system();
  const std::string path = job_.run_folder + "/config.pbtxt";
  if (images_ < end_ || !files.exists(path)) {
    publish_file(files, path, print_config(config_));
  } else {
    LF_INFO("the run has seen ", images_, " images, as many as it was to: no step is made; ",
            job_.until_images > 0 ? "--until-images or train.images" : "train.images",
            " sets how many");
  }
}

Trainer::~Trainer() {
  heir_.reset();
  saver_.reset();
  loader_.reset();
  image_loader_.reset();
  watchdog_.reset();  // the step's end is a matter of all ranks, so it comes last
}

void Trainer::build_store_of_source() {
  const Watchdog::Phase phase("build the store", 24 * 3600);
  const std::unique_ptr<Source> source = open_source(config_.source());
  BuildRequest request;
  request.config = config_;
  request.source = source.get();
  request.folder = training_store_folder(config_, job_.run_folder);
  request.rank = world_.rank();
  request.size = world_.size();
  request.threads = at::get_num_threads();
  build_store(request);
  world_.barrier();
}

void Trainer::open_stores() {
  const Watchdog::Phase phase("open the store", 24 * 3600);
  stores_ = open_run_stores(config_, job_.run_folder);
  world_.agree("store", stores_.training->index().store_id());
  if (device_.is_cuda()) {
    device_frames_ = DeviceFrames::of(stores_.training, device_, kernel_choice(config_.train()));
  }
}

ClipShape Trainer::shape_of_clips() const {
  return stores_.training ? stores_.training->clip_shape() : shape_of_config(config_);
}

void Trainer::open_loaders() {
  const Watchdog::Phase phase("open the loader", 3600);
  if (device_frames_ && world_.is_root()) LF_INFO("the frames of clips are made on ", device_);
  loader_ = std::make_unique<Loader>(
      stores_.training, config_.loader(),
      LoaderShare{config_.train().seed(), world_.rank(), world_.size(),
                  static_cast<uint64_t>(config_.train().batch()), device_frames_ != nullptr},
      batch_memory(device_, job_.accelerator));
  if (const int64_t images = step_->model().images_per_clip(); images > 0) {
    constexpr uint64_t kImages = 0x1ace;  // another order than the clips'
    image_loader_ = std::make_unique<Loader>(
        stores_.training, config_.loader(),
        LoaderShare{config_.train().seed() ^ kImages, world_.rank(), world_.size(),
                    static_cast<uint64_t>(config_.train().batch() * images)},
        batch_memory(device_, job_.accelerator));
  }
  if (world_.is_root()) {
    LF_INFO("model: ", human_count(static_cast<uint64_t>(step_->model().parameters().count())),
            " parameters; ", world_.size(), world_.size() == 1 ? " rank of " : " ranks of ",
            at::get_num_threads(), at::get_num_threads() == 1 ? " thread" : " threads", "; store ",
            stores_.training->folder(), ": ", human_count(stores_.training->clips()), " clips");
  }
}

void Trainer::build_step() {
  const Watchdog::Phase phase("build the model", 3600);
  ModelMaker make = job_.make;
  // Once a run has a checkpoint, that holds its weights. The other ranks get rank 0's.
  if (world_.is_root() && !config_.train().init().empty() &&
      list_checkpoints(real_file_system(), job_.run_folder, Depth::kQuick).empty()) {
    make = [this](const Config& config, const ClipShape& shape, at::Device device,
                  const SumOverRanks& sum, const OpenExport& open) {
      std::unique_ptr<Model> model = job_.make(config, shape, device, sum, open);
      initial_ = take_initial_weights(config, *model);
      return model;
    };
  }
  step_ =
      std::make_unique<Step>(world_, config_, shape_of_clips(), device_, job_.accelerator, make);
}

void Trainer::note_initial_weights() {
  if (!initial_) return;
  const std::string path = job_.run_folder + "/logs/initial-weights.txt";
  publish_file(real_file_system(), path, initial_->list);
  for (const std::string& line : initial_->summary) LF_INFO(line);
  LF_INFO("all of them: ", path);
  saver_->note_initial_weights(initial_->record);
}

void Trainer::resume() {
  const Watchdog::Phase phase("resume", 3600);
  images_ = saver_->restore(step_->state());
  loader_->seek(static_cast<uint64_t>(images_));
  if (image_loader_) {
    image_loader_->seek(static_cast<uint64_t>(images_ * step_->model().images_per_clip()));
  }
  if (world_.is_root() && saver_->newest().empty()) {
    LF_INFO("no checkpoint in ", job_.run_folder, ": training begins at image 0");
  } else if (world_.is_root()) {
    LF_INFO("resumed from ", saver_->newest(), " at image ",
            human_count(static_cast<uint64_t>(images_)));
  }
  if (evaluators_ && world_.is_root()) evaluators_->submit(unevaluated(job_.run_folder, images_));
}

}  // namespace lf
