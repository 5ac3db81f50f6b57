#include "memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <map>
#include <mutex>

namespace echoic {
namespace {

constexpr std::size_t line = 64, large = std::size_t(1) << 20, huge_page = std::size_t(1) << 21;
constexpr std::size_t kept_at_most = std::size_t(1) << 30;

struct Header {
  std::size_t capacity;  // bytes after the header
};

struct Cache {
  std::mutex mutex;
  std::multimap<std::size_t, Header*> blocks;
  std::size_t total = 0;
} cache;

Header* header_of(void* block) { return reinterpret_cast<Header*>(static_cast<char*>(block) - line); }

Header* fresh(std::size_t capacity) {
  const bool is_large = capacity >= 2 * huge_page;
  const std::size_t alignment = is_large ? huge_page : line;
  const std::size_t bytes = (capacity + line + alignment - 1) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, bytes);
  if (!memory) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (is_large) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return new (memory) Header{bytes - line};
}

}  // namespace

void* take_memory(std::size_t bytes) {
  Header* found = nullptr;
  if (bytes >= large) {
    std::unique_lock<std::mutex> lock(cache.mutex, std::try_to_lock);  // a forked child may find it locked for ever
    if (lock && !cache.blocks.empty()) {
      auto at = cache.blocks.lower_bound(bytes);
      if (at == cache.blocks.end()) --at;  // too small: given up, so that the kept blocks grow to what is needed
      found = at->second;
      cache.total -= at->first;
      cache.blocks.erase(at);
    }
  }
  if (found && found->capacity < bytes) {
    std::free(found);
    found = nullptr;
  }
  if (!found) found = fresh(bytes);
  return reinterpret_cast<char*>(found) + line;
}

void give_memory(void* block) {
  if (!block) return;
  Header* header = header_of(block);
  if (header->capacity >= large) {
    std::unique_lock<std::mutex> lock(cache.mutex, std::try_to_lock);
    if (lock && cache.total + header->capacity <= kept_at_most) {
      cache.blocks.emplace(header->capacity, header);
      cache.total += header->capacity;
      return;
    }
  }
  std::free(header);
}

}  // namespace echoic
