// Quantisers: vectors become codes and codes vectors again, with gradients that go straight
// through. The kinds are EMA and learnt codebooks (quantiser_codebook.cc), those without one, FSQ
// and LFQ (quantiser_free.cc), and the bottleneck of a variational autoencoder, which stands in
// their place and has no codes (quantiser_variational.cc). Distances and statistics are in single
// precision under autocast too. Called by TokenAutoencoder; a quantiser knows nothing of images.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "model/model.h"
#include "model/parameters.h"
#include "run.pb.h"

namespace lf {

struct Quantised {
  at::Tensor z;     // as given: [..., dim], of the codes, with the gradient of what was given
  at::Tensor ids;   // int64 [...]; undefined where there are no codes
  at::Tensor loss;  // a scalar
};

class Quantiser {
 public:
  virtual ~Quantiser() = default;
  virtual int64_t codes() const = 0;                   // 0: there are none
  virtual int64_t dim() const = 0;                     // numbers of a vector
  virtual int64_t given_dim() const { return dim(); }  // numbers that say what it is
  // `z` is [B, ..., given_dim] in single precision, B the clips that key what is random. With
  // `learn` the codebook starts from, and remembers, what it sees; that makes the call a collective
  // one.
  virtual Quantised quantise(const at::Tensor& z, const Clips& clips, bool learn) = 0;
  virtual at::Tensor lookup(const at::Tensor& ids) const = 0;  // [...] -> [..., dim]
  // Collective: takes what was remembered since the last call over into the codebook, or, where
  // `moved` is 0, forgets it (Model::after_update).
  virtual void after_update(int64_t /*images*/, const at::Tensor& /*moved*/) {}
};

// How clips are dealt over ranks and micro-batches, from the config: what codebooks need to draw
// the same vectors on every rank.
struct BatchPlan {
  int64_t clips = 1;  // of the global batch
  int64_t parts = 1;  // micro-batches
  SumOverRanks sum;   // empty: this process is alone

  int64_t first(int64_t position) const { return position - position % clips; }
  void add_up(at::Tensor& tensor) const {
    if (sum) sum(tensor);
  }
};

std::unique_ptr<Quantiser> make_quantiser(const QuantiserConfig& config, const Scope& scope,
                                          const BatchPlan& plan);
// The parts of it.
std::unique_ptr<Quantiser> make_ema_quantiser(const EmaQuantiserConfig& config, const Scope& scope,
                                              const BatchPlan& plan);
std::unique_ptr<Quantiser> make_learnt_quantiser(const LearntQuantiserConfig& config,
                                                 const Scope& scope, const BatchPlan& plan);
std::unique_ptr<Quantiser> make_fsq_quantiser(const FsqQuantiserConfig& config);
std::unique_ptr<Quantiser> make_lfq_quantiser(const LfqQuantiserConfig& config,
                                              const BatchPlan& plan);
std::unique_ptr<Quantiser> make_variational_bottleneck(const VariationalConfig& config);

// How often each of `codes` is among `ids`, in single precision. Unlike LibTorch's own it does not
// ask the device.
at::Tensor numbers_of_codes(const at::Tensor& ids, int64_t codes);

// The values of `codes` and the gradient of `z`.
at::Tensor straight_through(const at::Tensor& z, const at::Tensor& codes);

}  // namespace lf
