#include "train/tfrecord.h"

#include <boost/crc.hpp>
#include <cstdint>

namespace ribo {
namespace {

void append_little_endian(std::string& out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

// Masked, because the sum of data that holds its own sum is weak.
uint32_t masked_crc(std::string_view data) {
  boost::crc_optimal<32, 0x1EDC6F41, 0xFFFFFFFF, 0xFFFFFFFF, true, true> crc;
  crc.process_bytes(data.data(), data.size());
  const auto sum = static_cast<uint32_t>(crc.checksum());
  return (sum >> 15 | sum << 17) + 0xa282ead8u;
}

}  // namespace

std::string tfrecord(std::string_view data) {
  std::string record;
  append_little_endian(record, data.size(), 8);
  append_little_endian(record, masked_crc(record), 4);
  record += data;
  append_little_endian(record, masked_crc(data), 4);
  return record;
}

}  // namespace ribo
