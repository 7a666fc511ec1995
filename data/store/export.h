// Clips out of a store, for other programs and for the eye: NumPy arrays, folders of PNG, and the
// frames of one clip as pictures. Called by launch/store_commands and train (previews).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file.h"
#include "data/image/image.h"
#include "data/store/store.h"

namespace lf {

// The frames of a clip in grey levels, the image last. Float16 frames are x = grey / 127.5 - 1;
// they are rounded half to even and clipped.
std::vector<Image> clip_frames(const Store& store, uint64_t clip, uint32_t draw = 0);

// Writes clips [first, last) as one array [n, T, H, W, C]: uint8, or float16 where the store's
// frames are, the image then converted to the same scale, grey / 127.5 - 1. Published by rename.
void export_npy(FileSystem& files, const Store& store, const std::string& path, uint64_t first,
                uint64_t last, uint32_t draw = 0);

// Writes FOLDER/clip-000000017/frame-003.png, T files a clip: the form that the source `frames`
// reads back.
void export_png(FileSystem& files, const Store& store, const std::string& folder, uint64_t first,
                uint64_t last, uint32_t draw = 0);

}  // namespace lf
