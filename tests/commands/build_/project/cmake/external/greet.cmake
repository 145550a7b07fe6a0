# As Paddle does with several of its submodules: whatever is pinned, a tag is checked out by its name.
set(GREET_TAG v1.0)
set(GREET_SOURCE_DIR ${PADDLE_SOURCE_DIR}/third_party/greet)
execute_process(
  COMMAND git checkout -q ${GREET_TAG}
  WORKING_DIRECTORY ${GREET_SOURCE_DIR}
  RESULT_VARIABLE result_var)
if(NOT result_var EQUAL 0)
  message(FATAL_ERROR "greet has no ${GREET_TAG}")
endif()
