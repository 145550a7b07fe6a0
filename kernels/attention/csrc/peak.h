// What the processor could do at most: multiply-adds on registers alone.
#pragma once

#include <chrono>

#include "micro_kernel.h"

namespace devkit {
namespace DEVKIT_ISA {

#ifdef DEVKIT_TILES

// Floating-point operations a second of one thread over about `seconds`.
template <class Word>
double Rate(double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kRounds = 10000;
  const TileRegisters registers;
  alignas(64) float words[kTile * kColumns] = {}, sums[kTile * kColumns] = {};
  const auto started = Clock::now();
  int64_t operations = 0;
  double elapsed = 0;
  LoadSums(sums);
  while (elapsed < seconds) {
    for (int64_t round = 0; round < kRounds; ++round) AddTileProduct(words, kTile, words);
    operations += kRounds * kTile * kTile * kColumns * 2 * Word::kPerWord;
    elapsed = std::chrono::duration<double>(Clock::now() - started).count();
  }
  StoreSums(sums);
  volatile float used = sums[0];
  (void)used;
  return operations / elapsed;
}

#else

// Floating-point operations a second of one thread over about `seconds`.
template <class Word>
double Rate(double seconds) {
  using Clock = std::chrono::steady_clock;
  constexpr int64_t kRounds = 10000;
  // Each sum starts elsewhere, so that none is another's copy.
  MicroTile sums;
  float start = 0;
  for (auto& row : sums.at)
    for (auto& sum : row) sum = Broadcast(start += 1);
  // Of pairs of bfloat16 this is 0.5 twice.
  const Vec factor = Word::kPerWord == 1 ? Broadcast(0.5f) : Broadcast(0.50196838f);
  const auto started = Clock::now();
  int64_t operations = 0;
  double elapsed = 0;
  while (elapsed < seconds) {
    for (int64_t round = 0; round < kRounds; ++round) {
      for (auto& row : sums.at)
        for (auto& sum : row) sum = Word::kPerWord == 1 ? Word::MultiplyAdd(sum, factor, factor)
                                                        : Word::MultiplyAdd(factor, factor, sum);
    }
    operations += kRounds * kRows * kColumns * 2 * Word::kPerWord;
    elapsed = std::chrono::duration<double>(Clock::now() - started).count();
  }
  // What nobody reads, the compiler does not compute.
  Vec total = Zero();
  for (const auto& row : sums.at)
    for (const auto& sum : row) total = Add(total, sum);
  volatile float used = SumOfLanes(total);
  (void)used;
  return operations / elapsed;
}

#endif

inline double Peak(int threads, double seconds) {
#ifdef DEVKIT_PAIRS
  using Word = BFloat16Pairs;
#else
  using Word = Floats;
#endif
  double sum = 0;
#pragma omp parallel num_threads(threads) reduction(+ : sum)
  sum += Rate<Word>(seconds) / 1e9;
  return sum;
}

}  // namespace DEVKIT_ISA
}  // namespace devkit
