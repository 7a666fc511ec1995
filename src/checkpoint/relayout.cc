#include "checkpoint/relayout.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <map>
#include <memory>
#include <utility>

#include "base/error.h"

namespace lf {
namespace {

at::Tensor constant_of(const PlacedTensor& placed) {
  const at::TensorOptions options(scalar_type(placed.theirs.dtype));
  if (placed.value == LayoutRule::kPowersOfTwo) {
    return at::pow(2, at::arange(placed.theirs.shape[0] - 1, -1, -1, options));
  }
  return placed.value == LayoutRule::kOnes ? at::ones(placed.theirs.shape, options)
                                           : at::zeros(placed.theirs.shape, options);
}

at::Tensor as_theirs(const at::Tensor& ours, const PlacedTensor& placed) {
  const at::Tensor whole =
      ours.contiguous().view(placed.view).permute(placed.order).reshape(placed.shape);
  return (placed.part < 0 ? whole : whole.select(0, placed.part)).contiguous();
}

// `theirs`: whole, with its parts together.
at::Tensor as_ours(const at::Tensor& theirs, const PlacedTensor& placed, at::IntArrayRef shape) {
  std::vector<int64_t> permuted, back(placed.order.size());
  for (size_t d = 0; d < placed.order.size(); ++d) {
    permuted.push_back(placed.view[static_cast<size_t>(placed.order[d])]);
    back[static_cast<size_t>(placed.order[d])] = static_cast<int64_t>(d);
  }
  return theirs.contiguous().view(permuted).permute(back).reshape(shape);
}

std::vector<TensorLayout> layouts_of(const std::vector<NamedTensor>& tensors) {
  std::vector<TensorLayout> layouts;
  for (const NamedTensor& named : tensors) layouts.push_back(layout_of(named));
  return layouts;
}

// The entries of a file of theirs, by their names of today.
std::map<std::string, const TensorEntry*> entries_of(const NetworkLayout& layout,
                                                     const SafetensorsFile& file) {
  std::map<std::string, const TensorEntry*> entries;
  for (const TensorEntry& entry : file.tensors()) {
    const std::string& name = entry.layout.name;
    if (layout.beside != nullptr && name.starts_with(layout.beside)) continue;
    entries.emplace(name_today(layout, name), &entry);
  }
  return entries;
}

// Reads the tensors of one file of theirs.
class Reader {
 public:
  Reader(const NetworkLayout& layout, const SafetensorsFile& file, const LayoutPlan& plan)
      : file_(file), plan_(plan), entries_(entries_of(layout, file)) {
    std::vector<TensorLayout> asked, found;
    for (const PlacedTensor& placed : plan.placed) asked.push_back(placed.theirs);
    for (const auto& [name, entry] : entries_) {
      found.push_back(entry->layout);
      found.back().name = name;
      if (is_float(entry->layout.dtype)) found.back().dtype = DType::kF32;
    }
    require_same(str(printable(file.path()), ", read as ", layout.name, ","), asked, found);
  }

  at::Tensor read(const PlacedTensor& placed) const {
    return read_tensor(file_, *entries_.at(placed.theirs.name)).to(at::kFloat);
  }

  // The elements of tensor `i` of ours, of this shape.
  at::Tensor ours(size_t i, at::IntArrayRef shape) const {
    at::Tensor value;
    std::vector<at::Tensor> parts;
    for (const PlacedTensor& placed : plan_.placed) {
      if (placed.ours != i || placed.value != LayoutRule::kElements) continue;
      at::Tensor found = read(placed);
      if (placed.part >= 0) {
        parts.push_back(std::move(found));
        if (static_cast<int64_t>(parts.size()) < placed.shape[0]) continue;
        found = at::stack(parts);
      }
      found = as_ours(found, placed, shape);
      if (value.defined() && !value.equal(found)) {
        refuse("holds '", placed.theirs.name, "' twice, with different elements");
      }
      value = found;
    }
    return value;
  }

  // What has no effect must be what we would write.
  void check_constants() const {
    for (const PlacedTensor& placed : plan_.placed) {
      if (placed.value == LayoutRule::kElements) continue;
      if (!read(placed).equal(constant_of(placed).to(at::kFloat))) {
        refuse("has other elements in '", placed.theirs.name,
               "' than a network that its own code makes, and ours has no such tensor");
      }
    }
  }

 private:
  template <typename... Parts>
  [[noreturn]] void refuse(const Parts&... parts) const {
    fail(Code::kCheckpoint, printable(file_.path()), " ", parts...,
         "; export the network again, or give another file");
  }

  const SafetensorsFile& file_;
  const LayoutPlan& plan_;
  std::map<std::string, const TensorEntry*> entries_;
};

}  // namespace

LoadableTensors in_layout(const NetworkLayout& layout, const Config& config,
                          LoadableTensors tensors, const std::string& where) {
  const auto ours = std::make_shared<const LoadableTensors>(std::move(tensors));
  const LayoutPlan plan = plan_layout(layout, config, ours->layouts, where);
  for (const size_t i : plan.ones) {
    const std::string& name = ours->layouts[i].name;
    if (!(ours->load(name) == 1).all().item<bool>()) {
      fail(Code::kUsage, where, ": '", name, "' is not 1, as in a network before its first step, ",
           "which the layout ", layout.name, " cannot say; train it");
    }
  }
  LoadableTensors theirs;
  std::map<std::string, PlacedTensor> by_name;
  for (const PlacedTensor& placed : plan.placed) {
    theirs.layouts.push_back(placed.theirs);
    by_name.emplace(placed.theirs.name, placed);
  }
  theirs.load = [ours, by_name](const std::string& name) {
    const PlacedTensor& placed = by_name.at(name);
    if (placed.value != LayoutRule::kElements) return constant_of(placed);
    return as_theirs(ours->load(ours->layouts[placed.ours].name), placed);
  };
  return theirs;
}

LoadableTensors in_type(DType type, LoadableTensors tensors, const std::string& where) {
  for (TensorLayout& tensor : tensors.layouts) {
    if (is_float(tensor.dtype)) tensor.dtype = type;
  }
  tensors.load = [load = std::move(tensors.load), type, where](const std::string& name) {
    const at::Tensor value = load(name);
    if (!value.is_floating_point()) return value;
    const at::Tensor cast = value.to(scalar_type(type));
    if (!at::isfinite(cast).equal(at::isfinite(value))) {
      fail(Code::kUsage, where, ": '", printable(name), "' holds values beyond ", name_of(type),
           "; choose bf16 or fp32");
    }
    return cast.contiguous();
  };
  return tensors;
}

void read_layout(const NetworkLayout& layout, const Config& config, const SafetensorsFile& file,
                 const std::vector<NamedTensor>& ours) {
  const LayoutPlan plan = plan_layout(layout, config, layouts_of(ours), "the config's network");
  const Reader reader(layout, file, plan);
  reader.check_constants();
  std::vector<at::Tensor> values;
  for (size_t i = 0; i < ours.size(); ++i) {
    values.push_back(reader.ours(i, ours[i].tensor.sizes()));
  }
  for (const size_t i : plan.ones) values[i] = at::ones(ours[i].tensor.sizes());
  for (size_t i = 0; i < ours.size(); ++i) {
    if (values[i].defined()) ours[i].tensor.detach().copy_(values[i]);
  }
}

}  // namespace lf
