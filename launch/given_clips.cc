#include "launch/given_clips.h"

#include <ATen/TensorOperators.h>

#include "base/error.h"
#include "run/arrays.h"
#include "run/clips.h"

namespace lf {
namespace {

void check_count(const std::string& from, uint64_t there, int64_t count) {
  if (static_cast<uint64_t>(count) <= there) return;
  fail(Code::kUsage, printable(from), " holds ", there, " clips, and --count asks for ", count,
       "; ask for no more than there are");
}

class StoreClips : public GivenClips {
 public:
  StoreClips(const std::string& folder, const Run& run, int64_t count)
      : store_(Store::open(folder)), columns_(run.config.loader()), device_(run.device) {
    const ClipShape &shape = run.shape, found = store_->clip_shape();
    if (found != shape) {
      fail(Code::kUsage, printable(folder), " holds clips of ", found.frames, "x", found.height,
           "x", found.width, "x", found.channels, ", the run was trained on ", shape.frames, "x",
           shape.height, "x", shape.width, "x", shape.channels, "; give a store of that shape");
    }
    check_count(folder, store_->clips(), count);
  }
  int64_t frames() const override { return store_->clip_shape().frames; }
  Clips group(int64_t first, int64_t count) const override {
    return clips_in_order(*store_, first, count, device_, &columns_);
  }

 private:
  std::shared_ptr<const Store> store_;
  const LoaderConfig columns_;
  const at::Device device_;
};

class ArrayClips : public GivenClips {
 public:
  ArrayClips(const std::string& path, const Run& run, int64_t count)
      : bytes_(load_npy(path)), device_(run.device) {
    if (bytes_.dim() != 5 || bytes_.scalar_type() != at::kByte || bytes_.numel() == 0) {
      fail(Code::kUsage, printable(path), " is ", bytes_.sizes(), " of ", bytes_.dtype(),
           ", expected bytes [n, T, H, W, C], as `lastframe sample --out FILE.npy` writes them");
    }
    check_count(path, static_cast<uint64_t>(bytes_.size(0)), count);
  }
  int64_t frames() const override { return bytes_.size(1); }
  Clips group(int64_t first, int64_t count) const override {
    Clips clips;
    clips.x_BTHWC = (bytes_.slice(0, first, first + count).to(at::kFloat) / 127.5 - 1).to(device_);
    return clips;
  }

 private:
  const at::Tensor bytes_;
  const at::Device device_;
};

}  // namespace

std::unique_ptr<GivenClips> clips_of_store(const std::string& folder, const Run& run,
                                           int64_t count) {
  return std::make_unique<StoreClips>(folder, run, count);
}

std::unique_ptr<GivenClips> clips_of_array(const std::string& path, const Run& run, int64_t count) {
  return std::make_unique<ArrayClips>(path, run, count);
}

}  // namespace lf
