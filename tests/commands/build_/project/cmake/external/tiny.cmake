# A third-party project, which is configured and built by itself: it inherits no variable.
include(ExternalProject)
ExternalProject_Add(
  extern_tiny
  SOURCE_DIR ${PADDLE_SOURCE_DIR}/cmake/tiny
  PREFIX ${CMAKE_BINARY_DIR}/third_party/tiny
  INSTALL_COMMAND ""
  EXCLUDE_FROM_ALL TRUE)
