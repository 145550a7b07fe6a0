# An archive whose file's name is a variable of another name, and whose address stands in no such variable.
set(ALLOCATOR_DOWNLOAD_DIR ${PADDLE_SOURCE_DIR}/third_party/allocator/${CMAKE_SYSTEM_NAME})
set(ALLOCATOR_URL @STORE@/allocator-5.tar.bz2)
set(ALLOCATOR_CACHE_FILENAME "allocator-kept.tar.bz2")
set(ALLOCATOR_URL_MD5 @MD5@)
function(download_allocator)
  file(
    DOWNLOAD ${ALLOCATOR_URL} ${ALLOCATOR_DOWNLOAD_DIR}/${ALLOCATOR_CACHE_FILENAME}
    EXPECTED_MD5 ${ALLOCATOR_URL_MD5}
    STATUS ERR)
  if(NOT ERR EQUAL 0)
    message(FATAL_ERROR "Download failed, error: ${ERR}\n You can try downloading ${ALLOCATOR_CACHE_FILENAME} again")
  endif()
endfunction()
if(EXISTS ${ALLOCATOR_DOWNLOAD_DIR}/${ALLOCATOR_CACHE_FILENAME})
  file(MD5 ${ALLOCATOR_DOWNLOAD_DIR}/${ALLOCATOR_CACHE_FILENAME} ALLOCATOR_MD5)
  if(NOT ALLOCATOR_MD5 STREQUAL ALLOCATOR_URL_MD5)
    download_allocator()
  endif()
else()
  download_allocator()
endif()
