#include "ribo/error.h"

namespace ribo {

// Key functions: they pin each vtable and typeinfo to this library, so that a plugin's throw is
// caught by type in the host.
Error::~Error() = default;
ConfigError::~ConfigError() = default;
PluginError::~PluginError() = default;

}  // namespace ribo
