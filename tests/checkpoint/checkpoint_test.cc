// Checkpoints: dealing, loading at another world size, strictness, damage, formats, export.
#include "checkpoint/checkpoint.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "tests/checkpoint/checkpoint_fixture.h"

namespace lf {
namespace {

namespace fs = std::filesystem;

FileSystem& disk() { return real_file_system(); }

TEST(Shards, EveryTensorIsDealtOnceAndLoadsAreEven) {
  std::vector<TensorGroup> groups = {{"model", {}}, {"optimizer", {}}};
  for (int64_t i = 0; i < 40; ++i) {
    const at::Tensor tensor = at::zeros({1 + i * 37 % 50, 16});
    groups[0].tensors.push_back({"w" + std::to_string(i), tensor});
    groups[1].tensors.push_back({"w" + std::to_string(i) + "/exp_avg", tensor});
  }
  for (const int writers : {1, 2, 3, 4, 7}) {
    std::vector<int64_t> load(static_cast<size_t>(writers), 0);
    std::map<std::string, int64_t> sizes;
    for (const TensorGroup& group : groups) {
      for (const NamedTensor& named : group.tensors) sizes[named.name] = named.tensor.numel();
    }
    int64_t largest = 0, total = 0;
    for (const auto& [name, size] : sizes) {
      largest = std::max(largest, size);
      total += size;
    }
    for (const Shard& shard : plan_shards(groups, writers, 1)) {
      EXPECT_FALSE(shard.names.empty());
      for (const std::string& name : shard.names) {
        ASSERT_EQ(sizes.count(name), 1U) << name << " dealt twice";
        load[static_cast<size_t>(shard.writer)] += sizes[name];
        sizes.erase(name);
      }
    }
    EXPECT_TRUE(sizes.empty());
    EXPECT_LE(*std::max_element(load.begin(), load.end()), total / writers + largest);
  }
}

TEST(Shards, SmallKindsStayInOneFileAndTheOrderOfTensorsDoesNotMatter) {
  std::vector<TensorGroup> groups = state_at(5);
  for (const Shard& shard : plan_shards(groups, 4, 1 << 20)) {
    EXPECT_EQ(shard.file, shard.kind + ".safetensors");
  }
  const std::vector<Shard> before = plan_shards(groups, 4, 1);
  for (TensorGroup& group : groups) std::reverse(group.tensors.begin(), group.tensors.end());
  const std::vector<Shard> after = plan_shards(groups, 4, 1);
  ASSERT_EQ(before.size(), after.size());
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(before[i].file, after[i].file);
    EXPECT_EQ(before[i].writer, after[i].writer);
    EXPECT_EQ(before[i].names, after[i].names);
  }
  EXPECT_EQ(before[0].file.substr(before[0].kind.size()), "-00001-of-00004.safetensors");
}

TEST(Checkpoint, DealtOverAnyNumberOfWritersHoldsTheSame) {
  for (const int writers : {1, 2, 3, 4, 9}) {
    const std::string run = fresh_folder();
    const Life life = Life::claim(disk(), run, {});
    const std::string folder = save(disk(), run, 12800, life, writers);
    EXPECT_EQ(folder, run + "/checkpoints/img-000000012800");
    expect_state(folder, 12800);
    EXPECT_EQ(fs::exists(folder + "/model.safetensors"), writers == 1);
    EXPECT_EQ(fs::exists(folder + "/model.safetensors.index.json"), writers > 1);
    EXPECT_EQ(read_file(disk(), run + "/latest", 100), "checkpoints/img-000000012800\n");
    const std::optional<Candidate> chosen = choose_checkpoint(disk(), run);
    ASSERT_TRUE(chosen.has_value());
    EXPECT_EQ(chosen->manifest.world_size(), writers);
    EXPECT_EQ(chosen->manifest.config_fingerprint(), 0x1234567890abcdefULL);
    EXPECT_EQ(number_of(chosen->manifest, "validation_loss", 0), 1.0 / 3 + 12800 % 7);
  }
}

TEST(Checkpoint, LoadingIsStrictAndNamesEveryDifference) {
  const std::string run = fresh_folder();
  const Life life = Life::claim(disk(), run, {});
  const Checkpoint checkpoint = Checkpoint::open(disk(), save(disk(), run, 1, life));
  const auto refusal = [&](const std::vector<NamedTensor>& tensors) {
    return error_of(Code::kCheckpoint, [&] { checkpoint.load_into("ema", tensors); });
  };
  const at::Tensor weight = at::zeros({4, 3, 2}), bias = at::zeros({4});
  expect_contains(refusal({{"encoder.weight", weight}}), "also holds 'encoder.bias' F32 [4]");
  expect_contains(refusal({{"encoder.weight", weight}, {"encoder.bias", bias}, {"extra", bias}}),
                  "lacks 'extra' F32 [4]");
  expect_contains(refusal({{"encoder.weight", weight}, {"encoder.beta", bias}}),
                  "lacks 'encoder.beta' F32 [4]; it also holds 'encoder.bias'");
  expect_contains(refusal({{"encoder.weight", at::zeros({4, 6})}, {"encoder.bias", bias}}),
                  "'encoder.weight' is F32 [4, 3, 2] there, F32 [4, 6] here");
  expect_contains(refusal({{"encoder.weight", weight.to(at::kDouble)}, {"encoder.bias", bias}}),
                  "F64 [4, 3, 2] here");
  expect_contains(error_of(Code::kCheckpoint, [&] { checkpoint.load_into("emma", {}); }),
                  "holds no 'emma', only ema, model, optimizer");
  expect_contains(error_of(Code::kCheckpoint, [&] { checkpoint.load("ema", "encoder.bia"); }),
                  "did you mean 'encoder.bias'?");
}

TEST(Checkpoint, LoadsIntoTensorsOfOtherStridesAndOfTheGraph) {
  const std::string run = fresh_folder();
  const Life life = Life::claim(disk(), run, {});
  const Checkpoint checkpoint = Checkpoint::open(disk(), save(disk(), run, 1, life));
  at::Tensor weight = at::zeros({2, 3, 4}).permute({2, 1, 0}).set_requires_grad(true);
  checkpoint.load_into("ema", {{"encoder.weight", weight}, {"encoder.bias", at::zeros({4})}});
  EXPECT_TRUE(at::equal(weight, state_at(1)[1].tensors[0].tensor));
  EXPECT_EQ(weight.stride(0), 1);
}

TEST(Checkpoint, TypesThatCannotBeSavedAreNamed) {
  const at::Tensor complex = at::zeros({2}, at::TensorOptions(at::kComplexFloat));
  expect_contains(error_of(Code::kUsage,
                           [&] {
                             plan_shards({{"model", {{"z", complex}}}}, 1, 1);
                           }),
                  "'z'");
}

TEST(Checkpoint, EveryFlippedByteIsFoundAndTheOlderOneIsUsed) {
  const std::string run = fresh_folder();
  const Life life = Life::claim(disk(), run, {});
  save(disk(), run, 100, life);
  const std::string folder = save(disk(), run, 200, life, 2);
  for (const std::string& name : disk().list(folder)) {
    const std::string path = folder + "/" + name;
    const std::string good = read_file(disk(), path, 1 << 20);
    for (size_t at = 0; at < good.size(); at += std::max<size_t>(1, good.size() / 60)) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ 4);
      std::ofstream(path, std::ios::binary) << bad;
      const std::optional<Candidate> chosen = choose_checkpoint(disk(), run);
      ASSERT_TRUE(chosen.has_value());
      EXPECT_EQ(chosen->images, 100) << name << " byte " << at;
    }
    std::ofstream(path, std::ios::binary) << good;
  }
  EXPECT_EQ(choose_checkpoint(disk(), run)->images, 200);
}

TEST(Checkpoint, EveryTruncationAndAbsenceIsFound) {
  const std::string run = fresh_folder();
  const Life life = Life::claim(disk(), run, {});
  const std::string folder = save(disk(), run, 200, life, 2);
  for (const std::string& name : disk().list(folder)) {
    const std::string path = folder + "/" + name;
    const std::string good = read_file(disk(), path, 1 << 20);
    for (const size_t size : {size_t{0}, size_t{7}, good.size() / 2, good.size() - 1}) {
      std::ofstream(path, std::ios::binary) << good.substr(0, size);
      const std::string message =
          error_of(Code::kCheckpoint, [&] { choose_checkpoint(disk(), run); });
      expect_contains(message, name);
      expect_contains(message, "none of the 1 checkpoints");
    }
    fs::remove(path);
    EXPECT_FALSE(list_checkpoints(disk(), run, Depth::kQuick).at(0).valid()) << name;
    std::ofstream(path, std::ios::binary) << good;
  }
  EXPECT_TRUE(list_checkpoints(disk(), run, Depth::kFull).at(0).valid());
}

TEST(Checkpoint, AFlippedBitThatAppearsAfterOpeningIsFoundWhileLoading) {
  const std::string run = fresh_folder();
  const Life life = Life::claim(disk(), run, {});
  const std::string folder = save(disk(), run, 200, life);
  const Checkpoint checkpoint = Checkpoint::open(disk(), folder);
  std::fstream file(folder + "/ema.safetensors", std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(-1, std::ios::end);
  file.put('\x55');
  file.close();
  const std::string message = error_of(Code::kCheckpoint, [&] {
    checkpoint.load_into(
        "ema", {{"encoder.weight", at::zeros({4, 3, 2})}, {"encoder.bias", at::zeros({4})}});
  });
  expect_contains(message, "ema.safetensors: the tensor 'encoder.");
}

TEST(Checkpoint, AHostileManifestReadsNothingOutsideItsFolder) {
  const std::string run = fresh_folder();
  const Life life = Life::claim(disk(), run, {});
  const std::string folder = save(disk(), run, 200, life);
  for (const char* name : {"../latest", "/etc/passwd", "", ".", "..", "a/b", "a\nb"}) {
    CheckpointManifest manifest = read_manifest(disk(), folder);
    manifest.mutable_file(0)->set_name(name);
    std::ofstream(folder + "/manifest.pbtxt", std::ios::binary) << print_manifest(manifest);
    expect_contains(error_of(Code::kCheckpoint, [&] { Checkpoint::open(disk(), folder); }),
                    "odd name");
  }
}

TEST(Checkpoint, ANewerFormatIsRefusedPolitelyAndNeverPassedOver) {
  const std::string run = fresh_folder();
  const Life life = Life::claim(disk(), run, {});
  save(disk(), run, 100, life);
  const std::string folder = save(disk(), run, 200, life);
  CheckpointManifest manifest = read_manifest(disk(), folder);
  manifest.set_format(kCheckpointFormat + 1);
  std::ofstream(folder + "/manifest.pbtxt", std::ios::binary) << print_manifest(manifest);
  const std::string message = error_of(Code::kCheckpoint, [&] { choose_checkpoint(disk(), run); });
  expect_contains(message, "has checkpoint format 2, this program reads up to 1");
  EXPECT_EQ(list_checkpoints(disk(), run, Depth::kQuick).at(0).standing, Standing::kNewerFormat);
}

TEST(Checkpoint, FormatOneIsReadForEver) {
  const std::string folder = std::string(LF_FIXTURES) + "/checkpoints/format-1";
  const CheckpointManifest manifest = verify_checkpoint(disk(), folder, Depth::kFull);
  EXPECT_EQ(manifest.format(), 1U);
  EXPECT_EQ(manifest.world_size(), 2);
  EXPECT_EQ(manifest.store_id(), "store-1");
  EXPECT_EQ(number_of(manifest, "skipped_steps", 0), 3);
  expect_state(folder, 12800);
}

// Writes the folder that FormatOneIsReadForEver reads, once for each format:
// engine_tests --gtest_also_run_disabled_tests --gtest_filter=*WritesTheFixture
TEST(Checkpoint, DISABLED_WritesTheFixture) {
  const std::string run = fresh_folder();
  const std::string to =
      std::string(LF_FIXTURES) + "/checkpoints/format-" + std::to_string(kCheckpointFormat);
  ASSERT_FALSE(fs::exists(to)) << "fixtures of a format are never rewritten";
  const Life life = Life::claim(disk(), run, {});
  fs::create_directories(fs::path(to).parent_path());
  fs::copy(save(disk(), run, 12800, life, 2), to);
}

TEST(Checkpoint, TheIndexForPythonFindsEveryTensor) {
  const std::string run = fresh_folder();
  const Life life = Life::claim(disk(), run, {});
  const std::string folder = save(disk(), run, 1, life, 2);
  const std::string index = read_file(disk(), folder + "/model.safetensors.index.json", 1 << 20);
  expect_contains(index, "{\"metadata\":{\"total_size\":");
  const CheckpointManifest manifest = read_manifest(disk(), folder);
  for (const CheckpointFile& file : manifest.file()) {
    if (file.kind() != "model") continue;
    for (const CheckpointTensor& tensor : file.tensor()) {
      expect_contains(index, "\"" + tensor.name() + "\":\"" + file.name() + "\"");
    }
  }
}

// Returns the kind.
std::string export_to(const Checkpoint& checkpoint, const std::string& kind,
                      const std::string& out) {
  const ExportedTensors exported = exported_tensors(checkpoint, kind);
  publish_tensor_file(disk(), out, exported.tensors, exported.metadata);
  return exported.kind;
}

TEST(Export, WritesOneFileOfTheAverageOrOfTheKindAskedFor) {
  const std::string run = fresh_folder();
  const Life life = Life::claim(disk(), run, {});
  const Checkpoint checkpoint = Checkpoint::open(disk(), save(disk(), run, 7, life, 3));
  const std::string out = run + "/out.safetensors";
  EXPECT_EQ(export_to(checkpoint, "", out), "ema");
  // Tensors without an average come from the model, so that the file is complete.
  const std::vector<TensorGroup> groups = state_at(7);
  const TensorsByName averaged = by_name(load_tensor_file(disk(), out));
  EXPECT_EQ(averaged.size(), groups[0].tensors.size());
  for (const NamedTensor& named : groups[1].tensors) {
    EXPECT_TRUE(at::equal(averaged.at(named.name), named.tensor)) << named.name;
  }
  EXPECT_TRUE(at::equal(averaged.at("mask"), groups[0].tensors[4].tensor));
  EXPECT_EQ(export_to(checkpoint, "model", out), "model");
  const TensorsByName loaded = by_name(load_tensor_file(disk(), out));
  for (const NamedTensor& named : groups[0].tensors) {
    EXPECT_TRUE(at::equal(loaded.at(named.name), named.tensor)) << named.name;
  }
  EXPECT_EQ(SafetensorsFile(disk(), out).metadata().at("images"), "7");
  expect_contains(error_of(Code::kUsage, [&] { export_to(checkpoint, "x", out); }),
                  "choose one of ema, model, optimizer");
  for (const std::string& name : disk().list(run)) EXPECT_EQ(name.find(".tmp"), std::string::npos);
}

TEST(Export, AFileOfWeightsLoadsStrictly) {
  const std::string run = fresh_folder();
  const Life life = Life::claim(disk(), run, {});
  const Checkpoint checkpoint = Checkpoint::open(disk(), save(disk(), run, 7, life));
  const std::string out = run + "/out.safetensors";
  export_to(checkpoint, "ema", out);
  std::vector<NamedTensor> into = state_at(0)[0].tensors;
  load_tensor_file_into(disk(), out, into);
  EXPECT_TRUE(at::equal(by_name(into).at("encoder.weight"), state_at(7)[1].tensors[0].tensor));
  std::erase_if(into, [](const NamedTensor& named) { return named.name == "encoder.weight"; });
  expect_contains(error_of(Code::kCheckpoint, [&] { load_tensor_file_into(disk(), out, into); }),
                  "also holds 'encoder.weight'");
}

}  // namespace
}  // namespace lf
