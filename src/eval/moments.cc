#include "eval/moments.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"

namespace lf {
namespace {

constexpr int64_t kRows = 4096;  // centred and multiplied at a time
constexpr int64_t kStrip = 256;  // columns of the scatter made at a time
constexpr int64_t kLargestDim = 1 << 16;

// What is not finite in any feature is not finite in the mean.
void require_finite(const at::Tensor& mean) {
  if (at::isfinite(mean).all().item<bool>()) return;
  fail(Code::kData,
       "features of a set are not finite; is there NaN in its images, or in the weights of the "
       "extractor?");
}

}  // namespace

Moments::Moments(int64_t dim)
    : dim_(dim),
      mean_(at::zeros({dim}, at::kDouble)),
      scatter_(at::zeros({dim, dim}, at::kDouble)) {
  LF_CHECK(dim > 0 && dim <= kLargestDim, "features of width ", dim);
}

Moments::Moments(int64_t count, const at::Tensor& mean, const at::Tensor& covariance)
    : count_(count),
      dim_(mean.size(0)),
      mean_(mean.to(at::kDouble).clone()),
      scatter_(covariance.to(at::kDouble) * static_cast<double>(count - 1)) {
  LF_CHECK(count >= 2 && covariance.dim() == 2 && covariance.size(0) == dim_ &&
           covariance.size(1) == dim_);
}

// scatter += rows^T rows + weight delta^T delta, in the blocks on and right of the diagonal.
void Moments::add_centred(const at::Tensor& rows_ND, const at::Tensor& delta, double weight) {
  const at::Tensor rows_DN = rows_ND.t();
  for (int64_t from = 0; from < dim_; from += kStrip) {
    const int64_t to = std::min(dim_, from + kStrip);
    at::Tensor strip = scatter_.slice(0, from, to).slice(1, from);
    if (rows_ND.size(0) > 0) strip.addmm_(rows_DN.slice(0, from, to), rows_ND.slice(1, from));
    if (weight > 0) strip.addr_(delta.slice(0, from, to), delta.slice(0, from), 1, weight);
  }
}

void Moments::add(const at::Tensor& features_ND) {
  LF_CHECK(features_ND.dim() == 2 && (dim_ == 0 || features_ND.size(1) == dim_));
  if (dim_ == 0) *this = Moments(features_ND.size(1));
  for (int64_t from = 0; from < features_ND.size(0); from += kRows) {
    const at::Tensor rows = features_ND.slice(0, from, from + kRows).to(at::kCPU, at::kDouble);
    const auto before = static_cast<double>(count_), more = static_cast<double>(rows.size(0));
    const at::Tensor block_mean = rows.mean(0);
    require_finite(block_mean);
    const at::Tensor delta = block_mean - mean_;
    count_ += rows.size(0);
    add_centred(rows - block_mean, delta, before * more / (before + more));
    mean_ = mean_ + delta * (more / (before + more));
  }
}

void Moments::merge(const Moments& other) {
  if (other.count_ == 0) return;
  if (count_ == 0) {
    *this = other;
    mean_ = mean_.clone();
    scatter_ = scatter_.clone();
    return;
  }
  LF_CHECK(dim_ == other.dim_);
  const auto a = static_cast<double>(count_), b = static_cast<double>(other.count_);
  const at::Tensor delta = other.mean_ - mean_;
  scatter_.add_(other.scatter_);
  add_centred(at::zeros({0, dim_}, at::kDouble), delta, a * b / (a + b));
  mean_ = mean_ + delta * (b / (a + b));
  count_ += other.count_;
}

at::Tensor Moments::covariance() const {
  if (count_ < 2) {
    fail(Code::kUsage, "a covariance needs at least 2 samples, there ",
         count_ == 1 ? "is 1" : "are none", "; evaluate more");
  }
  const at::Tensor right = scatter_.triu();
  return (right + scatter_.triu(1).t()) / static_cast<double>(count_ - 1);
}

std::string Moments::pack() const {
  std::string bytes(reinterpret_cast<const char*>(&count_), sizeof(count_));
  if (count_ == 0) return bytes;
  const auto append = [&](const at::Tensor& tensor) {
    const at::Tensor dense = tensor.contiguous();
    bytes.append(reinterpret_cast<const char*>(dense.const_data_ptr<double>()), dense.nbytes());
  };
  append(mean_);
  for (int64_t row = 0; row < dim_; ++row) append(scatter_[row].slice(0, row));
  return bytes;
}

Moments Moments::unpack(const std::string& bytes) {
  Moments moments;
  LF_CHECK(bytes.size() >= sizeof(int64_t));
  std::memcpy(&moments.count_, bytes.data(), sizeof(int64_t));
  if (moments.count_ == 0) return moments;
  // d + d (d + 1) / 2 values follow.
  const auto values = static_cast<int64_t>((bytes.size() - sizeof(int64_t)) / sizeof(double));
  const double root = std::sqrt(9 + 8 * static_cast<double>(values));
  const auto dim = static_cast<int64_t>(std::lround((root - 3) / 2));
  LF_CHECK(dim * (dim + 3) / 2 == values, "packed moments");
  const int64_t count = moments.count_;
  moments = Moments(dim);
  moments.count_ = count;
  const char* at = bytes.data() + sizeof(int64_t);
  const auto take = [&](double* into, int64_t size) {
    std::memcpy(into, at, static_cast<size_t>(size) * sizeof(double));
    at += static_cast<size_t>(size) * sizeof(double);
  };
  take(moments.mean_.mutable_data_ptr<double>(), dim);
  auto* scatter = moments.scatter_.mutable_data_ptr<double>();
  for (int64_t row = 0; row < dim; ++row) take(scatter + row * dim + row, dim - row);
  return moments;
}

void MomentsTree::add(int64_t level, int64_t index, Moments moments) {
  // Up the tree for as long as the sibling waits there; the left one is always merged into first.
  while (true) {
    const auto sibling = nodes_.find({(index ^ 1) << level, level});
    if (sibling == nodes_.end()) break;
    Moments other = std::move(sibling->second);
    nodes_.erase(sibling);
    if (index % 2 == 1) std::swap(moments, other);
    moments.merge(other);
    ++level;
    index /= 2;
  }
  nodes_[{index << level, level}] = std::move(moments);
}

// What has no sibling joins from the left: the number of chunks is no power of two.
Moments MomentsTree::merged() const {
  Moments total;
  for (const auto& [place, moments] : nodes_) total.merge(moments);
  return total;
}

// One node travels at a time, so that rank 0 never holds more than its own tree and one message.
Moments MomentsTree::gather(World& world) const {
  MomentsTree all;
  if (world.is_root()) all = *this;
  for (int rank = 1; rank < world.size(); ++rank) {
    const bool mine = rank == world.rank();
    const int64_t nodes = world.max(mine ? static_cast<int64_t>(nodes_.size()) : int64_t{0});
    auto node = nodes_.begin();
    for (int64_t i = 0; i < nodes; ++i) {
      std::string bytes;
      if (mine) {
        const int64_t place[2] = {node->first.first, node->first.second};
        bytes.assign(reinterpret_cast<const char*>(place), sizeof(place));
        bytes += (node++)->second.pack();
      }
      const std::vector<std::string> got = world.gather(bytes);
      if (!world.is_root()) continue;
      const std::string& packed = got[static_cast<size_t>(rank)];
      int64_t place[2];
      std::memcpy(place, packed.data(), sizeof(place));
      all.add(place[1], place[0] >> place[1], Moments::unpack(packed.substr(sizeof(place))));
    }
  }
  return all.merged();
}

}  // namespace lf
