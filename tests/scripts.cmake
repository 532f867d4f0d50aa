# Tests that are programs of their own.
find_package(Python3 REQUIRED COMPONENTS Interpreter)

add_test(NAME scripts.tidy COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/scripts/tidy.py)
add_test(NAME scripts.tidy_test
         COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/scripts/tidy_test.py)
add_test(NAME scripts.man_page
         COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/scripts/man_page_test.py
                 $<TARGET_FILE:kvserve> ${PROJECT_SOURCE_DIR}/docs/kvserve.1)
add_test(NAME scripts.install
         COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/scripts/install_test.sh
                 ${PROJECT_BINARY_DIR} ${PROJECT_BINARY_DIR}/install_test)
set_tests_properties(scripts.tidy scripts.tidy_test scripts.man_page scripts.install
                     PROPERTIES TIMEOUT 120)

# End-to-end tests: the daemon on loopback and the openai package. scripts/test.sh makes the virtual
# environment; without it these tests fail.
set(KVS_E2E_PYTHON "${PROJECT_SOURCE_DIR}/build/venv/bin/python" CACHE FILEPATH
    "Python with the packages of tests/e2e/requirements.txt")

# A sanitizer's daemon is many times slower: less work, and no test of speed.
set(kvs_e2e_environment "KVSERVE_BIN=$<TARGET_FILE:kvserve>;PYTHONDONTWRITEBYTECODE=1")
set(kvs_e2e_timeout 900)
if(KVS_SANITIZE)
  list(APPEND kvs_e2e_environment KVSERVE_E2E_SLOW=1)
  set(kvs_e2e_timeout 3600)
endif()
function(kvs_e2e_test name)
  add_test(NAME e2e.${name} COMMAND ${KVS_E2E_PYTHON} ${ARGN}
           WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}/tests/e2e)
  set_tests_properties(e2e.${name} PROPERTIES TIMEOUT ${kvs_e2e_timeout} RUN_SERIAL TRUE LABELS e2e
                       ENVIRONMENT "${kvs_e2e_environment}")
endfunction()

foreach(group IN ITEMS reuse matrix pressure streams api access process hub chat doctor quality calibrate)
  kvs_e2e_test(${group} -m pytest -q -p no:cacheprovider test_${group}.py)
endforeach()
kvs_e2e_test(soak soak.py --minutes 1)

# Parity does not depend on the sanitizers, and the other side would have no part in them.
if(NOT KVS_SANITIZE)
  add_test(NAME e2e.tokenizer_parity
           COMMAND ${KVS_E2E_PYTHON} ${CMAKE_CURRENT_SOURCE_DIR}/parity/tokenizer_parity.py
                   --probe $<TARGET_FILE:tokenizer_probe> --vocab 8000)
  set_tests_properties(e2e.tokenizer_parity PROPERTIES TIMEOUT 900 RUN_SERIAL TRUE LABELS e2e)
endif()
