#include "device/kernel_driver.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace kvs {
namespace {

namespace fs = std::filesystem;

class KernelDriver : public testing::Test {
 protected:
  KernelDriver() {
    std::string pattern = (fs::temp_directory_path() / "kvserve_XXXXXX").string();
    sys_ = mkdtemp(pattern.data());
  }
  ~KernelDriver() override { fs::remove_all(sys_); }
  // An empty version: the module has no such file.
  void Load(const char* module, const char* version) {
    fs::create_directories(sys_ / "module" / module);
    if (*version != '\0') std::ofstream(sys_ / "module" / module / "version") << version << "\n";
  }

  fs::path sys_;
};

TEST_F(KernelDriver, IsTheModulesOwnVersion) {
  Load("nvidia", "580.65.06");
  Load("amdgpu", "6.8.5");
  EXPECT_EQ(KernelDriverVersion(DeviceKind::kCuda, sys_), "580.65.06");
  EXPECT_EQ(KernelDriverVersion(DeviceKind::kHip, sys_), "6.8.5");
  EXPECT_EQ(KernelDriverVersion(DeviceKind::kCpu, sys_), "");
}

TEST_F(KernelDriver, IsTheKernelsForAModuleWithoutOne) {
  Load("amdgpu", "");
  EXPECT_EQ(KernelDriverVersion(DeviceKind::kHip, sys_).substr(0, 6), "Linux ");
}

TEST_F(KernelDriver, IsEmptyWithoutAModule) {
  EXPECT_EQ(KernelDriverVersion(DeviceKind::kHip, sys_), "");
  EXPECT_EQ(KernelDriverVersion(DeviceKind::kCuda, sys_), "");
}

}  // namespace
}  // namespace kvs
