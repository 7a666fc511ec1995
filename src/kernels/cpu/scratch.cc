#include "kernels/cpu/scratch.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

namespace lf {
namespace {

constexpr size_t kLine = 64, kSmallest = size_t{1} << 20;

struct Free {
  void operator()(void* block) const { std::free(block); }
};

// One block that has sufficed so far. What does not fit gets blocks of its own until everything is
// returned; then the block grows.
struct Arena {
  std::unique_ptr<void, Free> block;
  size_t size = 0, used = 0, wanted = 0;
  int alive = 0;
  std::vector<std::unique_ptr<void, Free>> others;

  static void* allocate(size_t size) {
    void* block = std::aligned_alloc(kLine, size);
    if (block == nullptr) throw std::bad_alloc();
    return block;
  }
};

thread_local Arena arena;

}  // namespace

Scratch::Scratch() : begin_(arena.used) {
  if (arena.alive++ > 0 || arena.wanted <= arena.size) return;
  arena.block.reset();
  arena.size = std::max(kSmallest, arena.wanted + arena.wanted / 4) / kLine * kLine;
  arena.block.reset(Arena::allocate(arena.size));
}

Scratch::~Scratch() {
  arena.used = begin_;
  if (--arena.alive == 0) arena.others.clear();
}

void* Scratch::bytes(size_t size) {
  // One more cache line, so that rows of a power of two do not map to the same cache sets.
  const size_t lines = (size / kLine + 2) * kLine;
  arena.used += lines;
  arena.wanted = std::max(arena.wanted, arena.used);
  if (arena.used <= arena.size) {
    return static_cast<char*>(arena.block.get()) + (arena.used - lines);
  }
  return arena.others.emplace_back(Arena::allocate(lines)).get();
}

}  // namespace lf
