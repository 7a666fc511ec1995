// Metrics that compare each image or video with its counterpart: PSNR, SSIM, CRPS. Pixels are
// doubles in [0, 1]. Per frame; what is averaged over frames and videos is the caller's.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

namespace lf {

// 10 log10(1 / MSE) of every frame, [N, T]; 100 dB where the MSE is below 1e-10.
at::Tensor psnr_of_frames(const at::Tensor& a_NTHWC, const at::Tensor& b_NTHWC);

// Structural similarity of every frame, [N, T], as scikit-image computes it with
// gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1: an 11x11 Gaussian
// window, weighted variances, the mean over where the whole window fits, then over channels.
// Code::kUsage for frames under 11 pixels.
at::Tensor ssim_of_frames(const at::Tensor& a_NTHWC, const at::Tensor& b_NTHWC);

// The continuous ranked probability score of an ensemble [S, N, T, H, W, C] for each frame, [N, T]:
// mean |x_i - y| - mean |x_i - x_j| / 2 over members i and j, averaged over pixels. With one member
// it is the mean absolute error.
at::Tensor crps_of_frames(const at::Tensor& truth_NTHWC, const at::Tensor& ensemble_SNTHWC);

}  // namespace lf
