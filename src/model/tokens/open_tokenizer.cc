// Opens a trained tokenizer from an exported file.
#include "base/error.h"
#include "model/tokens/tokenizer.h"

namespace lf {

static void load(Tokenizer& tokenizer, const ExportedModel& exported, const std::string& file) {
  const TensorsByName found = by_name(exported.tensors);
  for (const auto* list : {&tokenizer.parameters().weights(), &tokenizer.parameters().buffers()}) {
    for (const NamedTensor& named : *list) {
      const auto match = found.find(named.name);
      if (match == found.end() || match->second.sizes() != named.tensor.sizes()) {
        fail(Code::kUsage, printable(file), ": the tokenizer's ", named.name, " is ",
             match == found.end() ? std::string("missing") : lf::str(match->second.sizes()),
             ", but clips of this store need ", named.tensor.sizes(),
             "; give a tokenizer that was trained on clips of the same shape");
      }
      named.tensor.detach().copy_(match->second);
      named.tensor.set_requires_grad(false);
    }
  }
}

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& file, const char* option,
                                          const ClipShape& shape, at::Device device,
                                          const KernelChoice& kernels, const OpenExport& open) {
  if (file.empty()) {
    fail(Code::kUsage, option,
         " is not set; give the file that `lastframe export RUN --out FILE` made of a trained "
         "vqvae or cvivit");
  }
  LF_CHECK(open != nullptr, "a model over a tokenizer is made where exports can be opened");
  ExportedModel exported = open(file);
  if (exported.config.model().kind_case() == ModelConfig::KIND_NOT_SET) {
    fail(Code::kUsage, option, ": ", printable(file),
         " carries no config; give a file that `lastframe export RUN --out FILE` wrote");
  }
  exported.config = without_perceptual_loss(exported.config);
  exported.config.mutable_train()->set_kernels(kernels.form == Form::kFused ? FUSED : REFERENCE);
  exported.config.mutable_train()->set_gpu_kernels(kernels.gpu);
  ModelConfig& model = *exported.config.mutable_model();
  if (model.has_vqvae()) model.mutable_vqvae()->mutable_gan()->set_weight(0);
  if (model.has_cvivit()) model.mutable_cvivit()->mutable_gan()->set_weight(0);
  std::unique_ptr<Tokenizer> tokenizer = make_tokenizer(exported.config, shape, device);
  load(*tokenizer, exported, file);
  return tokenizer;
}

}  // namespace lf
