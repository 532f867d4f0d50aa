#include "quality/calibration_state.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string_view>
#include <system_error>
#include <utility>

namespace kvs {
namespace {

constexpr std::string_view kMagic = "kvserve calibration 1\n";

template <class T>
void Put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// Reads what Put wrote; after the end it gives zeros and is not ok.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  std::string_view Bytes(size_t count) {
    ok_ = ok_ && count <= bytes_.size();
    if (!ok_) return {};
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }
  template <class T>
  T Get() {
    const std::string_view taken = Bytes(sizeof(T));
    T value{};
    if (ok_) std::memcpy(&value, taken.data(), sizeof value);
    return value;
  }
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && bytes_.empty(); }

 private:
  std::string_view bytes_;
  bool ok_ = true;
};

// Most bins are empty: those that are not, with their numbers.
void PutHead(std::string& out, const KvHeadStatistics& head) {
  Put(out, head.largest);
  Put(out, head.num_saturated);
  uint32_t num_filled = 0;
  for (const uint64_t count : head.counts) num_filled += count != 0 ? 1 : 0;
  Put(out, num_filled);
  for (uint32_t bin = 0; bin < head.counts.size(); ++bin) {
    if (head.counts[bin] == 0) continue;
    Put(out, bin);
    Put(out, head.counts[bin]);
  }
}

void GetHead(Reader& in, KvHeadStatistics& head) {
  head.largest = in.Get<float>();
  head.num_saturated = in.Get<uint64_t>();
  head.counts.assign(kKvStatsBins, 0);
  const auto num_filled = in.Get<uint32_t>();
  for (uint32_t i = 0; i < num_filled && in.ok(); ++i) {
    const auto bin = in.Get<uint32_t>();
    const auto count = in.Get<uint64_t>();
    if (bin < kKvStatsBins) head.counts[bin] = count;
  }
}

}  // namespace

Result<void> SaveCalibrationState(const std::filesystem::path& path,
                                  const CalibrationState& state) {
  std::string bytes(kMagic);
  Put(bytes, static_cast<uint32_t>(state.job.size()));
  bytes += state.job;
  Put(bytes, state.num_samples_done);
  Put(bytes, state.num_tokens_done);
  for (const KvHeadStatistics& head : state.statistics.heads) PutHead(bytes, head);
  std::filesystem::path fresh = path;
  fresh += ".new";
  std::ofstream file(fresh, std::ios::binary | std::ios::trunc);
  file << bytes;
  file.close();
  if (!file || std::rename(fresh.c_str(), path.c_str()) != 0) {
    return Error(Code::kOsError, fmt::format("cannot write '{}': {}", path.string(),
                                             std::generic_category().message(errno)));
  }
  return {};
}

std::optional<CalibrationState> LoadCalibrationState(const std::filesystem::path& path,
                                                     const CalibrationState& fresh) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  Reader in(bytes);
  if (in.Bytes(kMagic.size()) != kMagic) return std::nullopt;
  if (in.Bytes(in.Get<uint32_t>()) != fresh.job) return std::nullopt;
  CalibrationState state = fresh;
  state.num_samples_done = in.Get<uint64_t>();
  state.num_tokens_done = in.Get<uint64_t>();
  for (KvHeadStatistics& head : state.statistics.heads) GetHead(in, head);
  if (!in.at_end()) return std::nullopt;
  return state;
}

}  // namespace kvs
