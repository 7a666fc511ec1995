#include "kernels/cpu/convolution_tiles.h"

#include "kernels/cpu/convolution_transforms.h"
#include "kernels/cpu/products.h"
#include "kernels/cpu/scratch.h"

namespace lf {
namespace {

// The products of one of the kTransformed matrices. A frame of the result is a sum over the frame
// before, itself and the frame after (the taps); gradients flow the other way.
struct Taps {
  const ConvolutionTask& task;
  int64_t count, rows;

  // Offset in rows from a frame to the frame that a tap reads.
  int64_t offset(int64_t tap, int64_t row) const { return (tap - task.taps / 2) * count * row; }
  void forward(const float* image, int64_t in, const float* filters, int64_t out,
               float* products) const {
    for (int64_t tap = 0; tap < task.taps; ++tap) {
      multiply(Operands::kSingle, {image + offset(tap, in), in},
               {filters + tap * task.in * out, out}, {rows, out, task.in, products, out, tap > 0});
    }
  }
  void filters_back(const float* image, int64_t in, const float* gradients, int64_t out,
                    float* sums, bool add) const {
    for (int64_t tap = 0; tap < task.taps; ++tap) {
      multiply(Operands::kSingle, {image + offset(tap, in), 1, in}, {gradients, out},
               {task.in, out, rows, sums + tap * task.in * out, out, add});
    }
  }
  void image_back(const float* gradients, int64_t out, const float* transposed, int64_t in,
                  float* image) const {
    for (int64_t tap = 0; tap < task.taps; ++tap) {
      multiply(Operands::kSingle, {gradients - offset(tap, out), out},
               {transposed + tap * task.out * in, in}, {rows, in, task.out, image, in, tap > 0});
    }
  }
};

float* zeroed(Scratch& scratch, int64_t count) {
  auto* out = scratch.take<float>(count);
  std::fill(out, out + count, 0.0F);
  return out;
}

void forward(const ConvolutionTask& task, int64_t index) {
  Scratch scratch;
  const int64_t begin = index * task.strip(), in = task.row(task.in), out = task.row(task.out);
  const Strip strip{begin, std::min(task.strip(), task.tiles() - begin)};
  const int64_t rows = task.frames * strip.count;
  const float* zeros = zeroed(scratch, in);
  auto* nowhere = scratch.take<float>(out);
  const Transformed image(scratch, task, in), products(scratch, task, out);
  transform_image(task, strip, zeros, image);
  image.clear_around(rows * in);
  const Taps taps{task, strip.count, rows};
  for (int64_t i = 0; i < kTransformed; ++i) {
    taps.forward(image.of(i), in, task.filters + i * task.filter_size(), out, products.of(i));
  }
  results(task, strip, products, nowhere);
}

// Gradients of the clips `first` to `last` start as zero and are converted to their own type.
int64_t clip_size(const ConvolutionTask& task) {
  return task.frames * task.height * task.width * task.in;
}
void begin_gradients(const ConvolutionTask& task, int64_t first, int64_t last) {
  std::fill(task.dx_single + first * clip_size(task), task.dx_single + last * clip_size(task),
            0.0F);
}
template <typename X>
struct EndGradients {
  static LF_INLINE void run(const ConvolutionTask* given, int64_t first, int64_t last) {
    const ConvolutionTask& task = *given;
    const int64_t end = last * clip_size(task);
    auto* dx = static_cast<X*>(task.dx);
    for (int64_t i = first * clip_size(task); i < end; i += kLanes) {
      store(dx + i, load(task.dx_single + i, end - i), end - i);
    }
  }
};

void back(const ConvolutionTask& task, int64_t chunk) {
  Scratch scratch;
  const int64_t in = task.row(task.in), out = task.row(task.out), each = task.strip();
  const int64_t first = chunk * task.clips / task.chunks(),
                last = (chunk + 1) * task.clips / task.chunks();
  float* sums = task.sums + chunk * task.sums_size();
  std::fill(sums + task.bias_sums(), sums + task.sums_size(), 0.0F);
  const float* zeros = zeroed(scratch, std::max(in, out));
  auto* nowhere = zeroed(scratch, in);
  const Transformed image(scratch, task, in), gradients(scratch, task, out);
  if (task.dx != nullptr) begin_gradients(task, first, last);
  const int64_t end = last * task.of_image();
  for (int64_t begin = first * task.of_image(); begin < end; begin += each) {
    const Strip strip{begin, std::min(each, end - begin)};
    const int64_t rows = task.frames * strip.count;
    transform_results_back(task, strip, zeros, gradients, sums + task.bias_sums());
    transform_image(task, strip, zeros, image);
    image.clear_around(rows * in);
    const Taps taps{task, strip.count, rows};
    for (int64_t i = 0; i < kTransformed; ++i) {
      taps.filters_back(image.of(i), in, gradients.of(i), out, sums + i * task.filter_size(),
                        begin > first * task.of_image());
    }
    if (task.dx == nullptr) continue;
    gradients.clear_around(rows * out);
    for (int64_t i = 0; i < kTransformed; ++i) {
      taps.image_back(gradients.of(i), out, task.filters_transposed + i * task.transposed_size(),
                      in, image.of(i));
    }
    transform_image_back(task, strip, image, nowhere);
  }
  if (task.dx != nullptr && task.bf16_rows) run_bf16<EndGradients>(&task, first, last);
}

}  // namespace

void convolution_strip(const ConvolutionTask& task, int64_t strip) { forward(task, strip); }

void convolution_chunk_back(const ConvolutionTask& task, int64_t chunk) { back(task, chunk); }

}  // namespace lf
