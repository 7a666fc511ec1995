#include "base/isa.h"

#include <atomic>

#include "base/error.h"

namespace lf {

Isa best_isa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return __builtin_cpu_supports("avx512bf16") ? Isa::kAvx512Bf16 : Isa::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kBaseline;
}

static std::atomic<Isa>& current() {
  static std::atomic<Isa> isa = best_isa();
  return isa;
}

Isa isa() { return current().load(std::memory_order_relaxed); }

const char* name_of(Isa isa) {
  switch (isa) {
    case Isa::kBaseline:
      return "baseline";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Bf16:
      return "avx512_bf16";
  }
  return "?";
}

std::vector<Isa> isas_here() {
  std::vector<Isa> all = {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16};
  all.resize(static_cast<size_t>(best_isa()) + 1);
  return all;
}

ForcedIsa::ForcedIsa(Isa isa) : before_(lf::isa()) {
  LF_CHECK(isa <= best_isa(), "forced ", name_of(isa), " on a CPU whose best is ",
           name_of(best_isa()));
  current() = isa;
}

ForcedIsa::~ForcedIsa() { current() = before_; }

}  // namespace lf
