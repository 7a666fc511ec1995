#include "model/extractors/onnx.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "model/extractors/onnx_operators.h"

namespace lf {
namespace {

constexpr int64_t kImagesAtOnce = 8;
constexpr int64_t kProbeSide = 224;  // of graphs that take any
constexpr int64_t kLargestSide = 4096;
constexpr int64_t kMostLiveElements = int64_t{1} << 30;  // 4 GiB of floats at a time

// Names that would pass a file for a network whose distances are known by them.
constexpr std::array kReserved = {"inception", "i3d",   "own",    "torchscript", "pixels",
                                  "track",     "lpips", "dinov2", "clip"};

// A node with its operator, and where its values are kept.
struct Step {
  OnnxNode node;
  const OnnxOperator* run;
  std::vector<int> in, out;  // slots; -1: not given, or not wanted
  std::vector<int> last;     // slots that nobody reads later
};

class Graph {
 public:
  Graph(onnx::ModelProto model, std::string file, at::Device device)
      : model_(std::move(model)), file_(std::move(file)), device_(device) {
    onnx::GraphProto& graph = *model_.mutable_graph();
    for (const onnx::TensorProto& tensor : graph.initializer()) {
      at::Tensor value = tensor_of(tensor);
      if (value.is_floating_point()) value = value.to(device_);
      given_[slot_of(tensor.name())] = std::move(value);
    }
    for (const onnx::ValueInfoProto& input : graph.input()) {
      if (slots_.contains(input.name())) continue;
      input_ = slot_of(input.name());
      input_type_ = input.type();
    }
    graph.clear_initializer();
    for (int i = 0; i < graph.node_size(); ++i) add_step(graph.node(i), i);
    for (const onnx::ValueInfoProto& output : graph.output()) {
      outputs_.push_back(slots_.at(output.name()));
    }
    mark_last_uses();
  }

  const onnx::TypeProto& input_type() const { return input_type_; }
  const onnx::ModelProto& model() const { return model_; }
  const std::vector<int>& outputs() const { return outputs_; }

  // What goes into the last linear map that multiplies by a matrix of the file; -1: there is none.
  int last_linear_input() const {
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
      const std::string_view name = step->run->name;
      if ((name == "Gemm" || name == "MatMul") && given_.contains(step->in[1])) return step->in[0];
    }
    return -1;
  }
  void keep(int slot) {
    for (Step& step : steps_) std::erase(step.last, slot);
  }

  // The values of these slots, for one batch of images. Thread-safe.
  std::vector<at::Tensor> run(const at::Tensor& images, const std::vector<int>& wanted) const {
    std::map<int, at::Tensor> values = given_;
    values[input_] = images;
    std::set<int> missing(wanted.begin(), wanted.end());
    for (const auto& [slot, value] : values) missing.erase(slot);
    int64_t live = 0;
    for (const Step& step : steps_) {
      if (missing.empty()) break;
      live += compute(step, values);
      if (live > kMostLiveElements) refuse_size(step);
      for (const int slot : step.out) missing.erase(slot);
      for (const int slot : step.last) {
        const auto value = values.find(slot);
        if (value == values.end() || given_.contains(slot)) continue;
        if (slot != input_ && value->second.defined()) live -= value->second.numel();
        values.erase(value);
      }
    }
    std::vector<at::Tensor> made;
    for (const int slot : wanted) made.push_back(values[slot]);
    return made;
  }

 private:
  int slot_of(const std::string& name) {
    return slots_.try_emplace(name, static_cast<int>(slots_.size())).first->second;
  }

  void add_step(const onnx::NodeProto& node, int number) {
    const std::string place =
        str(printable(file_), ": node ", number, " (", printable(node.op_type()), ")");
    Step step{OnnxNode(node, place, opset()), find_onnx_operator(node.op_type()), {}, {}, {}};
    if (step.run == nullptr) {
      step.node.refuse(
          "is an operator that is not supported; cut the network before it, or script it for "
          "TorchScript");
    }
    for (const onnx::AttributeProto& attribute : node.attribute()) {
      const std::string name = printable(attribute.name());
      if (std::string_view(step.run->attributes).find(" " + name + " ") == std::string::npos) {
        step.node.refuse("has the attribute ", name, ", which is not supported");
      }
    }
    for (const std::string& input : node.input()) {
      step.in.push_back(input.empty() ? -1 : slots_.at(input));
    }
    while (!step.in.empty() && step.in.back() < 0) step.in.pop_back();
    if (step.in.size() < step.run->fewest || step.in.size() > step.run->most ||
        (!step.in.empty() && step.in[0] < 0)) {
      step.node.refuse("has ", step.in.size(), " inputs, expected ", step.run->fewest, " to ",
                       step.run->most);
    }
    for (const std::string& output : node.output()) {
      step.out.push_back(output.empty() ? -1 : slot_of(output));
    }
    if (std::any_of(step.in.begin(), step.in.end(),
                    [&](int slot) { return slot >= 0 && !given_.contains(slot); })) {
      steps_.push_back(std::move(step));
      return;
    }
    // Of constants alone: computed once.
    constant_elements_ += compute(step, given_);
    if (constant_elements_ > kMostLiveElements) refuse_size(step);
  }

  static void refuse_size(const Step& step) {
    step.node.refuse("is one of too many values at a time, more than ",
                     human_bytes(4 * static_cast<uint64_t>(kMostLiveElements)));
  }

  int64_t opset() const {
    for (const onnx::OperatorSetIdProto& opset : model_.opset_import()) {
      if (opset.domain().empty() || opset.domain() == "ai.onnx") return opset.version();
    }
    return 0;
  }

  void mark_last_uses() {
    std::set<int> seen(outputs_.begin(), outputs_.end());
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
      for (const std::vector<int>* slots : {&step->in, &step->out}) {
        for (const int slot : *slots) {
          if (slot >= 0 && seen.insert(slot).second) step->last.push_back(slot);
        }
      }
    }
  }

  // Adds the values of a node; returns their elements.
  int64_t compute(const Step& step, std::map<int, at::Tensor>& values) const {
    OnnxInputs in;
    for (size_t i = 0; i < step.in.size(); ++i) {
      const auto found = values.find(step.in[i]);
      in.push_back(found == values.end() ? at::Tensor() : found->second);
      if (in.back().defined() || (i >= step.run->fewest && step.in[i] < 0)) continue;
      step.node.refuse("needs its input ", i, ", which is missing or an output we do not compute");
    }
    std::vector<at::Tensor> made;
    try {
      made = step.run->run(step.node, in);
    } catch (const c10::Error& error) {
      const std::string text = error.what_without_backtrace();
      step.node.refuse("cannot be computed: ", printable(text.substr(0, text.find('\n'))),
                       "; give images of the size it was made for (lastframe.side)");
    }
    int64_t elements = 0;
    for (size_t i = 0; i < std::min(made.size(), step.out.size()); ++i) {
      if (step.out[i] < 0) continue;
      if (made[i].dim() > static_cast<int64_t>(kMostOnnxDimensions)) {
        step.node.refuse("makes ", made[i].dim(), " dimensions");
      }
      elements += made[i].numel();
      values[step.out[i]] = made[i].is_floating_point() ? made[i].to(device_) : made[i];
    }
    return elements;
  }

  onnx::ModelProto model_;  // nodes refer to it
  std::string file_;
  at::Device device_;
  std::map<std::string, int> slots_;
  std::map<int, at::Tensor> given_;  // initializers
  int64_t constant_elements_ = 0;
  int input_ = -1;
  onnx::TypeProto input_type_;
  std::vector<Step> steps_;
  std::vector<int> outputs_;
};

// How the images come: what the graph declares and the metadata says.
struct Input {
  bool channels_last = false, is_bgr = false, one_at_a_time = false;
  int64_t height = 0, width = 0;  // 0: as they are
  at::Tensor mean, deviation;     // [1, 3, 1, 1]
  std::string name;
};

class InputReader {
 public:
  InputReader(const Graph& graph, const std::string& file) : file_(file) {
    read_shape(graph.input_type());
    for (const onnx::StringStringEntryProto& entry : graph.model().metadata_props()) {
      if (entry.key().starts_with("lastframe.")) read_note(entry.key(), entry.value());
    }
    if (input_.name.empty()) {
      input_.name = file.substr(file.rfind('/') + 1);
      input_.name.resize(input_.name.rfind('.'));
    }
    for (char& c : input_.name) {
      c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
      if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9')) c = '_';
    }
    for (const char* reserved : kReserved) {
      if (!input_.name.starts_with(reserved)) continue;
      fail(Code::kUsage, printable(file), " would be the extractor '", printable(input_.name),
           "', a name of others, whose distances it does not give; rename the file, or set ",
           "lastframe.name with tools/describe_onnx");
    }
  }

  const Input& input() const { return input_; }

 private:
  void read_shape(const onnx::TypeProto& type) {
    const onnx::TensorShapeProto& shape = type.tensor_type().shape();
    const bool is_float = type.tensor_type().elem_type() == onnx::TensorProto::FLOAT ||
                          type.tensor_type().elem_type() == onnx::TensorProto::FLOAT16;
    const auto extent = [&](int i) { return std::max<int64_t>(0, shape.dim(i).dim_value()); };
    const bool first = shape.dim_size() == 4 && extent(1) == 3;
    input_.channels_last = !first && shape.dim_size() == 4 && extent(3) == 3;
    if (!is_float || (!first && !input_.channels_last) || extent(0) > 1) {
      std::vector<std::string> extents;
      for (const auto& dim : shape.dim()) extents.push_back(std::to_string(dim.dim_value()));
      fail(Code::kCheckpoint, printable(file_), " takes ONNX's type ",
           type.tensor_type().elem_type(), " [", join(extents, ", "),
           "] (0: free), expected float [N, 3, H, W] or [N, H, W, 3] with N free or 1; export it "
           "for images");
    }
    input_.one_at_a_time = extent(0) == 1;
    input_.height = extent(first ? 2 : 1);
    input_.width = extent(first ? 3 : 2);
    if ((input_.height == 0) != (input_.width == 0) ||
        std::max(input_.height, input_.width) > kLargestSide) {
      fail(Code::kCheckpoint, printable(file_), " takes images of ", input_.width, "x",
           input_.height, " pixels (0: any), expected at most ", kLargestSide,
           " each, or any of both");
    }
  }

  void read_note(const std::string& key, const std::string& value) {
    if (key == "lastframe.name") {
      input_.name = value;
    } else if (key == "lastframe.mean") {
      input_.mean = channels_of(key, value);
    } else if (key == "lastframe.std") {
      input_.deviation = channels_of(key, value);
      if (input_.deviation.eq(0).any().item<bool>()) refuse(key, value, "numbers other than 0");
    } else if (key == "lastframe.order") {
      input_.is_bgr = value == "BGR";
      if (!input_.is_bgr && value != "RGB") refuse(key, value, "RGB or BGR");
    } else if (key == "lastframe.side") {
      int64_t side = 0;
      if (!parse(value, &side) || side < 1 || side > kLargestSide) {
        refuse(key, value, str("1 to ", kLargestSide));
      }
      if (input_.height != 0) refuse(key, value, "none, as the graph has sizes of its own");
      input_.height = input_.width = side;
    } else {
      refuse(key, value, "lastframe.name, mean, std, order or side");
    }
  }

  at::Tensor channels_of(const std::string& key, const std::string& value) const {
    std::vector<double> numbers;
    for (const std::string& word : split(value, ',')) {
      double number = 0;
      if (!parse(word, &number) || !(std::abs(number) < 1e9)) break;
      numbers.push_back(number);
    }
    if (numbers.size() == 1) numbers.assign(3, numbers[0]);
    if (numbers.size() != 3 || split(value, ',').size() == 2) {
      refuse(key, value, "one number, or three between commas");
    }
    return at::tensor(numbers, at::kDouble).to(at::kFloat).view({1, 3, 1, 1});
  }

  [[noreturn]] void refuse(const std::string& key, const std::string& value,
                           const std::string& expected) const {
    fail(Code::kCheckpoint, printable(file_), ": ", printable(key), " is '", printable(value),
         "', expected ", expected, "; set it with tools/describe_onnx");
  }

  const std::string& file_;
  Input input_;
};

class Onnx : public CheckedExtractor {
 public:
  Onnx(onnx::ModelProto model, const std::string& file, const std::string& hash,
       PillowResize resize, at::Device device)
      : CheckedExtractor(hash, kImagesAtOnce, device),
        graph_(std::move(model), file, device),
        input_(InputReader(graph_, file).input()),
        file_(file),
        resize_(std::move(resize)),
        device_(device) {
    probe();
  }

  std::string name() const override { return input_.name; }
  std::vector<ExtractorLayer> layers() const override { return layers_; }
  int64_t frames() const override { return 1; }

 protected:
  std::vector<at::Tensor> part(const at::Tensor& clips,
                               const std::vector<std::string>& wanted) const override {
    std::vector<int> slots;
    for (const std::string& layer : wanted) slots.push_back(slots_.at(layer));
    const at::Tensor images = input_of(clips.select(1, 0));
    std::vector<std::vector<at::Tensor>> rows(wanted.size());
    const int64_t at_once = input_.one_at_a_time ? 1 : images.size(0);
    for (int64_t first = 0; first < images.size(0); first += at_once) {
      const std::vector<at::Tensor> made =
          graph_.run(images.slice(0, first, first + at_once), slots);
      for (size_t i = 0; i < made.size(); ++i) {
        rows[i].push_back(row_of(made[i]));
        if (rows[i].back().dim() == 2 && rows[i].back().size(0) == at_once) continue;
        fail(Code::kCheckpoint, printable(file_), " gave ", shape_text(made[i].sizes()), " for ",
             at_once, " images; export it with a first dimension that is free");
      }
    }
    std::vector<at::Tensor> joined;
    for (const std::vector<at::Tensor>& parts : rows) joined.push_back(at::cat(parts));
    return joined;
  }

 private:
  // One row an image, if it is such a value.
  static at::Tensor row_of(const at::Tensor& value) {
    return value.dim() == 4 ? value.mean({2, 3}) : value;
  }

  // The layers, measured on black pixels.
  void probe() {
    const at::NoGradGuard no_grad;
    std::vector<int> slots = graph_.outputs();
    const int linear = graph_.last_linear_input();
    if (linear >= 0) {
      slots.push_back(linear);
      graph_.keep(linear);
    }
    const int64_t side = input_.height != 0 ? 1 : kProbeSide;
    const std::vector<at::Tensor> made =
        graph_.run(input_of(at::zeros({1, side, side, 3}, at::kByte)), slots);
    for (size_t i = 0; i < made.size(); ++i) {
      const bool is_linear = i == graph_.outputs().size();
      if (!made[i].defined() || !made[i].is_floating_point() || row_of(made[i]).dim() != 2 ||
          made[i].size(0) != 1) {
        if (is_linear) continue;  // of a sequence or the like
        fail(Code::kCheckpoint, printable(file_), " gives ",
             made[i].defined() ? shape_text(made[i].sizes()) : "nothing",
             " for one image, expected [1, features] or a map [1, features, H, W]; cut it at such "
             "a value");
      }
      const std::string layer = is_linear ? "features" : i == 0 ? "output" : str("output", i + 1);
      slots_[layer] = slots[i];
      layers_.push_back({layer, made[i].size(1)});
    }
  }

  at::Tensor input_of(const at::Tensor& images) const {
    at::Tensor x = images;
    if (input_.height != 0 && (x.size(1) != input_.height || x.size(2) != input_.width)) {
      x = resize_(x, input_.height, input_.width, SourceConfig::BILINEAR);
    }
    x = rgb_images(x.to(device_)).contiguous();
    if (input_.is_bgr) x = x.flip(1);
    if (input_.mean.defined()) x = x - input_.mean.to(device_);
    if (input_.deviation.defined()) x = x / input_.deviation.to(device_);
    return input_.channels_last ? x.permute({0, 2, 3, 1}).contiguous() : x;
  }

  Graph graph_;
  Input input_;
  std::string file_;
  PillowResize resize_;
  at::Device device_;
  std::vector<ExtractorLayer> layers_;
  std::map<std::string, int> slots_;  // by layer
};

}  // namespace

std::unique_ptr<Extractor> make_onnx(onnx::ModelProto model, const std::string& file,
                                     const std::string& hash, PillowResize resize,
                                     at::Device device) {
  return std::make_unique<Onnx>(std::move(model), file, hash, std::move(resize), device);
}

}  // namespace lf
