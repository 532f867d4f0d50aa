#include "model/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <limits>
#include <string>

#include "unit/model/model_fixture.h"

namespace kvs {
namespace {

using ::testing::HasSubstr;

TEST(SafetensorsTest, ReadsTensors) {
  const TempDir dir;
  WriteFile(dir / "a.safetensors", SafetensorsBytes({{"first", "F32", {2, 3}, std::string(24, 'x')},
                                                     {"empty", "F16", {0, 5}, ""},
                                                     {"scalar", "I64", {}, "12345678"}}));
  const auto file = SafetensorsFile::Open(dir / "a.safetensors");
  ASSERT_TRUE(file) << file.error().message();
  ASSERT_EQ(file->tensors().size(), 3u);
  const StoredTensor& first = file->tensors().at("first");
  EXPECT_EQ(first.shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(first.dtype, DType::kF32);
  EXPECT_EQ(first.end - first.begin, 24u);
  const StoredTensor& scalar = file->tensors().at("scalar");
  EXPECT_FALSE(scalar.dtype);
  EXPECT_EQ(scalar.dtype_name, "I64");
  EXPECT_EQ(std::memcmp(file->Data(scalar), "12345678", 8), 0);
  file->DropPages(scalar);
  EXPECT_EQ(std::memcmp(file->Data(scalar), "12345678", 8), 0);  // loaded again
}

TEST(SafetensorsTest, SeesAFileThatChangedSize) {
  const TempDir dir;
  const auto path = dir / "a.safetensors";
  WriteFile(path, SafetensorsBytes({{"t", "U8", {5000}, std::string(5000, 'x')}}));
  const auto file = SafetensorsFile::Open(path);
  ASSERT_TRUE(file) << file.error().message();
  EXPECT_TRUE(file->CheckUnchanged());
  std::filesystem::resize_file(path, 100);
  const auto unchanged = file->CheckUnchanged();
  ASSERT_FALSE(unchanged);
  EXPECT_EQ(unchanged.error().code(), Code::kOsError);
  EXPECT_THAT(unchanged.error().message(), HasSubstr("changed while it was read: 100 bytes"));
}

struct BadFile {
  const char* name;
  std::string bytes;
  const char* message;
};

std::string Header(const std::string& header, size_t data_bytes) {
  return SafetensorsBytes(header, std::string(data_bytes, 'x'));
}

std::string HeaderLength(uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + "{}";
}

std::string ManyTensors(size_t count) {
  std::string header = "{";
  for (size_t i = 0; i < count; ++i) {
    header += (i == 0 ? "\"" : ",\"") + std::to_string(i) +
              R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  }
  return SafetensorsBytes(header + "}", "");
}

class BadSafetensorsTest : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadSafetensorsTest, IsRefusedWithFileAndTensor) {
  const TempDir dir;
  WriteFile(dir / "bad.safetensors", GetParam().bytes);
  const auto file = SafetensorsFile::Open(dir / "bad.safetensors");
  ASSERT_FALSE(file);
  EXPECT_EQ(file.error().code(), Code::kDataError);
  EXPECT_THAT(file.error().message(), HasSubstr("bad.safetensors: "));
  EXPECT_THAT(file.error().message(), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    Files, BadSafetensorsTest,
    ::testing::Values(
        BadFile{"Empty", "", "0 bytes, too short"},
        BadFile{"Short", "1234567", "7 bytes, too short"},
        BadFile{"HugeHeader", HeaderLength(uint64_t{1} << 63), "at most 67108864 are read"},
        BadFile{"LargestHeader", HeaderLength(std::numeric_limits<uint64_t>::max()),
                "a header of 18446744073709551615 bytes"},
        BadFile{"CutHeader", HeaderLength(3), "truncated: 10 bytes, in the middle of its header"},
        BadFile{"NoHeader", HeaderLength(0), "not valid JSON"},
        BadFile{"NotJson", Header("{\"a\"", 0), "not valid JSON at byte"},
        BadFile{"Array", Header("[]", 0), "not a JSON object"},
        BadFile{"Deep", Header(R"({"a":{"shape":[[[[1]]]]}})", 0), "nested deeper than 4"},
        BadFile{"Twice",
                Header(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                       R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                       2),
                "'a' occurs twice"},
        BadFile{"TooMany", ManyTensors(200'001), "200001 tensors; at most 200000"},
        BadFile{"NotAnObject", Header(R"({"a":[1,2]})", 0), "tensor 'a': not an object with"},
        BadFile{"NoOffsets", Header(R"({"a":{"dtype":"U8","shape":[1]}})", 1),
                "tensor 'a': not an object with dtype, shape and data_offsets"},
        BadFile{"UnknownDtype",
                Header(R"({"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}})", 1),
                "tensor 'a': unknown dtype \"F4\""},
        BadFile{"DtypeNumber", Header(R"({"a":{"dtype":2,"shape":[1],"data_offsets":[0,1]}})", 1),
                "tensor 'a': unknown dtype 2"},
        BadFile{"NegativeSize",
                Header(R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1),
                "tensor 'a': shape is not a list"},
        BadFile{"FractionalSize",
                Header(R"({"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}})", 1),
                "tensor 'a': shape is not a list"},
        BadFile{
            "HighRank",
            Header(R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1),
            "tensor 'a': shape is not a list of at most 8 sizes"},
        BadFile{"OneOffset", Header(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1),
                "tensor 'a': data_offsets is not a pair"},
        BadFile{"NegativeOffset",
                Header(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}})", 1),
                "tensor 'a': data_offsets is not a pair"},
        BadFile{"Backwards", Header(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,0]}})", 1),
                "tensor 'a': ends at 0, before 1"},
        BadFile{"Truncated",
                Header(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", 15),
                "tensor 'a': ends at byte 16 of the data, but the file holds 15: truncated?"},
        BadFile{"OffsetOverflow",
                Header(R"({"a":{"dtype":"U8","shape":[1],)"
                       R"("data_offsets":[18446744073709551614,18446744073709551615]}})",
                       1),
                "tensor 'a': ends at byte 18446744073709551615"},
        BadFile{"ShapeOverflow",
                Header(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],)"
                       R"("data_offsets":[0,0]}})",
                       0),
                "tensor 'a': the product of its shape overflows"},
        BadFile{"WrongLength",
                Header(R"({"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,4]}})", 4),
                "tensor 'a': BF16 of shape [2, 2] takes 8 bytes, but 4 are stored"},
        BadFile{"Overlap",
                Header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                       R"("b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
                       6),
                "tensor 'b': begins at byte 2 of the data, overlapping the previous end 4"},
        BadFile{"Hole",
                Header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                       R"("b":{"dtype":"U8","shape":[4],"data_offsets":[6,10]}})",
                       10),
                "tensor 'b': begins at byte 6 of the data, a hole after the previous end 4"},
        BadFile{"HoleAtStart",
                Header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[1,5]}})", 5),
                "tensor 'a': begins at byte 1"},
        BadFile{"DataLeft", Header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", 9),
                "9 bytes of data, but its tensors end at 4"}),
    [](const auto& test) { return test.param.name; });

TEST(SafetensorsTest, RefusesWhatIsNoFile) {
  const TempDir dir;
  const auto missing = SafetensorsFile::Open(dir / "missing.safetensors");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), Code::kNotFound);
  EXPECT_THAT(missing.error().message(), HasSubstr("missing.safetensors: No such file"));

  std::filesystem::create_symlink("loop", dir / "loop");
  const auto loop = SafetensorsFile::Open(dir / "loop");
  ASSERT_FALSE(loop);
  EXPECT_EQ(loop.error().code(), Code::kNotFound);

  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  const auto pipe = SafetensorsFile::Open(dir / "pipe");
  ASSERT_FALSE(pipe);
  EXPECT_THAT(pipe.error().message(), HasSubstr("pipe: not a regular file"));
}

TEST(SafetensorsTest, SurvivesAnyDamage) {
  const std::string good = SafetensorsBytes({{"first", "F32", {2, 3}, std::string(24, 'x')},
                                             {"second", "BF16", {4}, std::string(8, 'y')}});
  const TempDir dir;
  uint64_t state = 1;
  for (int round = 0; round < 600; ++round) {
    std::string bytes = good;
    state = state * 6364136223846793005u + 1442695040888963407u;
    if (round % 3 == 0) bytes.resize((state >> 33) % bytes.size());
    for (int edit = 0; edit < 2 && !bytes.empty(); ++edit) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      bytes[(state >> 33) % bytes.size()] = static_cast<char>(state >> 24);
    }
    WriteFile(dir / "a.safetensors", bytes);
    const auto file = SafetensorsFile::Open(dir / "a.safetensors");
    if (!file) continue;
    for (const auto& [name, tensor] : file->tensors()) {  // all of it can be read
      volatile uint8_t sum = 0;
      for (uint64_t i = 0; i < tensor.end - tensor.begin; ++i) {
        sum = sum + std::to_integer<uint8_t>(file->Data(tensor)[i]);
      }
    }
  }
}

}  // namespace
}  // namespace kvs
