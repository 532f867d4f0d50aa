#include "bench/dnnl_peer.h"

#include <algorithm>
#include <cstdlib>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>
#include <vector>

#include "bench/machine_peaks.h"

namespace kvs::bench {

double MeasureDnnlLinear(uint32_t rows, uint32_t in, uint32_t out, uint32_t num_threads) {
  setenv("OMP_NUM_THREADS", std::to_string(num_threads).c_str(), 1);
  using dnnl::memory;
  static dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  static dnnl::stream stream(engine);
  const auto bf16 = memory::data_type::bf16;
  const memory::desc x_desc({rows, in}, bf16, memory::format_tag::ab);
  const memory::desc any_weight({in, out}, bf16, memory::format_tag::any);
  const memory::desc out_desc({rows, out}, memory::data_type::f32, memory::format_tag::ab);
  const dnnl::matmul::desc desc(x_desc, any_weight, out_desc);
  const dnnl::matmul::primitive_desc primitive_desc(desc, engine);
  memory x(x_desc, engine);
  memory weight(primitive_desc.weights_desc(), engine);
  memory result(out_desc, engine);
  for (memory* m : {&x, &weight}) {
    auto* data = static_cast<uint16_t*>(m->get_data_handle());
    std::fill_n(data, m->get_desc().get_size() / 2, uint16_t{0x3f80});
  }
  const dnnl::matmul matmul(primitive_desc);
  std::vector<double> times;
  for (int i = 0; i < 6; ++i) {
    const double start = Now();
    matmul.execute(stream, {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, weight}, {DNNL_ARG_DST, result}});
    stream.wait();
    times.push_back(Now() - start);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace kvs::bench
