#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace echoic {
namespace {

// Spinning for a moment makes back-to-back layers start at once; a sleeper costs nothing.
constexpr int spins_before_sleep = 4000;

struct Pool {
  std::mutex busy;  // held by the caller whose job runs
  std::mutex mutex;
  std::condition_variable wake;
  std::atomic<uint64_t> job{0};
  std::atomic<int> unfinished{0};
  const std::function<void(int)>* work = nullptr;
  int wanted = 0;
  std::vector<std::thread> threads;

  void serve(int thread, uint64_t seen) {
    for (;;) {
      for (int spins = 0; job.load(std::memory_order_acquire) == seen && spins < spins_before_sleep; spins++)
        pause_briefly();
      if (job.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex);
        wake.wait(lock, [&] { return job.load(std::memory_order_acquire) != seen; });
      }
      seen = job.load(std::memory_order_acquire);
      if (thread < wanted) {
        (*work)(thread);
      }
      unfinished.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  void run(int count, const std::function<void(int)>& todo) {
    std::lock_guard<std::mutex> only(busy);
    while (int(threads.size()) < count - 1) {
      int thread = int(threads.size()) + 1;
      threads.emplace_back([this, thread, seen = job.load()] { serve(thread, seen); });
    }
    {
      std::lock_guard<std::mutex> lock(mutex);
      work = &todo;
      wanted = count;
      unfinished.store(int(threads.size()), std::memory_order_release);
      job.fetch_add(1, std::memory_order_acq_rel);
    }
    wake.notify_all();
    todo(0);
    for (int spins = 0; unfinished.load(std::memory_order_acquire) != 0; spins++) {
      pause_briefly();
      if (spins > 20000) give_way();
    }
  }
};

// Never destroyed: its threads sleep until the process ends. A forked child has none of them, and
// leaves the parent's pool alone, locked or not.
std::atomic<Pool*> pool{nullptr};

Pool& the_pool() {
  static std::once_flag watched;
  std::call_once(watched, [] { pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr); }); });
  Pool* found = pool.load(std::memory_order_acquire);
  if (found) return *found;
  Pool* made = new Pool;
  if (pool.compare_exchange_strong(found, made)) return *made;
  delete made;
  return *found;
}

struct Lent {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned) = nullptr;
  int (*team_size)() = nullptr;
  pid_t owner = 0;
} lent;

struct LentJob {
  const std::function<void(int)>& work;
  int threads;
  std::atomic<int> next{0};
  std::atomic<bool> refused{false};
};

// Whether the lent threads did the work; a team that is too small (a nested region) does none of it.
bool run_lent(int threads, const std::function<void(int)>& work) {
  if (!lent.parallel || lent.owner != getpid()) return false;
  LentJob job{work, threads};
  lent.parallel(
      [](void* given) {
        LentJob& mine = *static_cast<LentJob*>(given);
        if (lent.team_size() != mine.threads)
          mine.refused.store(true, std::memory_order_relaxed);
        else
          mine.work(mine.next.fetch_add(1, std::memory_order_relaxed));
      },
      &job, unsigned(threads), 0);
  return !job.refused.load(std::memory_order_relaxed);
}

}  // namespace

void lend_threads(void (*parallel)(void (*)(void*), void*, unsigned, unsigned), int (*team_size)()) {
  lent = {parallel, team_size, getpid()};
}

void give_way() { sched_yield(); }

void run_on_threads(int threads, const std::function<void(int)>& work) {
  if (threads <= 1) return work(0);
  if (run_lent(threads, work)) return;
  the_pool().run(threads, work);
}

}  // namespace echoic
