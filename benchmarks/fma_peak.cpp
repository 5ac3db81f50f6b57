// The arithmetic peak of this machine: fp32 fused multiply-adds from registers, `threads` at once.
// Built and run by kernels.py: prints GFLOP/s.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#ifdef __AVX512F__
constexpr int bytes = 64;
#elif defined(__AVX__)
constexpr int bytes = 32;
#else
constexpr int bytes = 16;
#endif
typedef float vec __attribute__((vector_size(bytes)));
constexpr int chains = 12, steps = 20000000;

static void run(float* out) {
  vec sums[chains], x = vec{} + 0.999f, y = vec{} + 1e-4f;
  for (int i = 0; i < chains; i++) sums[i] = vec{} + 1e-3f * float(i);
  for (int k = 0; k < steps; k++)
#pragma GCC unroll 12
    for (int i = 0; i < chains; i++) sums[i] = sums[i] * x + y;
  for (int i = 0; i < chains; i++) *out += sums[i][0];
}

int main(int, char** arguments) {
  const int threads = std::atoi(arguments[1]);
  double best = 0;
  std::vector<float> sink(size_t(threads) * 16);
  for (int repeat = 0; repeat < 3; repeat++) {
    auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> others;
    for (int t = 1; t < threads; t++) others.emplace_back(run, &sink[size_t(t) * 16]);
    run(&sink[0]);
    for (auto& other : others) other.join();
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    double rate = double(threads) * steps * chains * (bytes / 4) * 2 / seconds / 1e9;
    best = rate > best ? rate : best;
  }
  std::printf("%.1f\n", sink[0] == 123.0f ? 0.0 : best);
}
