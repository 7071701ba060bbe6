// From trained models and a sequence to its picture.
#pragma once

#include <optional>
#include <string>

#include "predict/ensemble.h"
#include "report/picture_page.h"

namespace ribo {

/// The picture of one sequence: the ensemble's profile beside what the sample measured
/// (`target.<x>` for pred.<x>; its error where there is a stream `error.<x>`), maps and
/// attention of the first model. `sample` is a batch of that sequence alone. Throws ConfigError for
/// a `layer` (from 1; unset = the last) that there is not.
Picture take_picture(const Ensemble& ensemble, const std::string& id, const Streams& sample,
                     std::optional<int64_t> layer);

}  // namespace ribo
