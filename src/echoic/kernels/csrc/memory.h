// Large blocks that are used again and again: a step's tape is as large as the next one's, and fresh
// pages cost the system much of what the recurrence costs.
#pragma once
#include <cstddef>
#include <memory>
#include <new>
#include <cstring>
#include <cstdint>

namespace echoic {

// A block of at least `bytes`, aligned to a cache line, its content undefined. Throws std::bad_alloc.
void* take_memory(std::size_t bytes);
// Gives a block back. Up to a gigabyte is kept for the next taker.
void give_memory(void* block);

template <class T> class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t size, bool zeros = false) {
    if (size <= 0) return;
    memory_.reset(static_cast<T*>(take_memory(std::size_t(size) * sizeof(T))));
    if (zeros) std::memset(memory_.get(), 0, std::size_t(size) * sizeof(T));
  }
  T* data() const { return memory_.get(); }
  explicit operator bool() const { return memory_ != nullptr; }
  T* release() { return memory_.release(); }

 private:
  struct Giver {
    void operator()(T* p) const { give_memory(p); }
  };
  std::unique_ptr<T, Giver> memory_;
};

}  // namespace echoic
