// Bad flags, variables and files: each gets its exit code and a sentence that names what was given
// and what is allowed.
#include <ostream>

#include "parse_support.h"

namespace kvs::test {
namespace {

using Words = std::vector<std::string>;

struct Case {
  const char* name;
  Words flags;
  Pairs variables;
  const char* yaml;  // null: no file
  Code code;
  Words fragments;  // all of these stand in the message
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

Case BadFlag(const char* name, Words flags, Words fragments, Code code = Code::kInvalidArgument) {
  return {name, std::move(flags), {}, nullptr, code, std::move(fragments)};
}
Case Variable(const char* name, const char* variable, const char* value, Words fragments) {
  return {name, {}, {{variable, value}}, nullptr, Code::kConfigError, std::move(fragments)};
}
Case Yaml(const char* name, const char* text, Words fragments, Code code = Code::kConfigError) {
  return {name, {}, {}, text, code, std::move(fragments)};
}

std::vector<Case> FlagCases() {
  return {
      BadFlag("UnknownFlag", {"--blok-size", "16"}, {"unknown flag --blok-size", "'--block-size'"}),
      BadFlag("UnknownUnderscoreFlag", {"--kv_cache_typ=x"},
              {"--kv_cache_typ", "--kv-cache-dtype"}),
      BadFlag("UnknownFlagNotClose", {"--tensor-parallel-size", "2"},
              {"unknown flag --tensor-parallel-size"}),
      BadFlag("UnknownSwitch", {"--no-enable-prefix-cache"}, {"--no-enable-prefix-caching"}),
      BadFlag("UnknownShortFlag", {"-p", "80"}, {"unknown flag -p"}),
      BadFlag("TwoModels", {"a", "b"}, {"unexpected argument 'b'"}),
      BadFlag("ModelTwice", {"a", "--model", "b"}, {"--model: given twice", "'a'", "'b'"}),
      BadFlag("NoValue", {"--port"}, {"--port: needs a value"}),
      BadFlag("EmptyValue", {"--port=", "--host", "h"}, {"--port: needs a value"}),
      BadFlag("EmptyText", {"--host", ""}, {"--host: expected a host name"}),
      BadFlag("Revision", {"--revision", "../x"},
              {"--revision: expected a branch, tag or commit", "'../x'"}),
      BadFlag("EmptyModel", {"--model", ""},
              {"--model: expected a model directory or org/name, got ''"}),
      BadFlag("PortWord", {"--port", "http"},
              {"--port: expected a whole number from 0 to 65535", "'http'"}),
      BadFlag("PortTooLarge", {"--port", "65536"}, {"--port", "65535", "'65536'"}),
      BadFlag("PortNegative", {"--port", "-1"}, {"--port", "'-1'"}),
      BadFlag("PortReal", {"--port", "80.5"}, {"--port", "'80.5'"}),
      BadFlag("FlagAsValue", {"--port", "--host"}, {"--port", "'--host'"}),
      BadFlag("KvDtype", {"--kv-cache-dtype", "int8"},
              {"--kv-cache-dtype: expected one of auto, bfloat16, float16, fp8, fp8_e4m3, fp8_e5m2",
               "'int8'"}),
      BadFlag("KvDtypeShort", {"--kv-cache-dtype", "bf16"}, {"bfloat16", "'bf16'"}),
      BadFlag("KvDtypeCase", {"--kv-cache-dtype", "FP8"}, {"'FP8'"}),
      BadFlag("Dtype", {"--dtype", "half"},
              {"--dtype: expected one of auto, bfloat16, float16, float32, got 'half'"}),
      BadFlag("LoadFormat", {"--load-format", "gguf"}, {"--load-format", "safetensors", "'gguf'"}),
      BadFlag("Device", {"--device", "tpu"},
              {"--device: expected one of auto, cpu, cuda, hip", "'tpu'"}),
      BadFlag("BlockSize", {"--block-size", "8"},
              {"--block-size: expected one of 16, 32, 64, got '8'"}),
      BadFlag("MaxModelLenZero", {"--max-model-len", "0"},
              {"--max-model-len: expected auto or", "'0'"}),
      BadFlag("MaxNumSeqsZero", {"--max-num-seqs", "0"},
              {"--max-num-seqs", "from 1 to 4096", "'0'"}),
      BadFlag("MaxNumSeqsLarge", {"--max-num-seqs", "5000"}, {"'5000'"}),
      BadFlag("BatchedTokens", {"--max-num-batched-tokens", "0"},
              {"--max-num-batched-tokens", "'0'"}),
      BadFlag("QueuedReqs", {"--max-num-queued-reqs", "none"}, {"--max-num-queued-reqs", "'none'"}),
      BadFlag("Policy", {"--scheduling-policy", "lifo"},
              {"--scheduling-policy: expected one of fcfs, priority, got 'lifo'"}),
      BadFlag("Bytes", {"--kv-cache-memory-bytes", "4GB"},
              {"--kv-cache-memory-bytes: expected a number of bytes", "512M", "'4GB'"}),
      BadFlag("BytesZero", {"--kv-cache-memory-bytes", "0"}, {"'0'"}),
      BadFlag("BytesOverflow", {"--kv-cache-memory-bytes", "99999999999T"}, {"'99999999999T'"}),
      BadFlag("TokensOverflow", {"--kv-cache-tokens", "99999999999"}, {"--kv-cache-tokens"}),
      BadFlag("Utilization", {"--gpu-memory-utilization", "1.5"},
              {"--gpu-memory-utilization: expected a number from 0.01 to 1", "'1.5'"}),
      BadFlag("UtilizationNan", {"--gpu-memory-utilization", "nan"}, {"'nan'"}),
      BadFlag("LogLevel", {"--log-level", "verbose"}, {"--log-level", "debug", "'verbose'"}),
      BadFlag("LogFormat", {"--log-format", "xml"}, {"--log-format", "json", "'xml'"}),
      BadFlag("Seed", {"--seed", "-1"}, {"--seed", "'-1'"}),
      BadFlag("Threads", {"--threads", "9999"}, {"--threads", "1024"}),
      BadFlag("InstructionSet", {"--cpu-instruction-set", "sse"},
              {"--cpu-instruction-set", "avx2"}),
      BadFlag("SendTimeout", {"--send-timeout", "0"}, {"--send-timeout", "'0'"}),
      BadFlag("ShutdownTimeout", {"--shutdown-timeout", "1s"}, {"--shutdown-timeout", "'1s'"}),
      BadFlag("BodyBytes", {"--max-body-bytes", "big"}, {"--max-body-bytes", "'big'"}),
      BadFlag("SwitchValue", {"--enable-prefix-caching=maybe"}, {"--enable-prefix-caching"}),
      BadFlag("ApiKeySpace", {"--api-key", "a b"}, {"--api-key", "visible ASCII", "not shown"}),
      BadFlag("EmptyServedName", {"--served-model-name", ""}, {"--served-model-name"}),
      BadFlag("CheckCacheNoUrl", {"check-cache"}, {"kvserve check-cache: expected a URL"}),
      BadFlag("CheckCacheBadUrl", {"check-cache", "localhost:8000"},
              {"--url: expected a URL such as http://127.0.0.1:8000, got 'localhost:8000'"}),
      BadFlag("CheckCacheShort", {"check-cache", "http://h", "--prompt-tokens", "3"}, {"from 32"}),
      BadFlag("BenchServeFlag", {"bench", "http://h", "--port", "1"}, {"unknown flag --port"}),
      BadFlag("BenchRate", {"bench", "http://h", "--request-rate", "-1"},
              {"--request-rate", "'-1'"}),
      BadFlag("BenchTwoUrls", {"bench", "http://h", "http://i"},
              {"unexpected argument 'http://i'"}),
      BadFlag("PlanMemory", {"plan", "--memory", "lots"}, {"--memory", "'lots'"}),
      BadFlag("ConfigAbsent", {"--config", "/nonexistent/kvserve.yaml"},
              {"/nonexistent/kvserve.yaml: cannot open the configuration file"},
              Code::kConfigError),
  };
}

std::vector<Case> VariableAndFileCases() {
  return {
      Variable("UnknownVariable", "KVSERVE_PROT", "1", {"KVSERVE_PROT", "'KVSERVE_PORT'"}),
      Variable("VariableValue", "KVSERVE_PORT", "x",
               {"KVSERVE_PORT: expected a whole number", "'x'"}),
      Variable("EmptyVariable", "KVSERVE_PORT", "", {"KVSERVE_PORT", "got ''"}),
      Variable("VariableSwitch", "KVSERVE_ENABLE_PREFIX_CACHING", "yes",
               {"KVSERVE_ENABLE_PREFIX_CACHING: expected true or false, got 'yes'"}),
      Variable("VariableKeys", "KVSERVE_API_KEY", "a,,b", {"KVSERVE_API_KEY", "not shown"}),
      Variable("VariableConfig", "KVSERVE_CONFIG", "/nonexistent", {"/nonexistent"}),
      Variable("LowerCaseVariable", "KVSERVE_port", "1", {"KVSERVE_port: unknown variable"}),
      Yaml("UnknownKey", "kv_cache_dtyp: fp8\n",
           {":1: kv_cache_dtyp: unknown key", "'kv_cache_dtype'"}),
      Yaml("NestedMap", "cache:\n  port: 1\n", {":1: cache: unknown key"}),
      Yaml("MapValue", "port:\n  a: 1\n", {":1: port: expected a value, got a map"}),
      Yaml("ListValue", "\nport: [1, 2]\n", {":2: port: expected one value, got a list"}),
      Yaml("NestedList", "api_key: [[a]]\n", {"api_key: expected a list of plain values"}),
      Yaml("EmptyList", "api_key: []\n", {"api_key: expected at least one value"}),
      Yaml("NullValue", "port:\n", {":1: port: has no value"}),
      Yaml("WrongType", "# c\nport: true\n", {":2: port: expected a whole number", "'true'"}),
      Yaml("WrongBool", "enable_prefix_caching: 2\n", {"expected true or false, got '2'"}),
      Yaml("NegatedKey", "no_enable_prefix_caching: true\n", {"'enable_prefix_caching'"}),
      Yaml("Twice", "block_size: 16\nblock-size: 32\n", {":2: block-size: given twice"}),
      Yaml("TopList", "- port\n", {"expected lines of 'name: value'"}),
      Yaml("TopText", "port\n", {"expected lines of 'name: value'"}),
      Yaml("Syntax", "port: [1\n", {"not YAML"}),
      Yaml("Tab", "\tport: 1\n", {"not YAML"}),
      Yaml("TwoDocuments", "port: 1\n---\nport: 2\n", {"one YAML document"}),
      Yaml("KeyIsAList", "? [a, b]\n: 1\n", {":1: expected a key"}),
      Yaml("ConfigInConfig", "config: other.yaml\n", {"cannot name another"}),
  };
}

std::vector<Case> ResolveCases() {
  return {
      BadFlag("TwoPoolSizes", {"--kv-cache-tokens", "1024", "--kv-cache-memory-bytes", "1G"},
              {"at most one of --kv-cache-memory-bytes, --kv-cache-tokens"}),
      BadFlag("ThreePoolSizes",
              {"--kv-cache-tokens", "1", "--kv-cache-memory-bytes", "1",
               "--num-gpu-blocks-override", "1"},
              {"--num-gpu-blocks-override"}),
      BadFlag("PoolTooSmall", {"--kv-cache-memory-bytes", "1K"},
              {"--kv-cache-memory-bytes: 1024 bytes hold no block", "16 tokens takes 65536 bytes"}),
      BadFlag("PoolTooLarge", {"--kv-cache-tokens", "4000000000"},
              {"--kv-cache-tokens: 4000000000 tokens need 16384000000000 bytes", "are available"}),
      BadFlag("PoolTooManyBlocks", {"--num-gpu-blocks-override", "4294967295"},
              {"--num-gpu-blocks-override: 4294967295 blocks", "at most"}),
      BadFlag("PoolBytesTooLarge", {"--kv-cache-memory-bytes", "8T"},
              {"--kv-cache-memory-bytes: 8796093022208 bytes", "are available; ask for less"}),
      BadFlag("LengthBeyondModel", {"--max-model-len", "8193"},
              {"--max-model-len: got 8193, but the model has 8192 positions"}),
      BadFlag(
          "LengthBeyondPool", {"--max-model-len", "4096", "--kv-cache-tokens", "1024"},
          {"--max-model-len: got 4096, but the KV pool holds 1024 tokens", "--kv-cache-tokens"}),
      BadFlag("LengthBeyondPoolBytes", {"--max-model-len", "512", "--kv-cache-memory-bytes", "1M"},
              {"got 512", "256 tokens", "--kv-cache-memory-bytes: 1048576 bytes"}),
      BadFlag("ScalesWithoutFp8", {"--calculate-kv-scales"},
              {"--calculate-kv-scales: needs an FP8 cache, got --kv-cache-dtype bfloat16"}),
      BadFlag("RequiredScalesWithoutFp8", {"--require-kv-scales"},
              {"--require-kv-scales: needs an FP8 cache, got --kv-cache-dtype bfloat16"}),
      BadFlag("ScaleFileWithoutFp8", {"--quantization-param-path", "scales.json"},
              {"--quantization-param-path: needs an FP8 cache, got --kv-cache-dtype bfloat16"}),
      BadFlag("SkipLayersWithoutFp8", {"--kv-cache-dtype-skip-layers", "0"},
              {"--kv-cache-dtype-skip-layers: needs an FP8 cache"}),
      BadFlag("SkipLayerThatIsNotThere",
              {"--kv-cache-dtype", "fp8", "--kv-cache-dtype-skip-layers", "0", "8"},
              {"--kv-cache-dtype-skip-layers: expected a whole number from 0 to 7, got '8'"}),
      BadFlag("SkipEveryLayer",
              {"--kv-cache-dtype", "fp8", "--kv-cache-dtype-skip-layers", "0", "1", "2", "3", "4",
               "5", "6", "7"},
              {"all 8 layers are kept in BF16; ask for --kv-cache-dtype bfloat16"}),
      BadFlag(
          "TwoSourcesOfScales",
          {"--kv-cache-dtype", "fp8", "--calculate-kv-scales", "--quantization-param-path", "s"},
          {"--calculate-kv-scales: scales come from random tokens or from"}),
      BadFlag("RequestScalesWithoutFp8", {"--calibrate-on-requests", "8"},
              {"--calibrate-on-requests: needs an FP8 cache, got --kv-cache-dtype bfloat16"}),
      BadFlag("RequestScalesAndRandomOnes",
              {"--kv-cache-dtype", "fp8", "--calibrate-on-requests", "8", "--calculate-kv-scales"},
              {"--calibrate-on-requests: scales come from requests, from random tokens"}),
      BadFlag("ScalesDirectoryWithoutRequests",
              {"--kv-cache-dtype", "fp8", "--kv-scales-output-dir", "d"},
              {"--kv-scales-output-dir: needs --calibrate-on-requests; `kvserve calibrate`"}),
      BadFlag("ScalesDirectoryOfE5M2",
              {"--kv-cache-dtype", "fp8_e5m2", "--calibrate-on-requests", "8",
               "--kv-scales-output-dir", "d"},
              {"checkpoints hold scales of fp8_e4m3, got --kv-cache-dtype fp8_e5m2"}),
      BadFlag("StrategyOfScalesThatAreRead",
              {"--kv-cache-dtype", "fp8", "--kv-scales-strategy", "attn_head"},
              {"--kv-scales-strategy: needs --calibrate-on-requests or --calculate-kv-scales"}),
      BadFlag("LengthBeyondThePoolWhileItIsBf16",
              {"--kv-cache-dtype", "fp8", "--calibrate-on-requests", "8", "--kv-cache-tokens",
               "1024", "--max-model-len", "600"},
              {"--max-model-len: got 600, but the KV pool holds 512 tokens while it is BF16"}),
      BadFlag("NoBlockOfBf16",
              {"--kv-cache-dtype", "fp8", "--calibrate-on-requests", "8",
               "--num-gpu-blocks-override", "1"},
              {"--num-gpu-blocks-override: 1 blocks hold no block of BF16"}),
      BadFlag("CertificateAlone", {"--ssl-certfile", "c.pem"}, {"--ssl-certfile", "--ssl-keyfile"}),
      BadFlag("KeyAlone", {"--ssl-keyfile", "k.pem"},
              {"--ssl-keyfile: got 'k.pem' without --ssl-certfile"}),
      BadFlag("CertificateAbsent",
              {"--ssl-certfile", "/nonexistent/c", "--ssl-keyfile", "/nonexistent/k"},
              {"--ssl-certfile: cannot open '/nonexistent/c': No such file"}, Code::kConfigError),
      BadFlag("KeyFileAbsent", {"--api-key-file", "/nonexistent/keys"},
              {"--api-key-file: cannot open '/nonexistent/keys': No such file"},
              Code::kConfigError),
      BadFlag("KeyFileIsDir", {"--api-key-file", "/tmp"}, {"--api-key-file: expected a file"},
              Code::kConfigError),
  };
}

class BadInput : public testing::TestWithParam<Case> {};

TEST_P(BadInput, GetsItsSentence) {
  const Case& c = GetParam();
  const TempDir dir;
  const Variables variables(c.variables);
  Words words = c.flags;
  if (c.yaml != nullptr) {
    words.push_back("--config");
    words.push_back(dir.Write("c.yaml", c.yaml));
  }
  const auto command = Parse(words);
  Status status(Code::kInternal, "");
  if (!command) {
    status = command.error();
  } else {
    ASSERT_TRUE(std::holds_alternative<ServeCommand>(*command)) << "nothing was refused";
    const auto resolved =
        ResolveOptions(std::get<ServeCommand>(*command).options, "/model", SmallModel());
    ASSERT_FALSE(resolved) << "nothing was refused";
    status = resolved.error();
  }
  EXPECT_EQ(status.code(), c.code) << status.message();
  for (const std::string& fragment : c.fragments) {
    EXPECT_NE(status.message().find(fragment), std::string::npos)
        << "'" << fragment << "' is not in: " << status.message();
  }
}

const auto kName = [](const testing::TestParamInfo<Case>& info) { return info.param.name; };
INSTANTIATE_TEST_SUITE_P(Flags, BadInput, testing::ValuesIn(FlagCases()), kName);
INSTANTIATE_TEST_SUITE_P(Sources, BadInput, testing::ValuesIn(VariableAndFileCases()), kName);
INSTANTIATE_TEST_SUITE_P(Resolve, BadInput, testing::ValuesIn(ResolveCases()), kName);

}  // namespace
}  // namespace kvs::test
