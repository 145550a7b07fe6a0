include(ExternalProject)
if(CMAKE_VERSION VERSION_GREATER_EQUAL "3.24.0")
  cmake_policy(SET CMP0135 NEW)
endif()
set(THIRD_PARTY_PATH "${CMAKE_BINARY_DIR}/third_party" CACHE STRING "")
message(STATUS "Check submodules of paddle, and run 'git submodule update --init --recursive'")
execute_process(
  COMMAND git submodule status
  WORKING_DIRECTORY ${PADDLE_SOURCE_DIR}
  OUTPUT_VARIABLE listed)
string(REGEX MATCHALL "third_party/[^ )\n]+" listed "${listed}")
foreach(submodule IN LISTS listed)
  if(NOT submodule STREQUAL "third_party/openvino")
    execute_process(
      COMMAND git submodule update --init --recursive ${submodule}
      WORKING_DIRECTORY ${PADDLE_SOURCE_DIR}
      RESULT_VARIABLE result_var)
    if(NOT result_var EQUAL 0)
      message(FATAL_ERROR "Failed to get submodule, please check your network !")
    endif()
  endif()
endforeach()
execute_process(
  COMMAND ${PYTHON_EXECUTABLE} -c "import sys; print('%d.%d' % sys.version_info[:2], end='')"
  OUTPUT_VARIABLE python_found)
if(NOT python_found STREQUAL PY_VERSION)
  message(FATAL_ERROR "Could NOT find PythonLibs: Found unsuitable version \"${python_found}\", but required is exact version \"${PY_VERSION}\"")
endif()
find_package(PythonLibs ${PY_VERSION} REQUIRED)
foreach(module pip numpy google.protobuf)
  execute_process(
    COMMAND ${PYTHON_EXECUTABLE} -c "import ${module}"
    RESULT_VARIABLE result_var ERROR_QUIET)
  if(NOT result_var EQUAL 0)
    message(FATAL_ERROR "python module ${module} is not found")
  endif()
endforeach()
include(cmake/external/greet.cmake)
include(cmake/external/tiny.cmake)
include(cmake/external/lapack.cmake)
if(WITH_PSCORE)
  include(cmake/external/allocator.cmake)
  include(cmake/external/tables.cmake)
  include(cmake/external/storage.cmake)
  include(cmake/external/messages.cmake)
endif()
