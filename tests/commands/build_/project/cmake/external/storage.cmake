# An archive of which nobody says what it must be: a program fetches it while ninja runs.
if((NOT DEFINED STORAGE_VER) OR (NOT DEFINED STORAGE_URL))
  set(STORAGE_VER "0.1" CACHE STRING "" FORCE)
  set(STORAGE_NAME "storage_api" CACHE STRING "" FORCE)
  set(STORAGE_URL "@STORE@/storage.tar.gz" CACHE STRING "" FORCE)
endif()
set(STORAGE_PREFIX_DIR "${THIRD_PARTY_PATH}/storage")
ExternalProject_Add(
  extern_storage
  PREFIX ${STORAGE_PREFIX_DIR}
  DOWNLOAD_DIR ${STORAGE_PREFIX_DIR}/src/extern_storage
  DOWNLOAD_COMMAND wget --no-check-certificate ${STORAGE_URL} -c -q -O ${STORAGE_NAME}.tar.gz && tar zxf
                   ${STORAGE_NAME}.tar.gz
  DOWNLOAD_NO_PROGRESS 1
  UPDATE_COMMAND ""
  CONFIGURE_COMMAND ""
  BUILD_COMMAND test -f storage.h
  BUILD_IN_SOURCE 1
  INSTALL_COMMAND "")
