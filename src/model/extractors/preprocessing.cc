#include "model/extractors/preprocessing.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_upsample_bicubic2d_aa.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/lerp.h>
#include <ATen/ops/upsample_bilinear2d.h>

#include "base/error.h"

namespace lf {
namespace {

// One axis of TensorFlow 1's bilinear resize: output i reads at i * in / out, in fp32.
at::Tensor resize_axis_tf1(const at::Tensor& x, int64_t axis, int64_t out) {
  const int64_t in = x.size(axis);
  if (in == out) return x;
  const float scale = static_cast<float>(in) / static_cast<float>(out);
  const at::Tensor position = at::arange(out, x.options()) * scale;
  const at::Tensor low = position.floor().to(at::kLong);
  const at::Tensor high = (low + 1).clamp_max(in - 1);
  std::vector<int64_t> along(4, 1);
  along[static_cast<size_t>(axis)] = out;
  const at::Tensor part = (position - low).view(along);
  return at::lerp(x.index_select(axis, low), x.index_select(axis, high), part);
}

}  // namespace

at::Tensor rgb_images(const at::Tensor& images_NHWC) {
  const at::Tensor x = images_NHWC.permute({0, 3, 1, 2});
  return x.expand({-1, 3, -1, -1}).to(at::kFloat).contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor prepare_images(const at::Tensor& images_NHWC, Preprocessing id, int64_t side) {
  const at::Tensor x = rgb_images(images_NHWC);
  switch (id) {
    case Preprocessing::kTorch:
      return at::upsample_bilinear2d(x / 255, {side, side}, /*align_corners=*/false)
          .mul_(2)
          .sub_(1);
    case Preprocessing::kTf1:
      // Columns first: TensorFlow interpolates within the two rows, then between them.
      return (resize_axis_tf1(resize_axis_tf1(x, 3, side), 2, side) - 128) / 128;
    case Preprocessing::kClean:
      return (at::_upsample_bicubic2d_aa(x, {side, side}, /*align_corners=*/false).clamp(0, 255) -
              128) /
             128;
  }
  LF_CHECK(false, "no such preprocessing");
  return {};
}

}  // namespace lf
