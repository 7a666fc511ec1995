// One loop, three instruction sets: kernels whose arithmetic is specified to the bit are written
// once as plain loops and compiled for the baseline, for AVX2 + FMA and for AVX-512; run time picks
// the widest that the CPU has. The loops vectorise across elements, never across a sum, and fuse
// only where they call std::fma, so every width gives the same bits. The baseline calls the C
// library's fma, which is exact but slow. Not for code that may reorder sums.
#pragma once

#include <vector>

namespace lf {

// The last is AVX-512 with the instructions that round to bf16.
enum class Isa { kBaseline, kAvx2, kAvx512, kAvx512Bf16 };

Isa best_isa();  // of this CPU
Isa isa();       // what kernels use: the best one, unless forced
const char* name_of(Isa isa);
std::vector<Isa> isas_here();  // all up to best_isa(). For tests.

// During its lifetime the kernels of the whole process use `isa`, which the CPU must have. For
// tests.
class ForcedIsa {
 public:
  explicit ForcedIsa(Isa isa);
  ~ForcedIsa();
  ForcedIsa(const ForcedIsa&) = delete;
  ForcedIsa& operator=(const ForcedIsa&) = delete;

 private:
  Isa before_;
};

// What a kernel and all it calls must be marked with to be compiled for the caller's width.
#define LF_INLINE __attribute__((always_inline)) inline

#if defined(__x86_64__)
template <typename Kernel, typename... Args>
__attribute__((target("avx2,fma"))) void run_avx2(Args... args) {
  Kernel::run(args...);
}
template <typename Kernel, typename... Args>
__attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512"))) void
run_avx512(Args... args) {
  Kernel::run(args...);
}
#endif

// Kernel::run(args...), a static LF_INLINE function of pointers and scalars, at isa()'s width.
template <typename Kernel, typename... Args>
void run_kernel(Args... args) {
#if defined(__x86_64__)
  switch (isa()) {
    case Isa::kAvx512Bf16:
    case Isa::kAvx512:
      return run_avx512<Kernel>(args...);
    case Isa::kAvx2:
      return run_avx2<Kernel>(args...);
    case Isa::kBaseline:
      break;
  }
#endif
  Kernel::run(args...);
}

}  // namespace lf
