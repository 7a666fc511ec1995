// Building recipes and images for the recipe tests.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/isa.h"
#include "base/random.h"
#include "config/config.h"
#include "data/recipe/recipe.h"

namespace lf {

inline RecipeConfig recipe_config(const std::vector<std::string>& sets) {
  std::vector<std::string> full;
  for (const std::string& set : sets) full.push_back("recipe." + set);
  return load_config("", full).recipe();
}

inline Recipe recipe(const std::vector<std::string>& sets, const ClipShape& shape) {
  return Recipe(recipe_config(sets), shape);
}

// The message of the usage error that opening this recipe must throw.
inline std::string refused(const std::vector<std::string>& sets,
                           const ClipShape& shape = {1, 32, 32, 3}) {
  try {
    recipe(sets, shape);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kUsage) << error.what();
    return error.what();
  }
  ADD_FAILURE() << join(sets, " ") << " was taken";
  return "";
}

inline std::vector<uint8_t> random_image(const ClipShape& shape, uint64_t seed = 1) {
  std::vector<uint32_t> bits(shape.bytes());
  uniform_bits({seed, Purpose::kGenerated}, 0, bits.size(), bits.data());
  return {bits.begin(), bits.end()};
}

// Independent N(0, 1) pixels in [-1, 1] units, as grey levels.
inline std::vector<float> gaussian_image(const ClipShape& shape) {
  std::vector<float> image(shape.bytes());
  normal({3, Purpose::kGenerated}, 0, image.size(), image.data());
  for (float& value : image) value = 127.5f + 127.5f * value;
  return image;
}

// Frames in grey levels, [s][pixel] with s counted from the image, which is 0.
inline std::vector<std::vector<float>> exact_frames(const Recipe& recipe,
                                                    const std::vector<float>& image,
                                                    const ClipKey& key = {}) {
  const size_t steps = static_cast<size_t>(recipe.frames() - 1);
  std::vector<float> all(steps * image.size());
  recipe.apply_exact(image.data(), key, all.data());
  std::vector<std::vector<float>> frames = {image};
  for (size_t s = 1; s <= steps; ++s) {
    const auto begin = all.begin() + static_cast<int64_t>((steps - s) * image.size());
    frames.emplace_back(begin, begin + static_cast<int64_t>(image.size()));
  }
  return frames;
}

inline std::vector<uint8_t> stored_frames(const Recipe& recipe, const std::vector<uint8_t>& image,
                                          const ClipKey& key = {}) {
  std::vector<uint8_t> out(recipe.corrupted_bytes());
  recipe.apply(image.data(), key, out.data());
  return out;
}

inline std::vector<float> as_floats(const std::vector<uint8_t>& image) {
  return {image.begin(), image.end()};
}

}  // namespace lf
