// Exports clips of a store for other programs: NumPy arrays, folders of PNG files, and the frames
// of one clip as images.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "data/image/image.h"
#include "data/store/store.h"

namespace lf {

// The frames of a clip in grey levels, the image last. fp16 frames, x = grey / 127.5 - 1, are
// converted back, rounded half to even and clipped.
std::vector<Image> clip_frames(const Store& store, uint64_t clip, uint32_t draw = 0);

// Writes clips [first, last) as one array [n, T, H, W, C]: uint8, or fp16 if the store's frames are
// fp16; the image is then converted to their scale, grey / 127.5 - 1. Published by rename.
void export_npy(FileSystem& files, const Store& store, const std::string& path, uint64_t first,
                uint64_t last, uint32_t draw = 0);

// Writes FOLDER/clip-000000017/frame-003.png, T files a clip; the source `frames` reads this
// layout.
void export_png(FileSystem& files, const Store& store, const std::string& folder, uint64_t first,
                uint64_t last, uint32_t draw = 0);

}  // namespace lf
