#include "train/evaluate.h"

namespace ribo {

Evaluation evaluate(Loader& loader, const std::function<void(Streams&)>& predict, const Loss* loss,
                    const std::vector<NamedMetric>& metrics) {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> sums(metrics.size());
  Evaluation out;
  double sequences = 0;
  Batch batch;
  loader.start(0);
  while (loader.next(batch)) {
    predict(batch.streams);
    const auto n = static_cast<double>(batch.indices.size());
    if (loss) out.loss += n * loss->forward(batch.streams).item<double>();
    sequences += n;
    for (size_t m = 0; m < metrics.size(); ++m) {
      const at::Tensor part = metrics[m].metric->accumulate(batch.streams);
      sums[m] = sums[m].defined() ? sums[m] + part : part;
    }
  }
  if (sequences > 0) out.loss /= sequences;
  for (size_t m = 0; m < metrics.size(); ++m) {
    out.values.push_back(sums[m].defined() ? metrics[m].metric->finish(sums[m]) : NAN);
  }
  return out;
}

}  // namespace ribo
