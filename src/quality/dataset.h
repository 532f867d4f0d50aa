// Samples of text for calibration and evaluation, in the formats people have them in.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kvserve/status.h"

namespace kvs {

struct DatasetRow {
  std::string text = {};       // set, unless `messages` is
  std::string messages = {};   // JSON: [{"role", "content"}, ...], for the model's chat template
  std::string answer = {};     // what the model should say next; may be empty
  uint32_t length = 0;         // "length" of the row, where it has one: groups results
  bool is_plain_text = false;  // the whole file: may be cut into several samples
};

// JSON lines or one JSON list of objects with "text", "messages", ShareGPT's "conversations"
// ("from", "value") or "prompt"; anything else is plain text, one row. At most `max_rows` from the
// first, 0: all. kNotFound; kDataError names file and row.
Result<std::vector<DatasetRow>> ReadDataset(const std::filesystem::path& path, uint64_t max_rows);

}  // namespace kvs
