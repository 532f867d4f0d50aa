// FP8 weights (E4M3) of a checkpoint, and their scales as llm-compressor (compressed-tensors),
// ModelOpt and Qwen's exporters store them: real = stored * scale, with one scale for the matrix,
// for each row, or for each square of kFp8Square.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>

#include "kvserve/model_config.h"
#include "kvserve/status.h"
#include "model/json_file.h"

namespace kvs {

inline constexpr uint32_t kFp8Square = 128;

// What config.json, or hf_quant_config.json beside it, says of quantized weights: kDataError names
// the field of what is not FP8 as above. Nothing where there are none, or where inputs are not
// quantized by rows or as a whole. How each tensor is stored, the tensors themselves say.
Result<std::optional<Fp8Linear>> ReadWeightQuantization(const Json& config,
                                                        const std::filesystem::path& model_dir);

// How many rows and columns have one scale in common.
struct Fp8ScaleLayout {
  uint32_t rows;
  uint32_t cols;
};

// From the shape of the tensor that holds the scales of a [rows, cols] matrix; nothing when they
// are laid out otherwise.
std::optional<Fp8ScaleLayout> ScaleLayoutOf(std::span<const uint64_t> shape, uint32_t rows,
                                            uint32_t cols);

// codes [rows, cols] to float32 [rows, cols]. `scales` are those of `layout`, row by row.
void DequantizeFp8(std::span<const uint8_t> codes, uint32_t rows, uint32_t cols,
                   std::span<const float> scales, const Fp8ScaleLayout& layout, float* out);

}  // namespace kvs
