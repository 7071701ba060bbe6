// Files in pieces: read as they come; written whole or not at all; where derived ones belong.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "ribo/error.h"

namespace ribo {

/// Puts the next bytes of a text into a buffer of that size and returns how many; 0 at the end.
/// Throws Error.
using Reading = std::function<size_t(char* buffer, size_t size)>;

/// Opens a file, or standard input for "-". Throws Error.
RIBO_API Reading read_file(const std::filesystem::path& path);

/// Takes the next piece of a file's content; throws Error when it cannot be written.
using Sink = std::function<void(std::string_view)>;

/// Replaces `path` by the content that `writer` hands to its sink: a temporary file in the same
/// folder is written, fsynced and renamed, then the folder is fsynced. After a crash the old file
/// or the new one is there, never a part. A failure (or an exception of `writer`) removes the
/// temporary file, leaves the old one alone and throws; an Error names the path and the reason. A
/// symbolic link at `path` is replaced, not followed.
RIBO_API void write_file_atomically(const std::filesystem::path& path,
                                    const std::function<void(const Sink&)>& writer);
RIBO_API void write_file_atomically(const std::filesystem::path& path, std::string_view content);

/// Makes renames and new names in `folder` survive a power cut. Throws Error.
RIBO_API void sync_folder(const std::filesystem::path& folder);

/// Where derived files are kept: $RIBO_CACHE, else $XDG_CACHE_HOME/ribo, else ~/.cache/ribo. It may
/// not exist yet. A data source is given it in DataContext.
RIBO_API std::filesystem::path cache_folder();

}  // namespace ribo
