// ByteRange: where something stands in a text.
#pragma once

#include <cstddef>

namespace kvs {

// Bytes [begin, end) of a text.
struct ByteRange {
  size_t begin;
  size_t end;
};

}  // namespace kvs
