// Reading weights that anyone may have written.
#pragma once

#include <filesystem>

#include "train/safetensors.h"

namespace ribo {

/// Reads weights, by their content:
///   - a safetensors file;
///   - a `.pt` file of torch.save (PyTorch 1.6 or later) that holds a state_dict, see state_dict.h;
///   - the directory of a checkpoint, whose manifest is checked, or of a run: its checkpoints/best,
///     else its checkpoints/last.
/// Prefixes that DataParallel (`module.`) and torch.compile (`_orig_mod.`) put before every name are
/// dropped. The file may come from anywhere: nothing in it is run, and every size is checked before
/// it is believed. Throws Error that names the file.
Tensors read_weights(const std::filesystem::path& path);

}  // namespace ribo
