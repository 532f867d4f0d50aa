# Tests that are programs of their own.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
