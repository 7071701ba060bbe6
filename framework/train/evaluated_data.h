// The data that a trained model is judged on, without the files that it was trained with.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "ribo/schema.h"

namespace ribo {

/// One split of a pipeline's data source.
struct EvaluatedData {
  std::string split = "valid";               // or "train", "test"
  std::vector<std::filesystem::path> files;  // instead of those that the pipeline names; absolute
};

/// Changes the `data` section so that its source, whose schema is given, opens this split alone:
/// `files` take the place of data.<split>, and where that split has files of its own the lists of
/// the others become empty, for they may be gone. A split that is held out of the training files
/// leaves everything as it is. Throws ConfigError for files that the source has no use for; `type`
/// is what it is called.
RIBO_API void leave_one_split(Value& data, std::string_view type, const SchemaBase& source,
                              const EvaluatedData& evaluated);

}  // namespace ribo
