# An archive that CMake fetches while ninja runs, and unpacks where it came.
function(fetch_and_unpack URL NAME)
  cmake_parse_arguments(URL "" "MD5" "" ${ARGN})
  ExternalProject_Add(
    download_${NAME}
    PREFIX ${THIRD_PARTY_PATH}/${NAME}
    URL ${URL}
    URL_MD5 ${URL_MD5}
    DOWNLOAD_DIR ${THIRD_PARTY_PATH}/${NAME}/data/
    SOURCE_DIR ${THIRD_PARTY_PATH}/${NAME}/data/
    CONFIGURE_COMMAND ""
    BUILD_COMMAND ""
    INSTALL_COMMAND "")
endfunction()
set(URL "@STORE@/messages.tar.gz" CACHE STRING "" FORCE)
fetch_and_unpack(${URL} "messages" MD5 @TAR_MD5@)
