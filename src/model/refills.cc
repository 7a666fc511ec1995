#include "model/refills.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>

#include <cstring>

#include "base/error.h"

namespace lf {
namespace {

// Alignment of tensors in one block of memory, in bytes.
constexpr size_t kAlignment = 16;

size_t padded(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

size_t bytes_of_all(const std::vector<at::Tensor>& tensors) {
  size_t bytes = 0;
  for (const at::Tensor& tensor : tensors) bytes += tensor.defined() ? padded(tensor.nbytes()) : 0;
  return bytes;
}

// All tensors in one block of page-locked memory, which LibTorch keeps until it has been copied.
at::Tensor packed(const std::vector<at::Tensor>& tensors) {
  at::Tensor bytes = at::empty({static_cast<int64_t>(bytes_of_all(tensors))},
                               at::TensorOptions().dtype(at::kByte).pinned_memory(true));
  auto* to = bytes.mutable_data_ptr<uint8_t>();
  for (const at::Tensor& tensor : tensors) {
    if (!tensor.defined() || tensor.nbytes() == 0) continue;
    LF_CHECK(tensor.is_cpu(), "a choice of the host lies on a device");
    const at::Tensor dense = tensor.contiguous();
    std::memcpy(to, dense.const_data_ptr(), dense.nbytes());
    to += padded(dense.nbytes());
  }
  return bytes;
}

// The tensors of packed(), as views of its bytes.
std::vector<at::Tensor> unpacked(const at::Tensor& bytes, const std::vector<at::Tensor>& like) {
  std::vector<at::Tensor> out;
  int64_t from = 0;
  for (const at::Tensor& tensor : like) {
    if (!tensor.defined()) {
      out.emplace_back();
      continue;
    }
    const auto size = static_cast<int64_t>(tensor.nbytes());
    out.push_back(
        bytes.slice(0, from, from + size).view(tensor.scalar_type()).view(tensor.sizes()));
    from += static_cast<int64_t>(padded(tensor.nbytes()));
  }
  return out;
}

at::Tensor copy_of(const at::Tensor& tensor) {
  return tensor.defined() ? at::empty_like(tensor).copy_(tensor) : tensor;
}

void copy_into(const at::Tensor& kept, const at::Tensor& given, const char* what) {
  LF_CHECK(kept.defined() == given.defined() && (!kept.defined() || kept.sizes() == given.sizes()),
           "a recorded step got other ", what, " than in its recording");
  if (kept.defined()) kept.copy_(given, /*non_blocking=*/true);
}

}  // namespace

std::string layout_of(const std::vector<at::Tensor>& tensors) {
  std::string text;
  for (const at::Tensor& tensor : tensors) {
    text += tensor.defined() ? lf::str(static_cast<int>(tensor.scalar_type()), tensor.sizes(), " ")
                             : "- ";
  }
  return text;
}

std::vector<at::Tensor> uploaded(const std::vector<at::Tensor>& tensors, at::Device device) {
  if (device.is_cpu()) return tensors;
  return unpacked(packed(tensors).to(device, /*non_blocking=*/true), tensors);
}

std::vector<at::Tensor> chosen_on_host(const Clips& clips, const HostChoice& make) {
  if (clips.refills != nullptr) return clips.refills->add(clips, make);
  return uploaded(make(clips), clips.x_BTHWC.device());
}

Refills::Refills(const Clips& clips)
    : clips_(clips),
      position_(at::full({1}, clips.first_position,
                         at::TensorOptions().dtype(at::kLong).device(clips.x_BTHWC.device()))) {
  clips_.x_BTHWC = copy_of(clips.x_BTHWC);
  clips_.labels_B = copy_of(clips.labels_B);
  clips_.images_BNHWC = copy_of(clips.images_BNHWC);
  for (NamedTensor& column : clips_.side) column.tensor = copy_of(column.tensor);
  clips_.refills = this;
}

std::vector<at::Tensor> Refills::add(const Clips& part, const HostChoice& make) {
  const int64_t from = offset(part), to = from + part.size();
  if (rehearsed_) {
    LF_CHECK(next_ < entries_.size() && entries_[next_].from == from && entries_[next_].to == to,
             "a step chooses otherwise in its recording than in the rehearsal");
    return entries_[next_++].tensors;
  }
  Clips keys = part;
  keys.refills = nullptr;
  const std::vector<at::Tensor> made = make(keys);
  const at::Tensor bytes = packed(made).to(part.x_BTHWC.device(), /*non_blocking=*/true);
  return entries_.emplace_back(Entry{from, to, make, layout_of(made), bytes, unpacked(bytes, made)})
      .tensors;
}

void Refills::refill(const Clips& clips) {
  copy_into(clips_.x_BTHWC, clips.x_BTHWC, "clips");
  copy_into(clips_.labels_B, clips.labels_B, "labels");
  copy_into(clips_.images_BNHWC, clips.images_BNHWC, "images");
  LF_CHECK(clips_.side.size() == clips.side.size(), "a recorded step got other side columns");
  for (size_t i = 0; i < clips.side.size(); ++i) {
    copy_into(clips_.side[i].tensor, clips.side[i].tensor, "side columns");
  }
  position_.fill_(clips.first_position);
  for (const Entry& entry : entries_) {
    const std::vector<at::Tensor> made = entry.make(clips.slice(entry.from, entry.to));
    LF_CHECK(layout_of(made) == entry.layout,
             "a choice of the host has another shape than in the recording");
    entry.bytes.copy_(packed(made), /*non_blocking=*/true);
  }
}

}  // namespace lf
