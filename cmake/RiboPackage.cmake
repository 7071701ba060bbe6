# What find_package(Ribo CONFIG) reads in an installed Ribo.
include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/Ribo)
configure_package_config_file(cmake/RiboConfig.cmake.in RiboConfig.cmake
  INSTALL_DESTINATION ${package} NO_SET_AND_CHECK_MACRO)
# Until 1.0 a minor version may change what programs rely on.
write_basic_package_version_file(RiboConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(EXPORT Ribo NAMESPACE Ribo:: FILE RiboTargets.cmake DESTINATION ${package})
install(FILES ${PROJECT_BINARY_DIR}/RiboConfig.cmake ${PROJECT_BINARY_DIR}/RiboConfigVersion.cmake
              cmake/LibTorch.cmake cmake/RiboPlugin.cmake
        DESTINATION ${package})
