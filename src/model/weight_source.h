// Where a network's weights come from: a checkpoint's files, or a random generator.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kvserve/backend.h"
#include "kvserve/status.h"

namespace kvs {

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // The named weights, [rows, cols] or (as rows = 1) [size], aligned to their element size. Valid
  // until Release. kDataError names the tensor that is missing or of another shape or dtype.
  virtual Result<HostMatrix> Matrix(const std::string& name, uint32_t rows, uint32_t cols) = 0;
  // Why Fp8Matrix cannot hand this one out: "it is stored otherwise". Empty where it can.
  virtual std::string WhyNotFp8(const std::string& /*name*/, uint32_t /*rows*/,
                                uint32_t /*cols*/) const {
    return "it is stored otherwise";
  }
  // The same as kF8E4M3, with its scales. REQUIRES: WhyNotFp8 is empty.
  virtual Result<HostMatrix> Fp8Matrix(const std::string& name, uint32_t rows, uint32_t cols) = 0;
  // Matrices that are stored as FP8 and were handed out by Matrix, as float32.
  virtual uint32_t num_dequantized() const { return 0; }
  // A norm's weights, or a bias.
  virtual Result<HostMatrix> Vector(const std::string& name, uint32_t size) = 0;

  // Tells once, before the first Matrix or Vector, what will be asked for, in this order.
  virtual void ReadAhead(std::span<const std::string> names) { static_cast<void>(names); }

  // Frees what Matrix and Vector have handed out.
  virtual void Release() = 0;

  // After the last tensor: kDataError when the source holds a tensor that was never asked for and
  // may not be left unused (the network would silently lack it), kOsError when a file changed while
  // it was read.
  virtual Result<void> Finish(bool (*may_be_unused)(std::string_view name)) = 0;
};

}  // namespace kvs
