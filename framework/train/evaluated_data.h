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

/// Makes the names of a split's files (a source's options `train`, `valid`, `test`, where they are
/// lists of strings) absolute, relative to `base`: a run's pipeline lies elsewhere than the one
/// that it was started with. `data`: a map.
RIBO_API void make_files_absolute(Value& data, const SchemaBase& source,
                                  const std::filesystem::path& base);

/// Changes the `data` section so that its source, whose schema is given, opens this split alone:
/// `files` take the place of data.<split>, and where that split has files of its own the lists of
/// the others become empty, for they may be gone. A split that is held out of the training files
/// leaves everything as it is. Throws ConfigError for files that the source has no use for; `type`
/// is what it is called.
RIBO_API void leave_one_split(Value& data, std::string_view type, const SchemaBase& source,
                              const EvaluatedData& evaluated);

/// What to do about a split without sequences: "; ...", or "" where that is not known. `judged`:
/// the verb is one with --data and --split.
RIBO_API std::string remedy_for_no_split(const Value& data, const SchemaBase& source,
                                         std::string_view split, bool judged);

}  // namespace ribo
