# SPDX-License-Identifier: MIT
# Shared libraries and everything that goes into a system. mount(8) looks for helpers in /sbin only,
# so a system-wide installation uses --prefix /usr.

file(WRITE ${CMAKE_BINARY_DIR}/no_source.c "typedef int kvfs_no_source;\n")

# libkvcore is the engine; libkvfs is the engine and the model, so a program links one of them.
set(kvcore_layers layer_base layer_os layer_format layer_space layer_cache layer_wal layer_table
	layer_engine)
function(kvfs_shared_library name)
	set(archives "")
	foreach(layer ${ARGN})
		list(APPEND archives $<TARGET_FILE:${layer}>)
	endforeach()
	add_library(${name} SHARED ${CMAKE_BINARY_DIR}/no_source.c)
	add_dependencies(${name} ${ARGN})
	set_target_properties(${name} PROPERTIES LINK_DEPENDS "${archives}")
	target_link_libraries(${name} PRIVATE -Wl,--whole-archive ${archives} -Wl,--no-whole-archive
		kvfs_flags PkgConfig::CRYPTO Snappy::snappy)
endfunction()
kvfs_shared_library(kvcore ${kvcore_layers})
kvfs_shared_library(kvfs_shared ${kvcore_layers} layer_model)
set_target_properties(kvfs_shared PROPERTIES OUTPUT_NAME kvfs)
set_target_properties(kvcore kvfs_shared PROPERTIES
	VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
install(TARGETS kvcore kvfs_shared LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})

install(DIRECTORY kvcore/include/kvcore DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES fusefs/model/kvfs.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/kvfs)
# Relative to the .pc file, so that it is right for any --prefix given to cmake --install.
file(RELATIVE_PATH KVFS_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
foreach(lib kvcore kvfs)
	configure_file(cmake/${lib}.pc.in ${CMAKE_BINARY_DIR}/${lib}.pc @ONLY)
	install(FILES ${CMAKE_BINARY_DIR}/${lib}.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()

foreach(section 5 8)
	file(GLOB pages CONFIGURE_DEPENDS docs/man/*.${section})
	install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endforeach()
install(FILES cmake/kvfs.bash-completion
	DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME kvfs)
foreach(program mkfs.kvfs fsck.kvfs mount.kvfs)
	install(CODE "file(CREATE_LINK kvfs
		\"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_DATADIR}/bash-completion/completions/${program}\"
		SYMBOLIC)")
endforeach()
# mount -t fuse.kvfs looks for this name first.
install(CODE "file(CREATE_LINK mount.kvfs
	\"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_SBINDIR}/mount.fuse.kvfs\" SYMBOLIC)")
