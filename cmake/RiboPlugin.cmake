# ribo_add_plugin(NAME SOURCES a.cpp ... [LIBRARIES ...]): one plugin, a shared module NAME.so.
# Inside the project it lands beside the built-in plugins; elsewhere in the current binary folder.
function(ribo_add_plugin name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES" ${ARGN})
  add_library(${name} MODULE ${arg_SOURCES})
  set_target_properties(${name} PROPERTIES PREFIX "")
  target_link_libraries(${name} PRIVATE Ribo::ribo ${arg_LIBRARIES})
  if(TARGET ribo_pch)
    ribo_share_pch(${name})
    set_target_properties(${name} PROPERTIES
      LIBRARY_OUTPUT_DIRECTORY ${RIBO_PLUGIN_OUTPUT_DIRECTORY}
      INSTALL_RPATH "$ORIGIN/../..;${CMAKE_INSTALL_RPATH}")
    install(TARGETS ${name} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/ribo/plugins)
    set_property(GLOBAL APPEND PROPERTY RIBO_PLUGINS ${name})
  endif()
endfunction()
