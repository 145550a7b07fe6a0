// What the processor could do at most: multiply-adds on registers alone.
#include <chrono>
#include <vector>

#include "micro_kernel.h"

namespace {

// Floating-point operations a second of one thread over about `seconds`.
double Rate(double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kRounds = 10000;
  // Each sum starts elsewhere, so that none is another's copy.
  devkit::MicroTile sums;
  float start = 0;
  for (auto& row : sums.at)
    for (auto& sum : row) sum = devkit::Broadcast(start += 1);
  const devkit::Vec factor = devkit::Broadcast(0.5f);
  const auto started = Clock::now();
  int64_t operations = 0;
  double elapsed = 0;
  while (elapsed < seconds) {
    for (int64_t round = 0; round < kRounds; ++round) {
      for (auto& row : sums.at)
        for (auto& sum : row) sum = devkit::Fma(sum, factor, factor);
    }
    operations += kRounds * devkit::kRows * devkit::kColumns * 2;
    elapsed = std::chrono::duration<double>(Clock::now() - started).count();
  }
  // What nobody reads, the compiler does not compute.
  devkit::Vec total = devkit::Zero();
  for (const auto& row : sums.at)
    for (const auto& sum : row) total = devkit::Add(total, sum);
  volatile float used = devkit::SumOfLanes(total);
  (void)used;
  return operations / elapsed;
}

}  // namespace

// GFLOP/s of `threads` threads together.
extern "C" double devkit_fma_gflops(int threads, double seconds) {
  double sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
  sum += Rate(seconds) / 1e9;
  return sum;
}
