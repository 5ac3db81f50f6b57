// Threads that wait for work, and a place where those of one job wait for each other.
#pragma once
#include <atomic>
#include <functional>

namespace echoic {

// Runs work(thread) for thread = 0 .. threads-1, all at the same time, and returns when all have ended.
// One job at a time: a second caller waits. After a fork the child starts threads of its own.
void run_on_threads(int threads, const std::function<void(int)>& work);

// Lends the threads of an OpenMP that is already in the process: its GOMP_parallel and
// omp_get_num_threads. Two pools on the same processors wait for each other's idle spinning; where
// torch is loaded its threads serve both. Not used in a forked child, where they no longer exist.
void lend_threads(void (*parallel)(void (*)(void*), void*, unsigned, unsigned), int (*team_size)());

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

void give_way();

class Meeting {
 public:
  // spins: how often it looks before it gives its processor to another, as one who comes late may have none.
  explicit Meeting(int size = 1, int spins = 20000) : size_(size), spins_(spins) {}
  void join() {
    if (size_ == 1) return;
    unsigned round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; spins++) {
      pause_briefly();
      if (spins > spins_) give_way();
    }
  }

 private:
  int size_, spins_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<unsigned> round_{0};
};

}  // namespace echoic
