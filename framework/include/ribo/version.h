#pragma once

#define RIBO_VERSION "0.1.0"
