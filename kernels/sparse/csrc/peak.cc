// What the processor could do at most: multiply-adds on registers alone, and reading memory.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double Since(Clock::time_point started) { return std::chrono::duration<double>(Clock::now() - started).count(); }

template <typename V>
inline __attribute__((always_inline)) double MultiplyAdds(double seconds) {
  constexpr int64_t kSums = 12, kRounds = 10000, kLanes = sizeof(V) / sizeof(float);
  V sums[kSums];
  for (int64_t i = 0; i < kSums; ++i) sums[i] = V{} + static_cast<float>(i + 1);
  const V factor = V{} + 0.5f;
  const auto started = Clock::now();
  int64_t operations = 0;
  double elapsed = 0;
  while (elapsed < seconds) {
    for (int64_t round = 0; round < kRounds; ++round) {
#pragma GCC unroll 12
      for (int64_t i = 0; i < kSums; ++i) sums[i] = sums[i] * factor + factor;
    }
    operations += kRounds * kSums * kLanes * 2;
    elapsed = Since(started);
  }
  // What nobody reads, the compiler does not compute.
  V total{};
  for (const V& sum : sums) total += sum;
  volatile float used = total[0];
  (void)used;
  return operations / elapsed;
}

typedef float Eight __attribute__((vector_size(32)));
typedef float Sixteen __attribute__((vector_size(64)));

double Narrow(double seconds) { return MultiplyAdds<Eight>(seconds); }

#if defined(__x86_64__)
__attribute__((target("avx512f"))) double Wide(double seconds) { return MultiplyAdds<Sixteen>(seconds); }
#endif

double Rate(double seconds) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) return std::max(Narrow(seconds / 2), Wide(seconds / 2));
#endif
  return Narrow(seconds);
}

// Sums that nobody needs of some memory.
uint64_t Read(const uint64_t* from, int64_t words) {
  typedef uint64_t Words __attribute__((vector_size(32)));
  Words sums[8] = {};
  int64_t i = 0;
  for (; i + 32 <= words; i += 32) {
    for (int64_t j = 0; j < 8; ++j) {
      Words x;
      std::memcpy(&x, from + i + 4 * j, sizeof x);
      sums[j] += x;
    }
  }
  uint64_t sum = 0;
  for (; i < words; ++i) sum += from[i];
  for (const Words& x : sums) sum += x[0] + x[1] + x[2] + x[3];
  return sum;
}

}  // namespace

// GFLOP/s of `threads` threads together, in fp32, by the widest registers that the processor has.
extern "C" double devkit_sparse_peak_gflops(int threads, double seconds) {
  double sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
  sum += Rate(seconds) / 1e9;
  return sum;
}

// The best GB/s at which `threads` threads read `bytes` bytes together, again and again for about `seconds`.
extern "C" double devkit_sparse_read_gbps(int64_t bytes, int threads, double seconds) {
  const int64_t words = std::max<int64_t>(bytes / 8 / threads, 64);
  std::vector<std::vector<uint64_t>> memory(threads);
  double best = 0;
  uint64_t sums = 0;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (int t = 0; t < threads; ++t) memory[t].assign(words, t);
  // A turn is long enough that starting the threads does not count.
  const int64_t repeats = std::max<int64_t>(1, (8 << 20) / (words * 8));
  const auto started = Clock::now();
  do {
    const auto turn = Clock::now();
#pragma omp parallel for num_threads(threads) schedule(static, 1) reduction(+ : sums)
    for (int t = 0; t < threads; ++t) {
      for (int64_t i = 0; i < repeats; ++i) {
        sums += Read(memory[t].data(), words);
        asm volatile("" ::: "memory");  // another read is another read
      }
    }
    best = std::max(best, 8.0 * words * threads * repeats / Since(turn) / 1e9);
  } while (Since(started) < seconds);
  volatile uint64_t used = sums;
  (void)used;
  return best;
}
