// Clips that were made, from bytes to an array, pictures and animations.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/image/image.h"
#include "model/model.h"

namespace lf {

// The frames of clip i, as many and as large as those that were made.
using RealClip = std::function<std::vector<Image>(size_t i)>;

class MadeClips {
 public:
  // [n, T, H, W, C], of whose frames `observed` (rising) were given; pictures mark those, and show
  // the `real` clips, where there are some, above those that were made of them.
  MadeClips(std::string bytes, const ClipShape& shape, std::vector<int64_t> observed,
            RealClip real = nullptr);

  // FILE.npy: all bytes; FILE.png: every frame, a clip a row; FILE.apng and films: side by
  // side, moving; anything else: a folder with the array and with pictures of the first clips.
  // Once: the bytes become the file, without a copy where there is room for a header.
  void write(const std::string& out) &&;

 private:
  void write_array(const std::string& file);
  void load_real(size_t clips);
  std::string sheet(size_t clips) const;
  std::string last_frames(size_t clips) const;
  std::string animation(const std::string& file, size_t clips) const;
  Image frames_at(size_t clips, size_t t, const std::string& above) const;
  std::vector<Image> clip(size_t i) const;
  Image frame(size_t i, size_t t) const;

  std::string bytes_;
  ClipShape shape_;
  std::vector<int64_t> observed_;
  RealClip real_clip_;
  std::vector<std::vector<Image>> real_;  // of the clips in pictures
  size_t clip_bytes_ = 0, clips_ = 0;
};

}  // namespace lf
