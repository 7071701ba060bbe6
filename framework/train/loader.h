// From the samples of a split to padded batches, in an order that only (seed, epoch) decides.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "ribo/data.h"

namespace ribo {

struct Batch {
  Streams streams;               // the data's streams with a batch dimension, and `mask`
  std::vector<int64_t> indices;  // of the samples in their split
};

/// Pads and stacks samples. `length` = 0: the longest one's; longer pads further.
Batch collate(const Split& split, const std::vector<StreamSpec>& specs,
              const std::vector<int64_t>& indices, const std::vector<uint64_t>& draws,
              int64_t length = 0);

/// The same tensors on `device`.
Streams to_device(const Streams& streams, at::Device device);

struct LoaderOptions {
  int64_t batch = 32;   // sequences in one batch of this rank
  uint64_t seed = 0;
  bool training = false;  // shuffle, augment, drop the incomplete last batch
  bool bucket = true;     // sequences of similar length share a batch
  int64_t rank = 0;
  int64_t world_size = 1;
};

class Loader {
 public:
  Loader(std::shared_ptr<const Split> split, std::vector<StreamSpec> specs, LoaderOptions options);
  ~Loader();

  /// The same for every epoch and rank.
  int64_t batches_per_epoch() const;
  /// Starts an epoch at batch `first`; a worker thread keeps a few batches ready.
  void start(int64_t epoch, int64_t first = 0);
  /// The next batch of the epoch; false at its end. Rethrows what the data source threw.
  bool next(Batch& batch);
  /// The sample indices of each batch of an epoch, as this rank sees them.
  std::vector<std::vector<int64_t>> order(int64_t epoch) const;
  const Split& split() const { return *split_; }

 private:
  void stop();
  void work(std::vector<std::vector<int64_t>> plan, int64_t epoch, int64_t first);

  std::shared_ptr<const Split> split_;
  std::vector<StreamSpec> specs_;
  LoaderOptions options_;

  std::thread worker_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch> ready_;
  std::exception_ptr failure_;
  bool finished_ = true;
  bool stopping_ = false;
};

/// A well-mixed 64-bit hash of three numbers (splitmix64 steps).
uint64_t mix(uint64_t a, uint64_t b, uint64_t c);

}  // namespace ribo
