// Key functions: each vtable and type_info lives here alone, so that dynamic_cast and catch by type
// work across the plugin boundary.
#include "ribo/block.h"

#include "ribo/data.h"
#include "ribo/loss.h"
#include "ribo/metric.h"
#include "ribo/plugin.h"

namespace ribo {

Block::~Block() = default;
Split::~Split() = default;
DataSource::~DataSource() = default;
Loss::~Loss() = default;
Metric::~Metric() = default;
Registrar::~Registrar() = default;

}  // namespace ribo
