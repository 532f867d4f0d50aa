#include "model/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "unit/model/model_fixture.h"

namespace kvs {
namespace {

using ::testing::HasSubstr;

bool None(std::string_view) { return false; }

TEST(CheckpointTest, ReadsASingleFile) {
  const TempDir dir;
  WriteFile(dir / "model.safetensors",
            SafetensorsBytes({{"m", "BF16", {2, 3}, std::string(12, 'a')},
                              {"n", "F32", {5}, std::string(20, 'b')}}));
  auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message();
  const auto matrix = (*checkpoint)->Matrix("m", 2, 3);
  ASSERT_TRUE(matrix) << matrix.error().message();
  EXPECT_EQ(matrix->dtype, DType::kBf16);
  EXPECT_EQ(matrix->rows, 2u);
  EXPECT_EQ(matrix->cols, 3u);
  EXPECT_EQ(std::memcmp(matrix->data, std::string(12, 'a').data(), 12), 0);
  const auto vector = (*checkpoint)->Vector("n", 5);
  ASSERT_TRUE(vector) << vector.error().message();
  EXPECT_EQ(vector->cols, 5u);
  (*checkpoint)->Release();
  EXPECT_TRUE((*checkpoint)->Finish(None));
}

TEST(CheckpointTest, AlignsTensorsAtOddAddresses) {
  const TempDir dir;
  for (const char* padding : {"", " ", "  ", "   "}) {
    const std::string header = R"({"odd":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},)"
                               R"("w":{"dtype":"F32","shape":[1,2],"data_offsets":[3,11]}})";
    WriteFile(dir / "model.safetensors", SafetensorsBytes(header + padding, "xxx12345678"));
    auto checkpoint = Checkpoint::Open(dir.path());
    ASSERT_TRUE(checkpoint) << checkpoint.error().message();
    const auto matrix = (*checkpoint)->Matrix("w", 1, 2);
    ASSERT_TRUE(matrix) << matrix.error().message();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(matrix->data) % 4, 0u);
    EXPECT_EQ(std::memcmp(matrix->data, "12345678", 8), 0);
  }
}

TEST(CheckpointTest, NamesWhatIsMissingOrWrong) {
  const TempDir dir;
  WriteFile(dir / "model.safetensors",
            SafetensorsBytes({{"m", "BF16", {2, 3}, std::string(12, 'a')},
                              {"q", "F8_E4M3", {2, 3}, std::string(6, 'b')},
                              {"m.bias", "BF16", {2}, std::string(4, 'c')}}));
  auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message();
  const struct {
    Result<HostMatrix> result;
    const char* message;
  } cases[] = {
      {(*checkpoint)->Matrix("absent", 2, 3), ": tensor 'absent' is missing"},
      {(*checkpoint)->Matrix("m", 3, 2),
       "tensor 'm' has shape [2, 3]; config.json asks for [3, 2]"},
      {(*checkpoint)->Vector("m", 6), "tensor 'm' has shape [2, 3]; config.json asks for [6]"},
      {(*checkpoint)->Matrix("q", 2, 3),
       "tensor 'q' is stored as F8_E4M3, but 'q.weight_scale' is missing"},
  };
  for (const auto& test : cases) {
    ASSERT_FALSE(test.result) << test.message;
    EXPECT_EQ(test.result.error().code(), Code::kDataError);
    EXPECT_THAT(test.result.error().message(), HasSubstr(test.message));
  }
  ASSERT_TRUE((*checkpoint)->Matrix("m", 2, 3));
  const auto finished = (*checkpoint)->Finish([](std::string_view name) { return name == "q"; });
  ASSERT_FALSE(finished);
  EXPECT_THAT(finished.error().message(), HasSubstr("tensor 'm.bias' has no place in this"));
}

TEST(CheckpointTest, SeesAFileThatShrank) {
  const TempDir dir;
  WriteFile(dir / "model.safetensors", SafetensorsBytes({{"m", "F32", {1, 1}, "1234"}}));
  auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_TRUE(checkpoint) << checkpoint.error().message();
  ASSERT_TRUE((*checkpoint)->Matrix("m", 1, 1));
  std::filesystem::resize_file(dir / "model.safetensors", 9);
  const auto finished = (*checkpoint)->Finish(None);
  ASSERT_FALSE(finished);
  EXPECT_EQ(finished.error().code(), Code::kOsError);
}

// An index over shards a.safetensors (tensor "x") and, unless `without_b`, b.safetensors ("y").
Result<std::unique_ptr<Checkpoint>> OpenSharded(const TempDir& dir, const std::string& index,
                                                bool without_b = false) {
  WriteFile(dir / "a.safetensors", SafetensorsBytes({{"x", "F32", {1, 1}, "aaaa"}}));
  if (!without_b) {
    WriteFile(dir / "b.safetensors", SafetensorsBytes({{"y", "F32", {1, 1}, "bbbb"}}));
  }
  WriteFile(dir / "model.safetensors.index.json", index);
  return Checkpoint::Open(dir.path());
}

TEST(CheckpointTest, ReadsShards) {
  const TempDir dir;
  auto checkpoint =
      OpenSharded(dir, R"({"metadata":{},"weight_map":{"x":"a.safetensors","y":"b.safetensors"}})");
  ASSERT_TRUE(checkpoint) << checkpoint.error().message();
  const auto y = (*checkpoint)->Matrix("y", 1, 1);
  ASSERT_TRUE(y) << y.error().message();
  EXPECT_EQ(std::memcmp(y->data, "bbbb", 4), 0);
  EXPECT_TRUE((*checkpoint)->Matrix("x", 1, 1));
  EXPECT_TRUE((*checkpoint)->Finish(None));
}

TEST(CheckpointTest, RefusesABadIndex) {
  const struct {
    const char* index;
    Code code;
    const char* message;
  } cases[] = {
      {"{}", Code::kDataError, "weight_map is missing or empty"},
      {R"({"weight_map":{}})", Code::kDataError, "weight_map is missing or empty"},
      {R"({"weight_map":["a.safetensors"]})", Code::kDataError, "weight_map is missing"},
      {R"({"weight_map":{"x":7}})", Code::kDataError, "tensor 'x' is said to be in 7"},
      {R"({"weight_map":{"x":""}})", Code::kDataError, "tensor 'x' is said to be in \"\""},
      {R"({"weight_map":{"x":"../../etc/passwd"}})", Code::kDataError,
       "tensor 'x' is said to be in \"../../etc/passwd\"; expected the name of a file"},
      {R"({"weight_map":{"x":"/etc/passwd"}})", Code::kDataError, "\"/etc/passwd\""},
      {R"({"weight_map":{"x":".."}})", Code::kDataError, "tensor 'x' is said to be in \"..\""},
      {R"({"weight_map":{"x":"a.safetensors\u0000"}})", Code::kDataError, "said to be in"},
      {R"({"weight_map":{"z":"a.safetensors"}})", Code::kDataError,
       "tensor 'z' is not in a.safetensors"},
      {R"({"weight_map":{"x":"a.safetensors","x":"b.safetensors"}})", Code::kDataError,
       "'x' occurs twice"},
      {R"({"weight_map":{"y":"b.safetensors"}})", Code::kNotFound, "b.safetensors: No such file"},
  };
  for (const auto& test : cases) {
    const TempDir dir;
    const auto checkpoint = OpenSharded(dir, test.index, /*without_b=*/true);
    ASSERT_FALSE(checkpoint) << test.index;
    EXPECT_EQ(checkpoint.error().code(), test.code) << test.index;
    EXPECT_THAT(checkpoint.error().message(), HasSubstr("index.json"));
    EXPECT_THAT(checkpoint.error().message(), HasSubstr(test.message));
  }
}

TEST(CheckpointTest, SaysWhenThereAreNoWeights) {
  const TempDir dir;
  const auto checkpoint = Checkpoint::Open(dir.path());
  ASSERT_FALSE(checkpoint);
  EXPECT_EQ(checkpoint.error().code(), Code::kNotFound);
  EXPECT_THAT(checkpoint.error().message(),
              HasSubstr("no weights: neither model.safetensors nor model.safetensors.index.json"));
}

}  // namespace
}  // namespace kvs
