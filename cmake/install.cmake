# bin/kvserve finds its model in ../share/kvserve/models/default.
install(TARGETS kvserve RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY models/default DESTINATION ${CMAKE_INSTALL_DATADIR}/kvserve/models
        PATTERN "data" EXCLUDE
        PATTERN "evaluation.json" EXCLUDE
        PATTERN "golden.json" EXCLUDE)
install(DIRECTORY configs DESTINATION ${CMAKE_INSTALL_DATADIR}/kvserve)
install(FILES deploy/kvserve.service DESTINATION ${CMAKE_INSTALL_DATADIR}/kvserve/deploy)
install(FILES docs/kvserve.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES README.md docs/ARCHITECTURE.md docs/GLOSSARY.md docs/doctor.md docs/amd.md
        DESTINATION ${CMAKE_INSTALL_DOCDIR})
