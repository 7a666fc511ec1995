#include "launch/cluster_plan.h"

#include <string>

#include "config/config.h"

namespace lf {
namespace {

// Assumptions, each among the numbers that --explain prints.
constexpr double kProgramBytes = 1.5 * (1 << 30);  // of a GPU: CUDA's context, NCCL, workspaces
constexpr double kOperationSeconds = 4e-6;         // of the host, to launch one
constexpr double kLinkEfficiency = 0.8;            // of the data sheet's rate, of long messages
constexpr double kHopSeconds = 5e-6, kNetHopSeconds = 15e-6;
constexpr double kStartSeconds = 20, kCpuStartSeconds = 2;  // from launch to the first step
constexpr double kBeginSeconds = 5e-3;                      // of a checkpoint
constexpr double kInceptionFlops = 11.4e9;                  // of one image of 299x299

using Bench = std::optional<StepBench>;

void give_run(const Config& config, const RunEstimate& run, double sample_flops, Quantities& out) {
  const TrainConfig& train = config.train();
  const StepEstimate& step = *run.step;
  out.give("images", static_cast<double>(train.images()), "train.images");
  out.give("batch", train.batch(), "train.batch");
  out.give("accumulation", train.accumulation(), "train.accumulation");
  out.give("trained_parameters", static_cast<double>(run.trained), "of the model, built here");
  out.give("flops_per_image", step.flops_per_clip, "counted in a step on noise");
  out.give("convolution_flops_per_image", step.convolution_flops, "those in convolutions");
  out.give("sample_flops", sample_flops, "of one clip that the model makes, counted");
  const auto image = static_cast<double>(run.format.shape.image().bytes());
  const int corrupted = config.store().mode() == RECOMPUTED ? 0 : run.format.shape.frames - 1;
  out.give("read_bytes_per_image",
           image * (1 + corrupted * (run.format.element == Element::kUint8 ? 1 : 2)),
           corrupted > 0 ? "a clip of the store" : "an image; frames are made when it is read");
  out.give("state_bytes", static_cast<double>(step.state), "weights, moments and averages");
  out.compute("gradient_bytes", "4 * trained_parameters", "gradients of a step, FP32");
}

void give_cluster(const Cluster& cluster, Quantities& out) {
  const Processor& one = cluster.processor;
  const char* source = one.cpu ? "measured on this machine" : "data sheet";
  out.give("nodes", cluster.nodes, "--nodes");
  out.give("gpus_per_node", cluster.gpus_per_node, "--gpus-per-node");
  out.give("net_bytes_per_s", cluster.net, "--net, of a node");
  out.give("fs_bytes_per_s", cluster.fs, "--fs, of all nodes together");
  out.give("product_peak", one.products, source);
  out.give("convolution_peak", one.convolutions, source);
  out.give("features_peak", one.features, source);
  out.give("memory_bytes_per_s", one.bandwidth, source);
  out.give("link_bytes_per_s", one.link, source);
  out.give("host_bytes_per_s", one.host, source);
  if (one.memory > 0) out.give("gpu_memory_bytes", one.memory, source);
  out.give("utilisation", cluster.utilisation, "--utilisation, of the peaks");
  out.compute("gpus", "nodes * gpus_per_node", "ranks");
  out.compute("images_per_gpu", "batch / gpus", "of a step");
}

void compute_memory(const RunEstimate& run, const Processor& one, Quantities& out) {
  const StepEstimate& step = *run.step;
  if (one.cpu) {
    out.give("memory_bytes_per_gpu", static_cast<double>(step.memory.total),
             "measured by steps on this machine, as train --dry-run does");
  } else {
    const double further = static_cast<double>(step.allocated_per_clip);
    out.give("program_bytes", kProgramBytes, "assumed: CUDA's context, NCCL, workspaces");
    out.give("first_image_bytes", static_cast<double>(step.allocated),
             "tensors at the peak of a step of one clip, counted on the CPU");
    out.give("image_bytes", further, "of each further clip");
    out.compute("memory_bytes_per_gpu",
                "program_bytes + first_image_bytes + (images_per_gpu / accumulation - 1) * "
                "image_bytes",
                "at the peak");
    out.compute("most_images_at_once",
                "floor(1 + (gpu_memory_bytes - program_bytes - first_image_bytes) / image_bytes)",
                "that fit into a GPU");
  }
  if (out.has("gpu_memory_bytes")) {
    out.compute("memory_share", "memory_bytes_per_gpu / gpu_memory_bytes", "of a GPU's memory");
  }
}

void compute_arithmetic(const Config& config, const RunEstimate& run, const Processor& one,
                        const Bench& bench, Quantities& out) {
  // Read once and written once; gradients are read for their norm and for the update.
  out.compute("optimizer_seconds", "2 * (state_bytes + gradient_bytes) / memory_bytes_per_s",
              "update and averages");
  if (bench) {
    out.give("bench_step_seconds", bench->seconds, "--bench");
    out.give("bench_communication_share", bench->communication_share, "--bench, not hidden");
    out.give("bench_images_per_gpu", static_cast<double>(bench->batch) / bench->ranks, "--bench");
    out.compute("gpu_seconds_per_image",
                "max(0, bench_step_seconds * (1 - bench_communication_share) - optimizer_seconds) "
                "/ bench_images_per_gpu",
                "arithmetic of training");
  } else {
    out.compute("gpu_seconds_per_image",
                "((flops_per_image - convolution_flops_per_image) / product_peak + "
                "convolution_flops_per_image / convolution_peak) / utilisation",
                "arithmetic of training");
  }
  // What was measured contains the launches.
  if (one.cpu || bench || config.train().graph() == ON) {
    out.compute("compute_seconds", "images_per_gpu * gpu_seconds_per_image",
                "forward and backward of a step");
    return;
  }
  out.give("operations", static_cast<double>(run.step->operations), "counted in a micro-batch");
  out.give("seconds_per_operation", kOperationSeconds, "assumed: of the host, to launch it");
  out.compute("launch_seconds", "accumulation * operations * seconds_per_operation",
              "of the host; train.graph=ON saves it");
  out.compute("compute_seconds", "max(images_per_gpu * gpu_seconds_per_image, launch_seconds)",
              "forward and backward of a step");
}

void compute_all_reduce(const Config& config, const Cluster& cluster, Quantities& out) {
  const char* about = "of the gradients, a ring over all GPUs";
  if (cluster.nodes * cluster.gpus_per_node == 1) {
    out.compute("allreduce_seconds", "0", about);
    out.compute("allreduce_hidden_seconds", "0", "behind backward");
    return;
  }
  out.give("bucket_bytes", config.comm().bucket_mib() * (1 << 20), "comm.bucket_mib");
  out.give("hop_seconds", cluster.nodes == 1 ? kHopSeconds : kNetHopSeconds, "assumed");
  out.give("link_efficiency", kLinkEfficiency, "assumed");
  out.compute("buckets", "ceil(gradient_bytes / bucket_bytes)", "of gradients");
  out.compute("allreduce_bytes_per_s",
              cluster.nodes == 1           ? "link_efficiency * link_bytes_per_s"
              : cluster.gpus_per_node == 1 ? "link_efficiency * net_bytes_per_s"
                                           : "link_efficiency * min(link_bytes_per_s, "
                                             "net_bytes_per_s)",
              "of the slowest link of the ring");
  out.compute("allreduce_seconds",
              "2 * (gpus - 1) / gpus * gradient_bytes / allreduce_bytes_per_s + "
              "2 * buckets * log2(gpus) * hop_seconds",
              about);
  if (cluster.processor.cpu) {
    out.compute("allreduce_hidden_seconds", "0",
                "behind backward: none, as ranks reduce on the cores that compute");
    return;
  }
  out.compute("backward_seconds", "2 / 3 * compute_seconds / accumulation",
              "of the last micro-batch");
  out.compute("allreduce_hidden_seconds",
              "min(backward_seconds, allreduce_seconds * (buckets - 1) / buckets)",
              "behind backward: all buckets but the last");
}

void compute_step(Quantities& out) {
  out.compute("data_seconds", "batch * read_bytes_per_image / fs_bytes_per_s",
              "to read a batch; hidden while it is less than the rest");
  out.compute("step_seconds",
              "max(compute_seconds + optimizer_seconds + allreduce_seconds - "
              "allreduce_hidden_seconds, data_seconds)",
              "one step");
  out.compute("images_per_s", "batch / step_seconds", "of all GPUs");
  out.compute("data_bytes_per_s", "images_per_s * read_bytes_per_image", "from the file system");
  out.compute("steps", "ceil(images / batch)", "of the training");
  out.compute("train_seconds", "steps * step_seconds", "all steps");
}

// When the next checkpoint comes (checkpoint/retention.h).
std::string interval_of(const CheckpointConfig& checkpoint) {
  const std::string by_time =
      "min(60 * every_minutes, max(60, 100 * (checkpoint_stall_seconds + "
      "checkpoint_write_seconds)))";
  const std::string by_images = "every_images / images_per_s";
  if (checkpoint.every_minutes() > 0 && checkpoint.every_images() > 0) {
    return "min(train_seconds, " + by_images + ", " + by_time + ")";
  }
  if (checkpoint.every_minutes() > 0) return "min(train_seconds, " + by_time + ")";
  return checkpoint.every_images() > 0 ? "min(train_seconds, " + by_images + ")" : "train_seconds";
}

void compute_checkpoints(const Config& config, const RunEstimate& run, const Processor& one,
                         Quantities& out) {
  const CheckpointConfig& checkpoint = config.checkpoint();
  out.compute(
      "checkpoint_write_seconds",
      checkpoint.read_back() ? "2 * state_bytes / fs_bytes_per_s" : "state_bytes / fs_bytes_per_s",
      checkpoint.read_back() ? "written, and read back" : "written");
  if (checkpoint.asynchronous()) {
    out.give("staged_bytes_per_gpu", static_cast<double>(run.step->memory.checkpoint),
             "of the rank that writes most");
    out.give("begin_seconds", kBeginSeconds, "assumed: to make the folder and agree on it");
    out.compute("checkpoint_stall_seconds",
                "begin_seconds + staged_bytes_per_gpu / host_bytes_per_s",
                "training waits for the copy only");
  } else {
    out.compute("checkpoint_stall_seconds", "checkpoint_write_seconds",
                "training waits: checkpoint.asynchronous is false");
  }
  if (checkpoint.every_minutes() > 0) {
    out.give("every_minutes", checkpoint.every_minutes(), "checkpoint.every_minutes");
  }
  if (checkpoint.every_images() > 0) {
    out.give("every_images", static_cast<double>(checkpoint.every_images()),
             "checkpoint.every_images");
  }
  out.compute("checkpoint_interval_seconds", interval_of(checkpoint), "between two checkpoints");
  out.give("start_seconds", one.cpu ? kCpuStartSeconds : kStartSeconds,
           "assumed: of a process, until its first step");
  out.compute("restart_seconds", "start_seconds + nodes * state_bytes / fs_bytes_per_s",
              "every node reads the checkpoint");
  out.compute("preemption_seconds",
              "step_seconds + checkpoint_stall_seconds + checkpoint_write_seconds + "
              "restart_seconds",
              "lost at a preemption with notice, which saves a checkpoint first");
  out.compute("kill_seconds",
              "checkpoint_interval_seconds / 2 + checkpoint_write_seconds + restart_seconds",
              "lost at a failure without notice, in the mean");
}

void compute_whole(const Config& config, Quantities& out) {
  out.compute("gpu_seconds_per_sample", "gpu_seconds_per_image * sample_flops / flops_per_image",
              "one clip made");
  out.give("feature_flops", kInceptionFlops, "Inception's, of an image of 299x299");
  out.compute("feature_seconds", "feature_flops / features_peak / utilisation",
              "features of an image, FP32");
  out.compute("fid50k_seconds", "50000 * (gpu_seconds_per_sample + feature_seconds) / gpus",
              "50,000 samples and their features");
  const EvaluationConfig& evaluation = config.evaluation();
  const int64_t every = evaluation.every_images();
  if (every > 0) {
    const int64_t evaluations = (config.train().images() + every - 1) / every;
    out.give("evaluations", static_cast<double>(evaluations),
             "evaluation.every_images, and one at the end");
    out.give("evaluation_samples", static_cast<double>(evaluation.samples()), "evaluation.samples");
    out.compute("evaluations_seconds",
                "evaluations * evaluation_samples * (gpu_seconds_per_sample + feature_seconds) / "
                "gpus",
                "all evaluations");
  } else {
    out.compute("evaluations_seconds", "0", "no evaluation.every_images");
  }
  out.compute("wall_seconds",
              "train_seconds * (1 + checkpoint_stall_seconds / checkpoint_interval_seconds) + "
              "evaluations_seconds",
              "from the first step to the last, without failures");
  out.compute("gpu_hours", "gpus * wall_seconds / 3600", "in all");
}

}  // namespace

Quantities plan_on_cluster(const Config& config, const RunEstimate& run, double sample_flops,
                           const Cluster& cluster, const Bench& bench) {
  const Processor& one = cluster.processor;
  Quantities out;
  give_run(config, run, sample_flops, out);
  give_cluster(cluster, out);
  compute_memory(run, one, out);
  compute_arithmetic(config, run, one, bench, out);
  compute_all_reduce(config, cluster, out);
  compute_step(out);
  compute_checkpoints(config, run, one, out);
  compute_whole(config, out);
  return out;
}

}  // namespace lf
