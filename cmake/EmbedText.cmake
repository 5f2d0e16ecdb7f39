# A C++ header with text files as constants, made at build time:
#   cmake -DOUTPUT=H -DNAMESPACE=N "-DFILES=kPage=page.html|kScript=a.js+b.js" -P EmbedText.cmake
# Files joined by + follow each other in one constant.
set(text "// Made by cmake/EmbedText.cmake.\n#pragma once\n\n#include <string_view>\n\nnamespace ${NAMESPACE} {\n")
string(REPLACE "|" ";" entries "${FILES}")
foreach(entry IN LISTS entries)
  string(REGEX MATCH "^([A-Za-z]+)=(.*)$" matched "${entry}")
  set(name "${CMAKE_MATCH_1}")
  string(REPLACE "+" ";" paths "${CMAKE_MATCH_2}")
  string(APPEND text "inline constexpr std::string_view ${name} =")
  foreach(path IN LISTS paths)
    file(READ "${path}" content)
    string(APPEND text "\n    R\"embedded(${content})embedded\"")
  endforeach()
  string(APPEND text ";\n")
endforeach()
string(APPEND text "}  // namespace ${NAMESPACE}\n")
file(WRITE "${OUTPUT}" "${text}")
