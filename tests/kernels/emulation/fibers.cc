// The fibers of the emulation's cuda/launch.h.
#include <ucontext.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

#include "cuda/launch.h"

namespace lf::emulation {

Index thread, block, block_size, grid_size;

namespace {

constexpr unsigned kWarp = 32;
constexpr size_t kStack = size_t{64} << 10;

enum class State { kReady, kAtBarrier, kInWarp, kDone };

struct Fiber {
  ucontext_t context{};
  std::vector<char> stack = std::vector<char>(kStack);
  State state = State::kReady;
  unsigned mask = 0;  // the lanes it waits for
  uint32_t slot = 0;
};

struct Blocks {
  ucontext_t home{};
  std::vector<Fiber> fibers;
  unsigned current = 0;
  std::vector<float4> memory;
  const std::function<void()>* body = nullptr;
};
Blocks blocks;

[[noreturn]] void abort_with(const char* what) {
  std::fprintf(stderr, "emulated CUDA: %s\n", what);
  std::abort();
}

void suspend(State state) {
  Fiber& fiber = blocks.fibers[blocks.current];
  fiber.state = state;
  swapcontext(&fiber.context, &blocks.home);
}

void enter() {
  (*blocks.body)();
  suspend(State::kDone);
}

void wait_for_lanes(unsigned mask) {
  blocks.fibers[blocks.current].mask = mask;
  suspend(State::kInWarp);
}

void begin_block(unsigned index, size_t shared_bytes) {
  constexpr float kUnset = std::numeric_limits<float>::quiet_NaN();
  block = {index};
  blocks.memory.assign(shared_bytes / sizeof(float4) + 1, float4{kUnset, kUnset, kUnset, kUnset});
  for (Fiber& fiber : blocks.fibers) {
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = nullptr;
    makecontext(&fiber.context, enter, 0);
    fiber.state = State::kReady;
  }
}

void run_ready() {
  const auto count = static_cast<unsigned>(blocks.fibers.size());
  for (unsigned i = 0; i < count; ++i) {
    const unsigned t = block.x % 2 == 0 ? i : count - 1 - i;
    if (blocks.fibers[t].state != State::kReady) continue;
    blocks.current = t;
    thread = {t};
    swapcontext(&blocks.home, &blocks.fibers[t].context);
  }
}

// Resumes the groups of lanes that have all arrived; returns whether there were any.
bool free_warps() {
  bool freed = false;
  const auto count = static_cast<unsigned>(blocks.fibers.size());
  for (unsigned t = 0; t < count; ++t) {
    if (blocks.fibers[t].state != State::kInWarp) continue;
    const unsigned mask = blocks.fibers[t].mask, first = t / kWarp * kWarp;
    bool all = true;
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      if ((mask >> lane & 1U) == 0) continue;
      const Fiber* other = first + lane < count ? &blocks.fibers[first + lane] : nullptr;
      all = all && other != nullptr && other->state == State::kInWarp && other->mask == mask;
    }
    if (!all) continue;
    freed = true;
    for (unsigned lane = 0; lane < kWarp; ++lane) {
      if ((mask >> lane & 1U) != 0) blocks.fibers[first + lane].state = State::kReady;
    }
  }
  return freed;
}

// The same for the block's barrier, which threads that have returned need not reach.
bool free_block() {
  for (const Fiber& fiber : blocks.fibers) {
    if (fiber.state == State::kInWarp) return false;
  }
  bool freed = false;
  for (Fiber& fiber : blocks.fibers) {
    if (fiber.state != State::kAtBarrier) continue;
    fiber.state = State::kReady;
    freed = true;
  }
  return freed;
}

bool finished() {
  for (const Fiber& fiber : blocks.fibers) {
    if (fiber.state != State::kDone) return false;
  }
  return true;
}

}  // namespace

void run(unsigned count, unsigned threads, size_t shared_bytes, const std::function<void()>& body) {
  blocks.fibers.resize(threads);
  blocks.body = &body;
  block_size = {threads};
  grid_size = {count};
  for (unsigned index = 0; index < count; ++index) {
    begin_block(index, shared_bytes);
    while (true) {
      run_ready();
      if (finished()) break;
      if (!free_warps() && !free_block()) abort_with("threads wait for lanes that never arrive");
    }
  }
}

float* shared_memory() { return reinterpret_cast<float*>(blocks.memory.data()); }

void wait_for_block() { suspend(State::kAtBarrier); }

uint32_t exchange(unsigned mask, uint32_t own, int offset) {
  const unsigned here = blocks.current, there = here ^ static_cast<unsigned>(offset);
  if ((mask >> here % kWarp & 1U) == 0 || (mask >> there % kWarp & 1U) == 0) {
    abort_with("a shuffle with a lane outside its mask");
  }
  blocks.fibers[here].slot = own;
  wait_for_lanes(mask);
  const uint32_t other = blocks.fibers[there].slot;
  wait_for_lanes(mask);  // before a lane writes again
  return other;
}

}  // namespace lf::emulation
