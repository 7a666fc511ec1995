// Images in archives: fixtures by Python's zipfile and tarfile (tools/fixtures/make_archives.py),
// hostile ones made here, and damage.
#include "data/formats/archive.h"

#include <zlib.h>

#include <set>

#include "base/file.h"
#include "data/formats/json_reader.h"
#include "tests/data/sources/source_fixture.h"

namespace lf::source_test {
namespace {

using Archive = SourceTest;

std::string archive(const std::string& name) {
  return std::string(LF_FIXTURES) + "/archives/" + name;
}
std::string bytes_of(const std::string& path) {
  return read_file(real_file_system(), path, 1 << 20);
}
std::string option(const std::string& path) { return "archive.path=" + path; }

struct Item {
  std::string name;
  int64_t label;
  int grey;  // of its first pixel; -1: it is refused
  bool operator==(const Item&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Item& item) {
  return out << item.name << " " << item.label << " " << item.grey;
}

std::vector<Item> items_of(const Source& source) {
  std::vector<Item> items;
  for (uint64_t i = 0; i < source.size(); ++i) {
    try {
      const Sample sample = source.load(i);
      items.push_back({sample.name, sample.label, sample.pixels.at(0)});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kData) << error.what();
      items.push_back({source.name_of(i), -1, -1});
    }
  }
  return items;
}
std::vector<Item> items_of(const std::string& path) { return items_of(*open({option(path)})); }

std::vector<Item> tree() {
  std::string words;
  for (int i = 0; i < 30; ++i) words += "long ";
  return {{"cats/a.png", 0, 1},
          {"cats/b.png", 0, 2},
          {"dogs/deep/er/c.PNG", 1, 3},
          {"dogs/" + words + "\u00fcn\u00efcode.png", 1, 4},
          {"top.png", -1, 5}};
}

void append(std::string& out, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) out += static_cast<char>(value >> (8 * i) & 0xFF);
}

// A member of a zip, whose sizes may lie.
struct Zipped {
  std::string name, packed;
  uint64_t size = 0, method = 0, flags = 0;
  int64_t offset = -1;  // that the directory says
};

std::string zip_of(const std::vector<Zipped>& members) {
  std::string out, directory;
  for (const Zipped& member : members) {
    std::string common;
    append(common, 20, 2);
    append(common, member.flags, 2);
    append(common, member.method, 2);
    append(common, 0, 4);
    append(common,
           ::crc32(0, reinterpret_cast<const Bytef*>(member.packed.data()),
                   static_cast<uInt>(member.packed.size())),
           4);
    append(common, member.packed.size(), 4);
    append(common, member.size, 4);
    append(common, member.name.size(), 2);
    append(common, 0, 2);
    const uint64_t offset = member.offset < 0 ? out.size() : static_cast<uint64_t>(member.offset);
    append(directory, 0x02014b50, 4);
    append(directory, 20, 2);
    directory += common + std::string(10, '\0');
    append(directory, offset, 4);
    directory += member.name;
    append(out, 0x04034b50, 4);
    out += common + member.name + member.packed;
  }
  const size_t begin = out.size();
  out += directory;
  append(out, 0x06054b50, 4);
  append(out, 0, 4);
  for (int i = 0; i < 2; ++i) append(out, members.size(), 2);
  append(out, directory.size(), 4);
  append(out, begin, 4);
  append(out, 0, 2);
  return out;
}

// A member of a tar; the size may be given otherwise, all 12 bytes of it.
std::string tarred(const std::string& name, const std::string& contents, char type = '0',
                   std::string size = "") {
  if (size.empty()) {
    char text[13];
    std::snprintf(text, sizeof text, "%011zo", contents.size());
    size = std::string(text) + '\0';
  }
  std::string block(512, '\0');
  block.replace(0, name.size(), name);
  block.replace(124, 12, size);
  block.replace(148, 8, "        ");
  block[156] = type;
  block.replace(257, 8,
                std::string("ustar\0"
                            "00",
                            8));
  unsigned sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  char text[8];
  std::snprintf(text, sizeof text, "%06o", sum & 0777777);
  block.replace(148, 7, std::string(text, 7));
  return block + contents + std::string((512 - contents.size() % 512) % 512, '\0');
}
const std::string kTarEnd(1024, '\0');

std::string pixels(uint8_t grey) { return encode_png({4, 4, 1, std::vector<uint8_t>(16, grey)}); }

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(Archive, EveryKindHoldsTheTree) {
  const std::vector<Item> whole = tree();
  for (const char* name :
       {"stored.zip", "deflated.zip", "zip64.zip", "gnu.tar", "pax.tar", "tars.tar"}) {
    const auto source = open({option(archive(name))});
    EXPECT_EQ(source->label_names(), (std::vector<std::string>{"cats", "dogs"})) << name;
    EXPECT_EQ(items_of(*source), whole) << name;
  }
  const std::vector<Item> items = items_of(archive("ustar.tar"));
  ASSERT_EQ(items.size(), 5u);
  EXPECT_EQ(items[3], (Item{std::string(90, 'p') + "/" + std::string(90, 'n') + ".png", 2, 7}));
  EXPECT_EQ(open({option(archive("gnu.tar")), "archive.labels=false"})->load(0).label, -1);
}

TEST_F(Archive, LabelsAreThoseOfTheFormat) {
  for (const char* name : {"shard-0.tar", "shard-1.tar", "json.tar"}) {
    fs::copy(archive(name), at(name));
  }
  put(at("README"), "no archive");
  // .cls of any shard: images without one have no label, whatever their .json says.
  EXPECT_EQ(items_of(folder_), (std::vector<Item>{{"json.tar/000.png", -1, 0},
                                                  {"json.tar/001.png", -1, 1},
                                                  {"shard-0.tar/000.png", 0, 0},
                                                  {"shard-0.tar/001.png", 1, 1},
                                                  {"shard-1.tar/000.png", 10, 10},
                                                  {"shard-1.tar/001.png", 11, 11}}));
  EXPECT_TRUE(open({option(folder_)})->label_names().empty());
  EXPECT_EQ(items_of(archive("json.tar")),
            (std::vector<Item>{{"000.png", 7, 0}, {"001.png", 8, 1}}));
  EXPECT_EQ(
      items_of(archive("stylegan.zip")),
      (std::vector<Item>{{"00000/a.png", 3, 1}, {"00000/b.png", 6, 2}, {"00000/c.png", -1, 3}}));
  const auto unlabelled = open({option(archive("unlabelled.zip"))});
  EXPECT_EQ(unlabelled->load(0).label, -1);
  EXPECT_TRUE(unlabelled->label_names().empty());
  put(at("x.tar"), tarred("1.png", pixels(1)) + tarred("1.cls", "cat\n") + kTarEnd);
  EXPECT_TRUE(contains(bad_item(*open({option(at("x.tar"))}), 0), "holds 'cat', expected"));
}

TEST_F(Archive, LabelsLieBelowAFolderThatHoldsAll) {
  const auto labels = [&](const std::vector<std::string>& names) {
    std::string tar;
    fs::remove_all(at("tree"));
    for (const std::string& name : names) {
      tar += tarred(name, pixels(1));
      add_image("tree/" + name, grey(4, 4, 1));
    }
    put(at("x.tar"), tar + kTarEnd);
    const auto packed = open({option(at("x.tar"))});
    const auto unpacked = open({"folder.path=" + at("tree")});
    EXPECT_EQ(items_of(*packed), items_of(*unpacked));
    std::string text = join(packed->label_names(), ",");
    for (const Item& item : items_of(*packed)) text += str(" ", item.label);
    return text;
  };
  EXPECT_EQ(labels({"set/train/cat/1.png", "set/train/dog/2.png"}), "cat,dog 0 1");
  EXPECT_EQ(labels({"train/cat/1.png", "train/cat2/2.png"}), "cat,cat2 0 1");
  EXPECT_EQ(labels({"cat/1.png", "cat/deep/2.png"}), "cat 0 0");
  EXPECT_EQ(labels({"set/cat/1.png"}), "cat 0");
  EXPECT_EQ(labels({"1.png", "set/cat/2.png"}), "set -1 0");
}

TEST_F(Archive, ArchivesOfAFolderAreLabelsUnlessTheyAreShards) {
  const auto labels = [&](const std::vector<std::pair<std::string, std::string>>& tars) {
    fs::remove_all(at("tars"));
    fs::create_directory(at("tars"));
    for (const auto& [name, image] : tars) {
      put(at("tars/" + name), tarred(image, pixels(1)) + kTarEnd);
    }
    return join(open({option(at("tars"))})->label_names(), ",");
  };
  EXPECT_EQ(labels({{"cat.tar", "1.png"}, {"dog.tar", "1.png"}}), "cat,dog");
  EXPECT_EQ(labels({{"n014.tar", "n014_7.png"}, {"n015.tar", "n015_2.png"}}), "n014,n015");
  EXPECT_EQ(labels({{"a-00.tar", "1.png"}, {"a-01.tar", "2.png"}}), "");
  EXPECT_EQ(labels({{"00000.tar", "000001.png"}, {"00001.tar", "000011.png"}}), "");
  EXPECT_EQ(labels({{"cat.tar", "1.png"}, {"dog.tar", "rex/1.png"}}), "rex");
  EXPECT_EQ(labels({{"cat.tar", "1.png"}}), "");
}

TEST_F(Archive, WhatIsNoUsableArchiveIsNamed) {
  const auto refused = [&](const std::string& path) { return refusal({option(path)}); };
  EXPECT_TRUE(contains(refused(at("none.zip")), "2: source.archive.path: there is no file"));
  EXPECT_TRUE(contains(refused(folder_), "holds no .zip or .tar files"));
  const std::string compressed = refused(archive("compressed.tar.gz"));
  EXPECT_TRUE(contains(compressed, "2:") && contains(compressed, "decompress it")) << compressed;
  put(at("text.zip"), "no archive at all");
  EXPECT_TRUE(contains(refused(at("text.zip")), "3: the archive"));
  put(at("empty.tar"), kTarEnd);
  EXPECT_TRUE(contains(refused(at("empty.tar")), "holds no .jpg"));
  EXPECT_TRUE(contains(refused(archive("bzip2.zip")), "packed by bzip2 (12)"));
}

// Each is refused as a whole (3) or as an item, by these words.
TEST_F(Archive, HostileZipsAreNamed) {
  const std::string p = pixels(1);
  const std::string fine = zip_of({{"a.png", p, p.size()}});
  std::string deflated(200, '\0');
  uLongf length = deflated.size();
  ASSERT_EQ(::compress2(reinterpret_cast<Bytef*>(deflated.data()), &length,
                        reinterpret_cast<const Bytef*>(p.data()), p.size(), 9),
            Z_OK);
  deflated = deflated.substr(2, length - 6);  // without zlib's header and checksum
  std::string count = fine;
  count[count.size() - 12] = 2;
  const std::map<std::string, std::string> hostile = {
      {"overlap at byte 0", zip_of({{"a.png", p, p.size()}, {"b.png", p, p.size(), 0, 0, 0}})},
      {"has 1 members, not 2", count},
      {"lies beyond its end", zip_of({{"a.png", p, p.size(), 0, 0, 1 << 30}})},
      {"has no directory at its end", fine.substr(0, fine.size() - 1)},
      {"not where its end says", fine.substr(0, 40) + fine.substr(43)},
      {"cannot unpack to", zip_of({{"a.png", p, p.size() + 1}})},
      {"which cannot unpack to 200000000", zip_of({{"a.png", deflated, 200000000, 8}})},
      {"'../a.png' has a part", zip_of({{"../a.png", p, p.size()}})},
      {"'/a.png' is absolute", zip_of({{"/a.png", p, p.size()}})},
      {"is in the archive twice", zip_of({{"a.png", p, p.size()}, {"a.png", p, p.size()}})},
      {"it is encrypted", zip_of({{"a.png", p, p.size(), 0, 1}})},
      {"to more than the 20 bytes", zip_of({{"a.png", deflated, 20, 8}})},
      {str("inflates to ", p.size(), " bytes, not 500"), zip_of({{"a.png", deflated, 500, 8}})},
      {"at most 256 MiB are read", zip_of({{"a.png", std::string(300000, 'x'), 300000000, 8}})},
  };
  for (const auto& [words, bytes] : hostile) {
    put(at("x.zip"), bytes);
    const std::string text = refusal({option(at("x.zip"))});
    EXPECT_TRUE(contains(text, words) && text.starts_with("3:")) << words << "\n" << text;
  }
}

TEST_F(Archive, HostileTarsAreNamed) {
  const std::string p = pixels(1), a = tarred("a.png", p);
  const auto pax = [](const std::string& record) { return tarred("pax", record, 'x'); };
  std::string flipped = a + a + kTarEnd;
  flipped[a.size() + 3] ^= 1;
  const std::string huge = std::string("\x80") + std::string(7, '\0') + std::string("\1\0\0\0", 4);
  const std::map<std::string, std::string> hostile = {
      {str("the header at byte ", a.size(), " is damaged"), flipped},
      {"'in.tar': it is no tar archive", tarred("in.tar", std::string(1024, 'x')) + kTarEnd},
      {"it has no end mark", a},
      {"ends within 'a.png'", a.substr(0, 512 + 10)},
      {"it ends within 'b.png'", a + tarred("b.png", p, '0', huge) + kTarEnd},
      {"is no number", a + tarred("b.png", p, '0', std::string(12, 'z')) + kTarEnd},
      {"goes on behind its end mark", a + kTarEnd + a + kTarEnd},
      {"it is sparse", tarred("a.png", p, 'S') + kTarEnd},
      {"it is sparse; repack it", pax("22 GNU.sparse.major=1\n") + a + kTarEnd},
      {"is in the archive twice", a + a + kTarEnd},
      {"'../a.png' has a part", tarred("../a.png", p) + kTarEnd},
      {"'/b.png' is absolute", pax("15 path=/b.png\n") + a + kTarEnd},
      {"pax header at byte 512 is damaged", pax("99 path=/b.png\n") + a + kTarEnd},
      {"too many", tarred("long", std::string(5000, 'x'), 'L') + a + kTarEnd},
      {"holds no .jpg", tarred("a.png", "", '1') + tarred("b.png", "", '2') + kTarEnd},
      {"global pax header sets 'path'", tarred("g", "12 path=bbb\n", 'g') + a + kTarEnd},
  };
  for (const auto& [words, bytes] : hostile) {
    put(at("x.tar"), bytes);
    const std::string text = refusal({option(at("x.tar"))});
    EXPECT_TRUE(contains(text + " ", words)) << words << "\n" << text;
  }
  // A number of base 256 is as good as an octal one.
  std::string size(12, '\0');
  size[0] = static_cast<char>(0x80);
  size[11] = static_cast<char>(p.size());
  put(at("x.tar"), tarred("a.png", p, '0', size) + kTarEnd);
  EXPECT_EQ(items_of(at("x.tar")), (std::vector<Item>{{"a.png", -1, 1}}));
}

// Flips and cuts: what is read is right or refused, and nothing else happens.
TEST_F(Archive, DamageIsNamedOrWithoutEffect) {
  for (const char* name : {"stored.zip", "deflated.zip", "zip64.zip", "stylegan.zip", "gnu.tar",
                           "pax.tar", "tars.tar", "shard-0.tar"}) {
    const std::string whole = bytes_of(archive(name));
    const bool zip = std::string(name).ends_with(".zip");
    std::set<int> greys = {9};  // of the hidden picture, whose name may be flipped
    for (const Item& item : items_of(archive(name))) greys.insert(item.grey);
    for (uint64_t k = 0; k < 60; ++k) {
      std::string damaged = whole;
      const size_t place = (k * 7919 + 13) * 104729 % whole.size();
      if (k % 3 == 0) {
        damaged.resize(place);
      } else {
        damaged[place] = static_cast<char>(damaged[place] ^ (1 << k % 8));
      }
      put(at("x"), damaged);
      try {
        for (const Item& item : items_of(at("x"))) {
          // A tar has no checksum of contents; PNG has.
          EXPECT_TRUE(item.grey == -1 || greys.contains(item.grey)) << name << " " << k;
        }
        EXPECT_TRUE(k % 3 != 0 || !zip || place == whole.size()) << "a cut zip was opened";
      } catch (const Error& error) {
        EXPECT_TRUE(error.code() == Code::kData || error.code() == Code::kUsage) << error.what();
      }
    }
  }
}

TEST(JsonReader, ReadsWhatStrangersWrite) {
  const auto refused = [](const std::string& text) {
    try {
      JsonReader(text, "it").skip();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kData);
      return std::string(error.what());
    }
    return std::string();
  };
  std::vector<std::string> texts;
  JsonReader json(
      R"( { "a" : [1, -2.5e3, true, null, {"b": []}], "c\n": "\u00fc\ud83d\ude00\"" } )", "it");
  json.members([&](const std::string& name) {
    texts.push_back(name);
    name == "a" ? json.skip() : texts.push_back(json.text());
  });
  EXPECT_EQ(texts, (std::vector<std::string>{"a", "c\n", "\u00fc\U0001F600\""}));
  EXPECT_EQ(JsonReader("-17", "it").integer(), -17);
  for (const char* text :
       {"", "{", "[1,", "[1 2]", "{\"a\"}", "\"x", "\"\\q\"", "\"\\u12\"", "}"}) {
    EXPECT_TRUE(contains(refused(text), "of its JSON is not")) << text;
  }
  EXPECT_NE(refused(std::string(100000, '[')), "");
}

}  // namespace
}  // namespace lf::source_test
