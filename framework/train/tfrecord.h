// TFRecord framing: length, checksum of the length, data, checksum of the data.
#pragma once

#include <string>
#include <string_view>

namespace ribo {

/// The record that holds `data`, with the masked CRC-32C sums of
/// https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details.
std::string tfrecord(std::string_view data);

}  // namespace ribo
