// How a tokenizer uses its codebook, from the codes it gave to images.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace lf {

struct CodeUse {
  double usage = 0;           // part of the codebook that occurs
  double perplexity = 0;      // exp of the entropy of the codes: as many equally likely ones
  double bits_per_image = 0;  // what an ideal entropy coder of single codes needs for an image
};

// How often each code occurred in how many images.
struct CodeCounts {
  at::Tensor counts;  // int64 [codebook]
  int64_t images = 0;
};

// codes: [N, ...] integers in [0, codebook), N images. Anything else is Code::kData.
CodeCounts count_codes(const at::Tensor& codes, int64_t codebook);

CodeUse code_use(const CodeCounts& codes);

}  // namespace lf
