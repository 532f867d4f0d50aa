// What the tests of this folder share: argv from words, variables that go away again, files, and a
// small model.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "config/config.h"
#include "support/temp_dir.h"

namespace kvs::test {

inline Result<Command> Parse(const std::vector<std::string>& words) {
  std::vector<const char*> argv = {"kvserve"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  return ParseCommand(static_cast<int>(argv.size()), argv.data());
}

inline ServerOptions ParseServe(const std::vector<std::string>& words) {
  const auto command = Parse(words);
  EXPECT_TRUE(command.has_value()) << (command ? "" : command.error().message());
  return command ? std::get<ServeCommand>(*command).options : ServerOptions{};
}

using Pairs = std::vector<std::pair<std::string, std::string>>;

// Sets variables for one scope.
class Variables {
 public:
  explicit Variables(Pairs variables) : variables_(std::move(variables)) {
    for (const auto& [name, value] : variables_) setenv(name.c_str(), value.c_str(), 1);
  }
  Variables(const Variables&) = delete;
  Variables& operator=(const Variables&) = delete;
  ~Variables() {
    for (const auto& [name, value] : variables_) unsetenv(name.c_str());
  }

 private:
  const Pairs variables_;
};

// The shape of the bundled model: 4096 bytes a token in BF16.
inline ModelConfig SmallModel() {
  ModelConfig config;
  config.architecture = "LlamaForCausalLM";
  config.vocab_size = 4096;
  config.hidden_size = 384;
  config.intermediate_size = 1024;
  config.num_layers = 8;
  config.num_heads = 6;
  config.num_kv_heads = 2;
  config.head_dim = 64;
  config.max_position_embeddings = 8192;
  config.checkpoint_dtype = DType::kBf16;
  return config;
}

inline Result<ResolvedOptions> Resolve(const std::vector<std::string>& words,
                                       const ModelConfig& config = SmallModel()) {
  return ResolveOptions(ParseServe(words), "/model", config);
}

}  // namespace kvs::test
