// Memory of one thread for the tiles of a kernel: taken in turn, given back all at once when the
// Scratch ends, kept for the next one. Not thread-safe, each thread has its own; two may be
// alive in a thread, the later one ends first.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lf {

class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Not initialised, and begins at a cache line.
  template <typename T>
  T* take(int64_t count) {
    return static_cast<T*>(bytes(static_cast<size_t>(count) * sizeof(T)));
  }

 private:
  void* bytes(size_t size);
  size_t begin_;
};

}  // namespace lf
