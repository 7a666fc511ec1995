// Mean and covariance of features, gathered block by block and merged over ranks, in double
// precision: what the Frechet distance is computed from. Blocks are centred before they are
// multiplied, so that features far from zero keep their digits. MomentsTree makes the result a
// function of the samples alone: whoever held which of them, the same sums are formed in the same
// order. Knows nothing of images or extractors.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "comm/world.h"

namespace lf {

class Moments {
 public:
  Moments() = default;
  explicit Moments(int64_t dim);
  // Of a covariance known from elsewhere, such as an .npz file; count >= 2.
  Moments(int64_t count, const at::Tensor& mean, const at::Tensor& covariance);

  int64_t count() const { return count_; }
  int64_t dim() const { return dim_; }
  // Rows of features, [n, dim]; none is fine. Code::kData if one is not finite.
  void add(const at::Tensor& features_ND);
  // Exact (Chan et al.); either may be empty.
  void merge(const Moments& other);

  at::Tensor mean() const { return mean_; }
  // [dim, dim], divided by count - 1. Code::kUsage with fewer than two samples.
  at::Tensor covariance() const;

  // As bytes for another rank, and back.
  std::string pack() const;
  static Moments unpack(const std::string& bytes);

 private:
  void add_centred(const at::Tensor& rows_ND, const at::Tensor& delta, double weight);

  int64_t count_ = 0, dim_ = 0;
  at::Tensor mean_;     // [dim] double
  at::Tensor scatter_;  // [dim, dim] double; on and right of the diagonal blocks only
};

// Merges the moments of chunks 0, 1, 2, ... in the order of a binary tree over their numbers. A
// node whose sibling is there too is merged into their parent at once, so a rank that holds a range
// of chunks holds few nodes.
class MomentsTree {
 public:
  void add(int64_t chunk, Moments moments) { add(0, chunk, std::move(moments)); }
  // Of the chunks added here.
  Moments merged() const;
  // Collective. Of all ranks' chunks, on rank 0; elsewhere empty.
  Moments gather(World& world) const;

 private:
  using Node = std::pair<int64_t, int64_t>;  // first chunk, level: it spans 2^level chunks
  void add(int64_t level, int64_t index, Moments moments);
  std::map<Node, Moments> nodes_;
};

}  // namespace lf
