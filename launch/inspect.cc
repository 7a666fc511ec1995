// `lastframe inspect`: what a store, a run or a checkpoint holds. Changes nothing.
#include "launch/inspect.h"

#include "base/log.h"
#include "launch/commands.h"
#include "launch/folder_kind.h"
#include "launch/store_tasks.h"

namespace lf {
namespace {

int run_inspect(const Arguments& arguments) {
  start_log("lastframe", 0);
  const std::string& folder = arguments.positional()[0];
  if (arguments.mode() == kForStores) {
    inspect_store(folder, arguments);
  } else {
    inspect_run_or_checkpoint(folder, arguments.has("--json"));
  }
  return 0;
}

constexpr char kPictures[] = "--strip|--animation";

constexpr Option kInspectOptions[] = {
    {"--strip",
     output("FILE", ".png"),
     "write one clip's frames side by side as PNG",
     {.only_with = kForStores, .without = "--shard"}},
    {"--animation",
     output("FILE", ".apng|.png|.mp4|.gif|.webp"),
     "write one clip as animated PNG or as a film",
     {.only_with = kForStores, .without = "--shard"}},
    {"--clip", integer(0, kNoLimit), "the clip", {.fallback = "0", .only_with = kPictures}},
    {"--draw",
     integer(0, 1'000'000'000),
     "draw of its corruptions",
     {.fallback = "0", .only_with = kPictures, .needs = kRandomFrames}},
    {"--shard",
     integer(0, 1'000'000'000),
     "inspect only shard N, and check it",
     {.only_with = kForStores}},
    kJsonOption,
};

}  // namespace

const Command kInspectCommand = {
    .name = "inspect",
    .positional = "FOLDER",
    .summary = "shows what a store, a run or a checkpoint holds, and draws clips",
    .details =
        "Of a run: model, store, recipe, progress, the last values of loss and metrics, and its "
        "checkpoints, newest first, each byte compared with its checksum. Of a checkpoint: its "
        "tensors. In JSON a store's shape is [height, width, channels].",
    .example =
        "lastframe inspect stores/cifar10 --json\n"
        "lastframe inspect stores/cifar10 --clip 17 --strip clip.png --animation "
        "clip.mp4\n"
        "lastframe inspect stores/cifar10 --shard 3\n"
        "lastframe inspect runs/first --json",
    .options = kInspectOptions,
    .run = run_inspect,
    .mode = kind_of_folder,
};

}  // namespace lf
