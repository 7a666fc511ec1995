// Quantisers: vectors to codes and back, with straight-through gradients. Kinds: EMA and learnt
// codebooks (quantiser_codebook.cc); FSQ and LFQ, without one (quantiser_free.cc); and the
// bottleneck of a variational autoencoder, which has no codes (quantiser_variational.cc). Distances
// and statistics are fp32 under autocast too. A quantiser knows nothing of images.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "model/model.h"
#include "model/parameters.h"
#include "run.pb.h"

namespace lf {

struct Quantised {
  at::Tensor z;     // [..., dim]: the codes' vectors, with the gradient of the input
  at::Tensor ids;   // int64 [...]; undefined where there are no codes
  at::Tensor loss;  // a scalar
};

class Quantiser {
 public:
  virtual ~Quantiser() = default;
  virtual int64_t codes() const = 0;                   // 0: there are none
  virtual int64_t dim() const = 0;                     // elements of a vector
  virtual int64_t input_dim() const { return dim(); }  // elements of the input
  // `z` is fp32 [B, ..., input_dim], B the clips that key random draws. With `learn` the codebook
  // starts from the first vectors and accumulates statistics for after_update(); the call is then
  // collective.
  virtual Quantised quantise(const at::Tensor& z, const Clips& clips, bool learn) = 0;
  virtual at::Tensor lookup(const at::Tensor& ids) const = 0;  // [...] -> [..., dim]
  // Collective. Updates the codebook by the statistics since the last call, or drops them where
  // `moved` is 0 (Model::after_update).
  virtual void after_update(int64_t /*images*/, const at::Tensor& /*moved*/) {}
};

// How clips are divided over ranks and micro-batches; codebooks need it to draw the same vectors on
// every rank.
struct BatchPlan {
  int64_t clips = 1;  // of the global batch
  int64_t parts = 1;  // micro-batches
  SumOverRanks sum;   // empty: one rank

  // Position of the batch's first clip.
  int64_t first(const Clips& of) const {
    return of.batch_position >= 0 ? of.batch_position
                                  : of.first_position - of.first_position % clips;
  }
  void add_up(at::Tensor& tensor) const {
    if (sum) sum(tensor);
  }
};

std::unique_ptr<Quantiser> make_quantiser(const QuantiserConfig& config, const Scope& scope,
                                          const BatchPlan& plan);
// By kind.
std::unique_ptr<Quantiser> make_ema_quantiser(const EmaQuantiserConfig& config, const Scope& scope,
                                              const BatchPlan& plan);
std::unique_ptr<Quantiser> make_learnt_quantiser(const LearntQuantiserConfig& config,
                                                 const Scope& scope, const BatchPlan& plan);
std::unique_ptr<Quantiser> make_fsq_quantiser(const FsqQuantiserConfig& config);
std::unique_ptr<Quantiser> make_lfq_quantiser(const LfqQuantiserConfig& config,
                                              const BatchPlan& plan);
std::unique_ptr<Quantiser> make_variational_bottleneck(const VariationalConfig& config);

// Counts of each of `codes` codes among `ids`, in fp32. Unlike at::bincount it does not wait for
// the device.
at::Tensor code_counts(const at::Tensor& ids, int64_t codes);

// The values of `codes` and the gradient of `z`.
at::Tensor straight_through(const at::Tensor& z, const at::Tensor& codes);

}  // namespace lf
