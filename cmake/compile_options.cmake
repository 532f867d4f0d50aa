# Flags that hold for every target of the project.
add_library(kvs_options INTERFACE)
target_compile_options(kvs_options INTERFACE -Wall -Wextra -Wnon-virtual-dtor
                                             -Wimplicit-fallthrough)
if(NOT KVS_JOINED_SOURCES)  # joined, a local name may be one of another source
  target_compile_options(kvs_options INTERFACE -Wshadow)
endif()
target_include_directories(kvs_options INTERFACE ${PROJECT_SOURCE_DIR}/include)
target_link_libraries(kvs_options INTERFACE tl::expected Threads::Threads)

if(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_options(kvs_options INTERFACE -fstack-protector-strong)
  target_compile_definitions(kvs_options INTERFACE _FORTIFY_SOURCE=2)
  target_link_options(kvs_options INTERFACE -Wl,-z,relro,-z,now)
endif()
if(KVS_SANITIZE)
  target_compile_options(kvs_options INTERFACE -fsanitize=${KVS_SANITIZE} -fno-omit-frame-pointer
                                               -fno-sanitize-recover=all)
  target_link_options(kvs_options INTERFACE -fsanitize=${KVS_SANITIZE})
endif()
if(KVS_FUZZ)  # coverage for the fuzzers' main, which tests/fuzz/coverage links
  target_compile_options(kvs_options INTERFACE -fsanitize=fuzzer-no-link)
endif()

# Under KVS_JOINED_SOURCES, of the libraries' templates most is compiled once a group of sources
# instead of once a source.
function(kvs_join_sources target)
  if(NOT KVS_JOINED_SOURCES)
    return()
  endif()
  set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # It takes an included source for a header, where types with members of unnamed namespaces err.
    target_compile_options(${target} PRIVATE -Wno-subobject-linkage)
  endif()
endfunction()
