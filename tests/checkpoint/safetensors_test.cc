// The safetensors reader against hostile files, and the writer against the format's own rules.
#include "checkpoint/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/crc32c.h"
#include "base/error.h"

namespace lf {
namespace {

std::string temp_path(const std::string& name) {
  const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
  const std::string folder = ::testing::TempDir() + "/safetensors-" + test->name();
  std::filesystem::create_directories(folder);
  return folder + "/" + name;
}

std::string length_bytes(uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes;
}

std::string write_file(const std::string& bytes) {
  const std::string path = temp_path("file.safetensors");
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

std::string with_header(const std::string& json, size_t data_bytes) {
  return length_bytes(json.size()) + json + std::string(data_bytes, '\1');
}

// The message with which a file of these bytes is refused.
std::string refusal(const std::string& bytes) {
  const std::string path = write_file(bytes);
  try {
    SafetensorsFile(real_file_system(), path);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kCheckpoint) << error.what();
    EXPECT_NE(std::string(error.what()).find("file.safetensors"), std::string::npos);
    return error.what();
  }
  return "";
}

void expect_refused(const std::string& json, size_t data_bytes, const std::string& fact) {
  const std::string message = refusal(with_header(json, data_bytes));
  EXPECT_NE(message.find(fact), std::string::npos) << json << "\n -> " << message;
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape +
         "],\"data_offsets\":[" + offsets + "]}";
}

TEST(Safetensors, HostileLengthsAreRefusedBeforeAnythingIsAllocated) {
  for (const uint64_t length :
       {~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 40, uint64_t{100'000'001}, uint64_t{93}}) {
    const std::string message = refusal(length_bytes(length) + std::string(92, ' '));
    EXPECT_NE(message.find("claims a header of"), std::string::npos) << message;
  }
  EXPECT_NE(refusal("").find("at least 8"), std::string::npos);
  EXPECT_NE(refusal("abcdefg").find("at least 8"), std::string::npos);
}

TEST(Safetensors, TheAttackCorpusIsRefusedWithTheFact) {
  const std::string a = tensor("a", "F32", "2", "0,8");
  expect_refused("{" + a + "," + tensor("b", "F32", "2", "4,12") + "}", 12, "overlap");
  expect_refused("{" + a + "," + tensor("b", "F32", "2", "0,8") + "}", 8, "overlap");
  expect_refused("{" + a + "," + tensor("b", "F32", "2", "12,20") + "}", 20, "hole");
  expect_refused("{" + tensor("a", "F32", "2", "4,12") + "}", 12, "hole");
  expect_refused("{" + a + "}", 12, "accounts for 8 bytes, the file holds 12");
  expect_refused("{" + a + "," + tensor("a", "F32", "1", "8,12") + "}", 12, "'a' twice");
  expect_refused("{" + a + "," + tensor("\\u0061", "F32", "1", "8,12") + "}", 12, "'a' twice");
  expect_refused("{" + tensor("\xff\xfe", "F32", "2", "0,8") + "}", 8, "not UTF-8");
  expect_refused("{" + tensor("\\ud800", "F32", "2", "0,8") + "}", 8, "surrogate");
  expect_refused("{" + tensor("a", "F32", "4294967296,4294967296", "0,0") + "}", 0, "overflows");
  expect_refused("{" + tensor("a", "F64", "1152921504606846976", "0,0") + "}", 0, "overflows");
  expect_refused("{" + tensor("a", "F32", "4611686018427387904,4611686018427387904,0", "0,0") + "}",
                 0, "overflows");
  expect_refused("{" + tensor("a", "F32", "3", "0,8") + "}", 8, "its shape and type need 12");
  expect_refused("{" + tensor("a", "F32", "-2", "0,8") + "}", 8, "number");
  expect_refused("{" + tensor("a", "F32", "2.0", "0,8") + "}", 8, "lacks ']'");
  expect_refused("{" + tensor("a", "F32", "02", "0,8") + "}", 8, "number");
  expect_refused("{" + tensor("a", "F32", "9223372036854775808", "0,8") + "}", 8, "number");
  expect_refused("{" + tensor("a", "F32", "2", "8,0") + "}", 8, "places 'a'");
  expect_refused("{" + tensor("a", "F32", "2", "8,16") + "}", 8, "places 'a'");
  expect_refused("{" + tensor("a", "F32", "2", "0,8,8") + "}", 8, "over 2 values");
  expect_refused("{" + tensor("a", "F32", "2", "0") + "}", 8, "lacks the dtype");
  expect_refused("{" + tensor("a", "F7", "2", "0,8") + "}", 8, "the type 'F7'");
  expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "lacks the dtype");
  expect_refused(
      "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
      "'dtype' twice");
  expect_refused("{\"a\":{\"code\":\"x\"}}", 0, "unknown member 'code'");
  expect_refused("{\"__metadata__\":{\"x\":1}}", 0, "lacks '\"'");
  expect_refused("{\"__metadata__\":{\"x\":\"1\",\"x\":\"2\"}}", 0, "'x' twice");
  expect_refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "two '__metadata__'");
}

TEST(Safetensors, BrokenJsonIsRefused) {
  expect_refused("", 0, "does not begin");
  expect_refused(" {}", 0, "does not begin");
  expect_refused("[]", 0, "does not begin");
  expect_refused("{}x", 0, "continues after");
  expect_refused(std::string("{}\0\0", 4), 0, "continues after");
  expect_refused("{", 0, "lacks");
  expect_refused("{\"a", 0, "ends within a text");
  expect_refused("{\"a\\", 0, "escape");
  expect_refused("{\"a\\u12", 0, "escape");
  expect_refused("{\"a\nb\":{}}", 0, "control character");
  expect_refused("{\"a\":{},}", 0, "lacks");
  expect_refused("{\"a\":[[[[[[[[[[", 0, "lacks '{'");
  expect_refused(std::string(100000, '{'), 0, "lacks '\"'");
  std::string many = "{\"a\":{\"shape\":[1";
  for (int i = 0; i < 100000; ++i) many += ",1";
  expect_refused(many, 0, "over 64 values");
}

TEST(Safetensors, EveryTruncationAndByteFlipOfAHeaderIsRefusedOrHarmless) {
  const std::string path = temp_path("good.safetensors");
  SafetensorsWriter writer(real_file_system(), path,
                           {{"w", DType::kF32, {2, 3}}, {"b", DType::kF32, {3}}}, {{"k", "v"}});
  const std::vector<float> data(6, 1.5F);
  writer.write(data.data());
  writer.write(data.data());
  writer.finish();
  const std::string good = read_file(real_file_system(), path, 1 << 20);
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_NE(refusal(good.substr(0, size)), "") << size;
  }
  EXPECT_NE(refusal(good + "x"), "");
  const size_t header = good.size() - 36;
  for (size_t at = 0; at < header; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      refusal(bad);  // kCheckpoint, or a file of equal size is read
    }
  }
}

TEST(Safetensors, APickleIsRecognisedAndNotParsed) {
  for (const std::string& start :
       {std::string("PK\x03\x04\x14\x00\x00\x00 archive/data.pkl", 24),
        std::string("\x80\x02}q\x00X\x01\x00\x00\x00", 10), std::string("\x80\x02.", 3)}) {
    const std::string message = refusal(start);
    EXPECT_NE(message.find("is a pickle"), std::string::npos) << message;
    EXPECT_NE(message.find("safetensors.torch.save_file"), std::string::npos) << message;
  }
}

TEST(Safetensors, AHeaderWhoseLengthBeginsLikeAPickleIsRead) {
  for (const size_t bytes : {size_t{0x280}, size_t{0x380}, size_t{0x480}, size_t{0x580}}) {
    std::string json = R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
    json.resize(bytes, ' ');
    std::string file(8, '\0');
    std::memcpy(file.data(), &bytes, 8);
    const std::string path = temp_path("like_a_pickle.safetensors");
    std::ofstream(path, std::ios::binary) << file << json << 'x';
    const SafetensorsFile read(real_file_system(), path);
    EXPECT_EQ(read.tensors().size(), 1U) << bytes;
  }
}

TEST(Safetensors, WhatIsWrittenReadsBackWithItsChecksums) {
  const std::string path = temp_path("good.safetensors");
  std::vector<TensorLayout> layouts = {{"u8", DType::kU8, {5}},
                                       {"f64", DType::kF64, {2, 2}},
                                       {"none", DType::kF32, {0, 7}},
                                       {"scalar", DType::kI64, {}},
                                       {"a \"b\"\n\xC3\xA9", DType::kBF16, {3}}};
  SafetensorsWriter writer(real_file_system(), path, layouts, {{"format", "pt"}, {"x", "\"\\"}});
  std::map<std::string, std::string> bytes;
  char next = 'a';
  for (const TensorLayout& layout : writer.layouts()) {
    const std::string data(layout.bytes(), next++);
    bytes[layout.name] = data;
    EXPECT_EQ(writer.write(data.data()), crc32c(data.data(), data.size()));
  }
  const SafetensorsWriter::Written written = writer.finish();
  const std::string all = read_file(real_file_system(), path, 1 << 20);
  EXPECT_EQ(written.bytes, all.size());
  EXPECT_EQ(written.crc32c, crc32c(all.data(), all.size()));
  EXPECT_EQ(crc32c_of_file(real_file_system(), path), written.crc32c);

  const SafetensorsFile file(real_file_system(), path);
  EXPECT_EQ(file.metadata().at("x"), "\"\\");
  ASSERT_EQ(file.tensors().size(), layouts.size());
  for (const TensorLayout& layout : layouts) {
    const TensorEntry* entry = file.find(layout.name);
    ASSERT_NE(entry, nullptr) << layout.name;
    EXPECT_EQ(entry->layout.shape, layout.shape);
    EXPECT_EQ(entry->layout.dtype, layout.dtype);
    EXPECT_EQ(entry->begin % size_of(layout.dtype), 0U) << "aligned";
    std::string data(layout.bytes(), '\0');
    file.read(*entry, data.data());
    EXPECT_EQ(data, bytes[layout.name]);
  }
  EXPECT_EQ(file.find("absent"), nullptr);
}

// tests/checkpoint/safetensors_parity_test.py makes this file with Python's safetensors.
TEST(Safetensors, WhatPythonWritesIsRead) {
  const SafetensorsFile file(real_file_system(),
                             std::string(LF_FIXTURES) + "/checkpoints/python.safetensors");
  EXPECT_EQ(file.metadata().at("made by"), "Python");
  EXPECT_EQ(file.metadata().at("\xC3\xA9"), "\\ \"x\"");
  EXPECT_EQ(file.tensors().size(), 11U);
  ASSERT_NE(file.find("schl\xC3\xBCssel \"quoted\"\n"), nullptr);
  const auto check = [&](const std::string& name, const std::string& description, auto expected) {
    const TensorEntry* entry = file.find(name);
    ASSERT_NE(entry, nullptr) << name;
    EXPECT_EQ(describe(entry->layout), description);
    decltype(expected) values(entry->layout.bytes() / sizeof(expected[0]));
    file.read(*entry, values.data());
    EXPECT_EQ(values, expected) << name;
  };
  check("f64", "F64 [5]", std::vector<double>{-1, -0.5, 0, 0.5, 1});
  check("f32", "F32 [3, 4]",
        std::vector<float>{0, .125, .25, .375, .5, .625, .75, .875, 1, 1.125, 1.25, 1.375});
  check("i64", "I64 [3]", std::vector<int64_t>{-(int64_t{1} << 62), 0, int64_t{1} << 62});
  check("i32", "I32 [1, 2]", std::vector<int32_t>{1, -2});
  check("i16", "I16 []", std::vector<int16_t>{-3});
  check("i8", "I8 [2]", std::vector<int8_t>{-128, 127});
  check("u8", "U8 [7]", std::vector<uint8_t>{0, 1, 2, 3, 4, 5, 6});
  check("bool", "BOOL [3]", std::vector<uint8_t>{1, 0, 1});
  check("empty", "F32 [0, 3]", std::vector<float>{});
  check("f16", "F16 [2, 3]", std::vector<uint16_t>{0, 0x3400, 0x3800, 0x3A00, 0x3C00, 0x3D00});
}

TEST(Safetensors, AFileWithoutTensorsIsAFile) {
  const std::string path = temp_path("empty.safetensors");
  SafetensorsWriter(real_file_system(), path, {}, {}).finish();
  EXPECT_TRUE(SafetensorsFile(real_file_system(), path).tensors().empty());
}

TEST(Safetensors, BoolsOtherThanZeroAndOneAreRefusedWhenRead) {
  const std::string header = "{" + tensor("a", "BOOL", "2", "0,2") + "}";
  const std::string path = write_file(length_bytes(header.size()) + header + "\1\2");
  const SafetensorsFile file(real_file_system(), path);
  char data[2];
  EXPECT_THROW(file.read(*file.find("a"), data), Error);
}

TEST(Safetensors, TheOrderInAFileDependsOnTheSetOfTensorsAlone) {
  std::vector<TensorLayout> one = {{"b", DType::kF32, {1}},
                                   {"a", DType::kF32, {1}},
                                   {"z", DType::kF64, {1}},
                                   {"c", DType::kU8, {1}}};
  std::vector<TensorLayout> other(one.rbegin(), one.rend());
  sort_for_file(one);
  sort_for_file(other);
  std::string order;
  for (size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].name, other[i].name);
    order += one[i].name;
  }
  EXPECT_EQ(order, "zabc");
}

}  // namespace
}  // namespace lf
