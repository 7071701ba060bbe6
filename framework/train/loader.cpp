#include "train/loader.h"

#include <algorithm>
#include <numeric>

namespace ribo {
namespace {

constexpr size_t kPrefetch = 4;
constexpr int64_t kBucketBatches = 50;  // batches that are sorted by length together

uint64_t splitmix(uint64_t& state) {
  uint64_t z = (state += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

// std::shuffle may differ between standard libraries; a run's order may not.
template <class T>
void shuffle(std::vector<T>& v, uint64_t seed) {
  for (size_t i = v.size(); i > 1; --i) std::swap(v[i - 1], v[splitmix(seed) % i]);
}

// A plugin's mistake, told with the sample instead of as a failed copy.
void check_sample(const Split& split, int64_t index, const StreamSpec& spec, const at::Tensor& x,
                  int64_t length) {
  Shape expected = spec.shape;
  for (int64_t& d : expected) d = d == dim::length ? length : d;
  if (x.scalar_type() == spec.type && x.sizes() == at::IntArrayRef(expected)) return;
  throw Error(cat(split.id(index), ": the stream \"", spec.name, "\" is ", x.scalar_type(), " ",
                  x.sizes(), ", but its data source declares ", spec.type, " ",
                  to_string(spec.shape), " with L = ", length));
}

}  // namespace

uint64_t mix(uint64_t a, uint64_t b, uint64_t c) {
  uint64_t s = a;
  s = splitmix(s) ^ b;
  s = splitmix(s) ^ c;
  return splitmix(s);
}

Streams to_device(const Streams& streams, at::Device device) {
  Streams out;
  for (const auto& [name, tensor] : streams) out.set(name, tensor.to(device));
  return out;
}

Batch collate(const Split& split, const std::vector<StreamSpec>& specs,
              const std::vector<int64_t>& indices, const std::vector<uint64_t>& draws,
              int64_t length) {
  const auto n = static_cast<int64_t>(indices.size());
  std::vector<Streams> samples;
  std::vector<int64_t> lengths;
  for (int64_t i = 0; i < n; ++i) {
    samples.push_back(split.get(indices[i], draws[i]));
    lengths.push_back(samples.back().tokens().size(0));
    length = std::max(length, lengths.back());
  }
  Batch batch;
  batch.indices = indices;
  for (const StreamSpec& spec : specs) {
    Shape shape = {n};
    for (int64_t d : spec.shape) shape.push_back(d == dim::length ? length : d);
    at::Tensor out = at::full(shape, spec.pad, at::TensorOptions().dtype(spec.type));
    for (int64_t i = 0; i < n; ++i) {
      const at::Tensor& x = samples[i].get(spec.name);
      check_sample(split, indices[i], spec, x, lengths[i]);
      at::Tensor part = out[i];
      for (int64_t d = 0; d < x.dim(); ++d) part = part.narrow(d, 0, x.size(d));
      part.copy_(x);
    }
    batch.streams.set(spec.name, out);
  }
  const at::Tensor ends = at::tensor(lengths, at::kLong);
  batch.streams.set("mask", at::arange(length).unsqueeze(0) < ends.unsqueeze(1));
  return batch;
}

Loader::Loader(std::shared_ptr<const Split> split, std::vector<StreamSpec> specs,
               LoaderOptions options)
    : split_(std::move(split)), specs_(std::move(specs)), options_(options) {
  options_.batch = std::clamp<int64_t>(options_.batch, 1,
                                       std::max<int64_t>(1, split_->size() / options_.world_size));
}

Loader::~Loader() { stop(); }

int64_t Loader::batches_per_epoch() const {
  const int64_t together = options_.batch * options_.world_size;
  return options_.training ? split_->size() / together
                           : (split_->size() + together - 1) / together;
}

std::vector<std::vector<int64_t>> Loader::order(int64_t epoch) const {
  std::vector<int64_t> all(static_cast<size_t>(split_->size()));
  std::iota(all.begin(), all.end(), 0);
  const auto by_length = [this](int64_t a, int64_t b) { return split_->length(a) < split_->length(b); };
  const uint64_t seed = mix(options_.seed, static_cast<uint64_t>(epoch), 0x6f72646572);
  const auto together = static_cast<size_t>(options_.batch * options_.world_size);
  if (options_.training) {
    shuffle(all, seed);
    // Before the sort, which would leave out the longest ones of every epoch.
    all.resize(static_cast<size_t>(batches_per_epoch()) * together);
    if (options_.bucket) {
      for (size_t i = 0; i < all.size(); i += together * kBucketBatches) {
        const auto begin = all.begin() + static_cast<std::ptrdiff_t>(i);
        const auto end = all.begin() + static_cast<std::ptrdiff_t>(
                                           std::min(all.size(), i + together * kBucketBatches));
        std::stable_sort(begin, end, by_length);
      }
    }
  } else if (options_.bucket) {
    std::stable_sort(all.begin(), all.end(), by_length);
  }
  std::vector<std::vector<int64_t>> batches(static_cast<size_t>(batches_per_epoch()));
  for (size_t b = 0; b < batches.size(); ++b) {
    const size_t begin = b * together, end = std::min(all.size(), begin + together);
    // Ranks take turns, so that each gets the same share of the long sequences.
    for (size_t i = begin + static_cast<size_t>(options_.rank); i < end;
         i += static_cast<size_t>(options_.world_size)) {
      batches[b].push_back(all[i]);
    }
  }
  if (options_.training && options_.bucket) shuffle(batches, mix(seed, 1, 0));
  return batches;
}

void Loader::start(int64_t epoch, int64_t first) {
  stop();
  stopping_ = false;
  finished_ = false;
  failure_ = nullptr;
  ready_.clear();
  worker_ = std::thread(&Loader::work, this, order(epoch), epoch, first);
}

void Loader::work(std::vector<std::vector<int64_t>> plan, int64_t epoch, int64_t first) {
  try {
    for (size_t b = static_cast<size_t>(first); b < plan.size(); ++b) {
      std::vector<uint64_t> draws;
      for (int64_t i : plan[b]) {
        const uint64_t draw = mix(options_.seed, static_cast<uint64_t>(epoch), static_cast<uint64_t>(i));
        draws.push_back(options_.training ? std::max<uint64_t>(1, draw) : 0);
      }
      Batch batch = collate(*split_, specs_, plan[b], draws);
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || ready_.size() < kPrefetch; });
      if (stopping_) return;
      ready_.push_back(std::move(batch));
      changed_.notify_all();
    }
  } catch (...) {
    std::lock_guard lock(mutex_);
    failure_ = std::current_exception();
  }
  std::lock_guard lock(mutex_);
  finished_ = true;
  changed_.notify_all();
}

bool Loader::next(Batch& batch) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return finished_ || !ready_.empty(); });
  if (ready_.empty()) {
    if (failure_) std::rethrow_exception(failure_);
    return false;
  }
  batch = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  return true;
}

void Loader::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  if (worker_.joinable()) worker_.join();
}

}  // namespace ribo
