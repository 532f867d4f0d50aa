# The HIP side of the GPU plugin. CMake's own HIP language wants ROCm's CMake packages where Debian
# has none, so that kernels are compiled by custom commands with hipcc or a Clang that knows HIP.
#   KVS_HIP_COMPILER       hipcc, or clang++ 17 and newer
#   KVS_HIP_ARCHITECTURES  of devices
#   KVS_HIP_DEVICE_LIBS    folder of ROCm's device bitcode, where the compiler finds none that knows
#                          all architectures (scripts/hip_device_libs.sh makes one)
# scripts/build_hip.sh sets them for what the distribution has.
set(ROCM_PATH "$ENV{ROCM_PATH}" CACHE PATH "Where ROCm is installed; empty = the system's folders")
if(NOT ROCM_PATH AND EXISTS /opt/rocm)
  set(ROCM_PATH /opt/rocm CACHE PATH "" FORCE)
endif()
set(KVS_HIP_ARCHITECTURES "gfx90a;gfx1100" CACHE STRING "AMD devices to compile for")
set(KVS_HIP_DEVICE_LIBS "" CACHE PATH "Folder of device bitcode; empty = the compiler's own")
find_program(KVS_HIP_COMPILER NAMES hipcc clang++-19 HINTS ${ROCM_PATH}/bin
             DOC "hipcc or a Clang that knows HIP")
find_library(KVS_HIP_RUNTIME amdhip64 HINTS ${ROCM_PATH}/lib)
find_path(KVS_HIP_INCLUDE hip/hip_runtime.h HINTS ${ROCM_PATH}/include)
if(NOT KVS_HIP_COMPILER OR NOT KVS_HIP_RUNTIME OR NOT KVS_HIP_INCLUDE)
  message(FATAL_ERROR "KVS_HIP: hipcc, libamdhip64 or hip/hip_runtime.h was not found; install ROCm "
                      "5.2 or newer, or on Debian run scripts/build_hip.sh, which installs the "
                      "distribution's packages")
endif()

add_library(kvs_hip_runtime INTERFACE)
target_compile_definitions(kvs_hip_runtime INTERFACE KVS_HIP __HIP_PLATFORM_AMD__)
target_include_directories(kvs_hip_runtime SYSTEM INTERFACE ${KVS_HIP_INCLUDE})
target_link_libraries(kvs_hip_runtime INTERFACE ${KVS_HIP_RUNTIME})

set(kvs_hip_flags -x hip -std=c++20 -O3 -fPIC -Wall -Wextra -Wno-unused-command-line-argument
                  -Wno-pass-failed  # a loop of unknown length that is asked to be unrolled
                  -DKVS_HIP -I${PROJECT_SOURCE_DIR}/kernels -I${PROJECT_SOURCE_DIR}/include
                  -I${PROJECT_SOURCE_DIR}/tests)
foreach(architecture IN LISTS KVS_HIP_ARCHITECTURES)
  list(APPEND kvs_hip_flags --offload-arch=${architecture})
endforeach()
if(KVS_HIP_DEVICE_LIBS)
  list(APPEND kvs_hip_flags --rocm-device-lib-path=${KVS_HIP_DEVICE_LIBS})
endif()
if(NOT KVS_HIP_COMPILER MATCHES "hipcc")
  list(APPEND kvs_hip_flags --rocm-path=$<IF:$<BOOL:${ROCM_PATH}>,${ROCM_PATH},/usr>)
endif()

# Sets `objects` to what the *.cu files of the current folder are compiled to.
function(kvs_hip_objects objects)
  set(outputs)
  foreach(source IN LISTS ARGN)
    file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR} ${source})
    set(output ${PROJECT_BINARY_DIR}/hip/${name}.o)
    get_filename_component(folder ${output} DIRECTORY)
    file(MAKE_DIRECTORY ${folder})
    add_custom_command(
      OUTPUT ${output}
      COMMAND ${CMAKE_COMMAND} -E env HIP_PLATFORM=amd ${CMAKE_CXX_COMPILER_LAUNCHER}
              ${KVS_HIP_COMPILER} ${kvs_hip_flags} -MD -MF ${output}.d -MT ${output}
              -c ${source} -o ${output}
      DEPENDS ${source}
      DEPFILE ${output}.d
      COMMENT "Building HIP object ${name}.o"
      VERBATIM COMMAND_EXPAND_LISTS)
    list(APPEND outputs ${output})
  endforeach()
  set_source_files_properties(${outputs} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
  set(${objects} ${outputs} PARENT_SCOPE)
endfunction()
